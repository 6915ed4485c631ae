//! The table of nodes, as a state machine: events go in with their time, members and contacts come out. No clock, no
//! network.

mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{DiscoveredNode, lease};
use crate::peer::{Contact, Heartbeat, HeartbeatAck, SenderStatus};
use crate::ring::{Member, MemberState};
pub(super) use node::Reception;
use node::{Handshake, Listing, NodeInfo};

/// The most nodes that are remembered, whoever names them: a bound far beyond the size of any cache.
const MAX_CONTACTS: usize = 4096;

/// The known nodes, and their states. Times count from the start of this node.
#[derive(Debug)]
pub(super) struct Table {
    me: Contact,
    /// It is beside the ring and not in it: no node lists it, tells it of invalidations, or names it to others.
    sidecar: bool,
    incarnation: u64,
    zone: Option<String>,
    phase: MemberState,
    nodes: BTreeMap<String, NodeInfo>,
    discovered: bool,
    changed: bool,
}

impl Table {
    pub(super) fn new(me: Contact, zone: Option<String>, incarnation: u64) -> Self {
        Self {
            me,
            sidecar: false,
            incarnation,
            zone,
            phase: MemberState::Joining,
            nodes: BTreeMap::new(),
            discovered: false,
            changed: true,
        }
    }

    /// The same for a sidecar.
    pub(super) fn beside(me: Contact, incarnation: u64) -> Self {
        Self {
            sidecar: true,
            ..Self::new(me, None, incarnation)
        }
    }

    /// The whole set, as discovery has it now. If a name stands in it twice, its last line counts, but a line that
    /// terminates gives way to one that does not.
    pub(super) fn apply_discovery(&mut self, found: Vec<DiscoveredNode>, now: Duration) {
        let first = !std::mem::replace(&mut self.discovered, true);
        self.changed = true;
        let mut newest: BTreeMap<String, DiscoveredNode> = BTreeMap::new();
        for line in found {
            let outdated = |kept: &DiscoveredNode| line.terminating && !kept.terminating;
            if !newest.get(&line.name).is_some_and(outdated) {
                newest.insert(line.name.clone(), line);
            }
        }
        if let Some(me) = newest.remove(&self.me.name) {
            self.zone = self.zone.take().or(me.zone);
        }
        for (name, node) in &mut self.nodes {
            if !newest.contains_key(name) {
                node.listing = None;
                node.joined = false;
            }
        }
        for found in newest.into_values() {
            self.list(found, now, first);
        }
    }

    fn list(&mut self, found: DiscoveredNode, now: Duration, first: bool) {
        let Some(node) = self.node(&found.name, &found.url, now, true) else {
            return;
        };
        let before = node.listing.replace(Listing {
            url: found.url.clone(),
            serving: found.serving,
            terminating: found.terminating,
        });
        // An old address that discovery merely repeats does not override what a new incarnation said about itself.
        let moved = before.as_ref().is_none_or(|old| old.url != found.url) && node.url != found.url;
        let revived = before.as_ref().is_some_and(|old| old.terminating) && !found.terminating;
        let found_now = before.is_none();
        let outlived = moved.then(|| node.outlived(&found.name, now)).flatten();
        if !first && found_now || moved && node.is_over() {
            node.comes_up(now);
        }
        if moved || revived {
            node.start_over();
        }
        if moved {
            node.url = found.url;
        }
        node.joined |= found.serving;
        node.zone = found.zone;
        self.go_on_telling(outlived, now);
    }

    /// A node sent a heartbeat to this one. A sidecar is answered and not recorded: it believes nothing that an
    /// invalidation would have to reach. Nor is a second process with a name while the first one is alive. If both give
    /// one address, the next answer from there decides: the process that gives it is the one that is told of
    /// invalidations.
    pub(super) fn record_heartbeat(&mut self, beat: &Heartbeat, now: Duration) -> Reception {
        if beat.sidecar {
            return Reception::default();
        }
        if beat.name == self.me.name {
            return if beat.incarnation == self.incarnation {
                Reception::default()
            } else {
                Reception::taken(&self.me.url)
            };
        }
        let Some(node) = self.node(&beat.name, &beat.url, now, false) else {
            return Reception::default();
        };
        let heard = node.record_heartbeat(beat, now);
        self.changed |= heard.changed;
        self.go_on_telling(heard.outlived, now);
        if heard.reception.status.taken.is_none() {
            self.learn(&beat.members, now);
        }
        heard.reception
    }

