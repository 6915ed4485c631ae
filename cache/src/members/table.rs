//! The table of nodes, as a state machine: what is told goes in with the time, members and contacts come out. No clock, no network.

mod node;
mod sender_status;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{DiscoveredNode, lease};
use crate::peer::{Contact, Heartbeat, HeartbeatAck};
use crate::ring::{Member, MemberState};
pub(super) use node::GONE_AFTER;
use node::{Handshake, Listing, NodeInfo};
pub(super) use sender_status::SenderStatus;

/// The most nodes that are remembered, whoever names them: a bound, far beyond any cache.
const MAX_CONTACTS: usize = 4096;

/// Who is known, and what became of them. Times count from the start of this node.
#[derive(Debug)]
pub(super) struct Table {
    me: Contact,
    /// It is beside the ring and not in it: nobody lists it, tells it anything, or names it to others.
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

    /// The same, seen from beside the ring.
    pub(super) fn beside(me: Contact, incarnation: u64) -> Self {
        Self {
            sidecar: true,
            ..Self::new(me, None, incarnation)
        }
    }

    /// The whole set, as discovery has it now. A name that stands in it twice is taken as its last line has it, but one that
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
        // An old address that discovery merely repeats does not undo what a new incarnation said of itself.
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

    /// A node sent a heartbeat to this one. A sidecar is answered and not noted: it believes nothing that would have to be taken back.
    /// Neither is a second process of a name while the first one lives. At one address that is for the next answer from
    /// there to say: whoever gives it is the one that is told of invalidations.
    pub(super) fn record_heartbeat(&mut self, beat: &Heartbeat, now: Duration) -> SenderStatus {
        if beat.sidecar {
            return SenderStatus::default();
        }
        if beat.name == self.me.name {
            let taken = (beat.incarnation != self.incarnation).then(|| self.me.url.clone());
            return SenderStatus {
                taken,
                ..SenderStatus::default()
            };
        }
        let Some(node) = self.node(&beat.name, &beat.url, now, false) else {
            return SenderStatus::default();
        };
        let heard = node.record_heartbeat(beat, now);
        self.changed |= heard.changed;
        self.go_on_telling(heard.outlived, now);
        if heard.status.taken.is_none() {
            self.learn(&beat.members, now);
        }
        heard.status
    }

    /// A process whose name another one has taken over, without a leave message, may still run where it listened: it is told of
    /// invalidations, and stands in the way of them, until it is gone like any other.
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
            // Somebody else listens there by now.
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
        node.taken.clone_from(&ack.taken);
        node.reaches = ack.reached;
        if ack.reached && ack.taken.is_none() {
            node.exchanged = node.exchanged.max(Some(sent));
        }
        node.refuses = false;
        let back = node.unreachable_since.take().is_some();
        self.changed |= another || back;
        self.learn(&ack.members, now);
    }

    /// A node answered something else, or is on the way of it.
    pub(super) fn record_activity(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.last_answer = now;
        }
    }

    /// For how long a node has answered nothing.
    pub(super) fn idle_for(&self, name: &str, now: Duration) -> Option<Duration> {
        let node = self.nodes.get(name)?;
        Some(now.saturating_sub(node.last_answer))
    }

    /// A heartbeat to a node went unanswered; `refused`: nothing listens there.
    pub(super) fn record_missed(&mut self, name: &str, refused: bool, now: Duration) {
        self.suspect(name, now);
        if let Some(node) = self.nodes.get_mut(name) {
            node.taken = None;
            // Whatever comes to listen there later is another process, and sends a heartbeat.
            node.refuses |= refused;
            if node.handshake == Handshake::Pending {
                node.handshake = Handshake::Failed;
            }
        }
    }

    /// Where another process listens that goes by this node's name, as a node says that answers.
    pub(super) fn rival(&self) -> Option<&String> {
        self.nodes.values().find_map(|node| node.taken.as_ref())
    }

    /// Until when this node may believe what it knows: not before discovery has spoken.
    pub(super) fn lease(&self, now: Duration) -> Duration {
        if !self.discovered || self.rival().is_some() {
            return Duration::ZERO;
        }
        let others = self.nodes.values().filter(|node| node.has_a_say(now));
        lease::until(others.map(|node| node.exchanged).collect())
    }

    /// Somebody is gone without a leave message.
    pub(super) fn is_deserted(&self) -> bool {
        self.nodes.values().any(|node| !node.leaving)
    }

    /// A request found a node refusing or unreachable.
    pub(super) fn suspect(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name)
            && node.unreachable_since.is_none()
        {
            node.unreachable_since = Some(now);
            self.changed = true;
        }
    }

    /// Another node named these. What it says of nodes that are known already is no news.
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

    /// Everyone to tell of an invalidation, this node excluded.
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

    /// Those whom this node can vouch for, itself included if it is a member: named by discovery, or met. What others merely
    /// named is not passed on, or two nodes would remind each other of a dead third for ever.
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

    /// The ring's members, sorted by name: those that discovery names, and this node unless it is beside the ring.
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

    /// Discovery has spoken, and named somebody where it must: from beside a ring of nobody, nobody can be told anything.
    pub(super) fn knows_the_ring(&self) -> bool {
        self.discovered && !(self.sidecar && self.nodes.is_empty())
    }

    /// Discovery has spoken, and each contact was found unreachable, or answered a heartbeat and reaches this node where it listens.
    pub(super) fn is_announced(&self) -> bool {
        let sent = |node: &NodeInfo| match node.handshake {
            Handshake::Pending => false,
            Handshake::Failed => true,
            Handshake::Answered => node.reaches || self.sidecar,
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

    pub(super) fn ack(&self, status: SenderStatus) -> HeartbeatAck {
        HeartbeatAck {
            name: self.me.name.clone(),
            incarnation: self.incarnation,
            members: self.vouched(),
            owing: Vec::new(),
            taken: status.taken,
            reached: status.reached,
        }
    }

    /// True when the members may have changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The node of this name, made if there is room. One that discovery names takes the place of one that it does not.
    fn node(&mut self, name: &str, url: &str, now: Duration, named: bool) -> Option<&mut NodeInfo> {
        if !self.nodes.contains_key(name) {
            if self.nodes.len() >= MAX_CONTACTS {
                let weaker = self.nodes.iter().find(|(_, node)| {
                    node.listing.is_none() && (named || node.unreachable_since.is_some())
                });
                let weaker = weaker.map(|(name, _)| name.clone());
                let Some(weaker) = weaker else {
                    tracing::warn!(name, "more than {MAX_CONTACTS} nodes; this one is left out");
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