    /// A process whose name another one took over without a leave message may still run where it listened. It is told
    /// of invalidations, and keeps them incomplete, until it is gone like any other.
    fn go_on_telling(&mut self, before: Option<(String, NodeInfo)>, now: Duration) {
        if let Some((name, node)) = before
            && self.node(&name, &node.url, now, false).is_some()
        {
            self.nodes.insert(name, node);
        }
    }

    /// A node answered the heartbeat that this one sent at `sent`.
    pub(super) fn record_ack(
        &mut self,
        name: &str,
        ack: &HeartbeatAck,
        sent: Duration,
        now: Duration,
    ) {
        if ack.name != name {
            // Another node listens there by now.
            return self.record_missed(name, false, now);
        }
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let Some(another) = node.note_incarnation(ack.incarnation, Some(sent), now) else {
            return;
        };
        node.note_heard(now);
        node.last_answer = now;
        node.handshake = Handshake::Answered;
        node.says.clone_from(&ack.sender);
        if ack.sender.reached && ack.sender.taken.is_none() {
            node.exchanged = node.exchanged.max(Some(sent));
        }
        node.refuses = false;
        let back = node.unreachable_since.take().is_some();
        self.changed |= another || back;
        self.learn(&ack.members, now);
    }

    /// A node answered something else, or is about to.
    pub(super) fn record_activity(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.last_answer = now;
        }
    }

    /// How long a node has not answered anything.
    pub(super) fn idle_for(&self, name: &str, now: Duration) -> Option<Duration> {
        let node = self.nodes.get(name)?;
        Some(now.saturating_sub(node.last_answer))
    }

    /// A heartbeat to a node went unanswered; `refused`: nothing listens there.
    pub(super) fn record_missed(&mut self, name: &str, refused: bool, now: Duration) {
        self.suspect(name, now);
        if let Some(node) = self.nodes.get_mut(name) {
            node.says.taken = None;
            // Whatever listens there later is another process, and sends a heartbeat.
            node.refuses |= refused;
            if node.handshake == Handshake::Pending {
                node.handshake = Handshake::Failed;
            }
        }
    }

    /// Where another process with this node's name listens, according to a node that answers.
    pub(super) fn rival(&self) -> Option<&String> {
        self.nodes
            .values()
            .find_map(|node| node.says.taken.as_ref())
    }

    /// Until when this node may believe what it knows; never before discovery has named the nodes.
    pub(super) fn lease(&self, now: Duration) -> Duration {
        if !self.discovered || self.rival().is_some() {
            return Duration::ZERO;
        }
        let others = self.nodes.values().filter(|node| node.has_a_say(now));
        lease::until(others.map(|node| node.exchanged).collect())
    }

    /// Some node is known that did not say that it leaves.
    pub(super) fn is_deserted(&self) -> bool {
        self.nodes.values().any(|node| !node.leaving)
    }

    /// A request to a node was refused or failed to connect.
    pub(super) fn suspect(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name)
            && node.unreachable_since.is_none()
        {
            node.unreachable_since = Some(now);
            self.changed = true;
        }
    }

    /// Another node named these. What it says about nodes that are known already does not count.
    pub(super) fn learn(&mut self, contacts: &[Contact], now: Duration) {
        for contact in contacts {
            if contact.name != self.me.name {
                self.node(&contact.name, &contact.url, now, false);
            }
        }
    }

    /// Forgets those that are gone and unreachable.
    pub(super) fn forget_gone(&mut self, now: Duration) {
        self.nodes
            .retain(|_, node| node.listing.is_some() || !node.is_lost(now));
    }

    pub(super) fn set_ready(&mut self) {
        if self.phase == MemberState::Joining {
            self.phase = MemberState::Serving;
            self.changed = true;
        }
    }

    pub(super) fn leave(&mut self) {
        self.phase = MemberState::Leaving;
        self.changed = true;
    }

    /// All nodes to tell of an invalidation, except this one.
    pub(super) fn contacts(&self) -> Vec<Contact> {
        let contact = |(name, node): (&String, &NodeInfo)| Contact {
            name: name.clone(),
            url: node.url.clone(),
        };
        self.nodes.iter().map(contact).collect()
    }

    /// The contacts by name.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.nodes.keys().cloned().collect()
    }

    /// The contact of this name.
    pub(super) fn contact(&self, name: &str) -> Option<Contact> {
        let (name, url) = (name.to_owned(), self.url(name)?.to_owned());
        Some(Contact { name, url })
    }

    /// Where a contact listens.
    pub(super) fn url(&self, name: &str) -> Option<&str> {
        self.nodes.get(name).map(|node| &*node.url)
    }

    /// The contacts, each with whether it has been unreachable for so long that it is asked less often.
    pub(super) fn heartbeat_targets(&self, now: Duration) -> Vec<(Contact, bool)> {
        let greet = |contact: Contact| {
            let node = self.nodes.get(&contact.name);
            let is_lost = node.is_some_and(|node| node.is_lost(now));
            (contact, is_lost)
        };
        self.contacts().into_iter().map(greet).collect()
    }

    /// The nodes that this one vouches for, including itself if it is a member: named by discovery, or met. Nodes that
    /// others merely named are not passed on, or two nodes would remind each other of a dead third forever.
    pub(super) fn vouched(&self) -> Vec<Contact> {
        let others = self
            .nodes
            .iter()
            .filter(|(_, node)| node.listing.is_some() || node.met)
            .map(|(name, node)| Contact {
                name: name.clone(),
                url: node.url.clone(),
            });
        let me = (!self.sidecar).then(|| self.me.clone());
        me.into_iter().chain(others).collect()
    }

    /// The ring's members, sorted by name: those that discovery names, and this node unless it is a sidecar.
    pub(super) fn members(&self) -> Vec<Member> {
        let me = (!self.sidecar).then(|| Member {
            name: self.me.name.clone(),
            url: self.me.url.clone(),
            zone: self.zone.clone(),
            state: self.phase,
        });
        let others = self.nodes.iter().filter_map(|(name, node)| {
            let listing = node.listing.as_ref()?;
            Some(Member {
                name: name.clone(),
                url: node.url.clone(),
                zone: node.zone.clone(),
                state: node.state(listing),
            })
        });
        let mut members: Vec<Member> = me.into_iter().chain(others).collect();
        members.sort_by(|left, right| left.name.cmp(&right.name));
        members
    }

    /// Discovery has named the nodes; for a sidecar, at least one: an empty ring can't be told anything.
    pub(super) fn knows_the_ring(&self) -> bool {
        self.discovered && !(self.sidecar && self.nodes.is_empty())
    }

    /// Discovery has named the nodes, and each contact was found unreachable, or answered a heartbeat and reaches this
    /// node at its address.
    pub(super) fn is_announced(&self) -> bool {
        let sent = |node: &NodeInfo| match node.handshake {
            Handshake::Pending => false,
            Handshake::Failed => true,
            Handshake::Answered => node.says.reached || self.sidecar,
        };
        self.discovered && self.nodes.values().all(sent)
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            name: self.me.name.clone(),
            url: self.me.url.clone(),
            incarnation: self.incarnation,
            leaving: self.phase == MemberState::Leaving,
            sidecar: self.sidecar,
            joining: self.phase == MemberState::Joining,
            members: self.vouched(),
        }
    }

    pub(super) fn ack(&self, sender: SenderStatus) -> HeartbeatAck {
        HeartbeatAck {
            name: self.me.name.clone(),
            incarnation: self.incarnation,
            members: self.vouched(),
            owing: Vec::new(),
            sender,
        }
    }

    /// True if the members may have changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The node with this name, added if there is room. One that discovery names takes the place of one that it does
    /// not.
    fn node(&mut self, name: &str, url: &str, now: Duration, named: bool) -> Option<&mut NodeInfo> {
        if !self.nodes.contains_key(name) {
            if self.nodes.len() >= MAX_CONTACTS {
                let weaker = self.nodes.iter().find(|(_, node)| {
                    node.listing.is_none() && (named || node.unreachable_since.is_some())
                });
                let weaker = weaker.map(|(name, _)| name.clone());
                let Some(weaker) = weaker else {
                    tracing::warn!(name, "ignoring a node: {MAX_CONTACTS} are known already");
                    return None;
                };
                self.nodes.remove(&weaker);
            }
            self.nodes
                .insert(name.to_owned(), NodeInfo::new(url.to_owned(), now));
        }
        self.nodes.get_mut(name)
    }
}

#[cfg(test)]
mod tests;
