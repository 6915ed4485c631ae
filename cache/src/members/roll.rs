//! The roll of nodes, as a state machine: what is told goes in with the time, members and contacts come out. No clock, no network.

mod node;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Found, lease};
use crate::peer::{Contact, Hello, Welcome};
use crate::ring::{Member, State};
pub(super) use node::GONE_AFTER;
use node::{Greeting, Listing, Node};
pub(super) use standing::Standing;

/// The most nodes that are remembered, whoever names them: a bound, far beyond any cache.
const MAX_CONTACTS: usize = 4096;

/// Who is known, and what became of them. Times count from the start of this node.
#[derive(Debug)]
pub(super) struct Roll {
    me: Contact,
    /// It is beside the ring and not in it: nobody lists it, tells it anything, or names it to others.
    sidecar: bool,
    boot: u64,
    zone: Option<String>,
    phase: State,
    nodes: BTreeMap<String, Node>,
    discovered: bool,
    changed: bool,
}

impl Roll {
    pub(super) fn new(me: Contact, zone: Option<String>, boot: u64) -> Self {
        Self {
            me,
            sidecar: false,
            boot,
            zone,
            phase: State::Joining,
            nodes: BTreeMap::new(),
            discovered: false,
            changed: true,
        }
    }

    /// The same, seen from beside the ring.
    pub(super) fn beside(me: Contact, boot: u64) -> Self {
        Self {
            sidecar: true,
            ..Self::new(me, None, boot)
        }
    }

    /// The whole set, as discovery has it now. A name that stands in it twice is taken as its last line has it, but one that
    /// terminates gives way to one that does not.
    pub(super) fn discovered(&mut self, found: Vec<Found>, now: Duration) {
        let first = !std::mem::replace(&mut self.discovered, true);
        self.changed = true;
        let mut newest: BTreeMap<String, Found> = BTreeMap::new();
        for line in found {
            let outdated = |kept: &Found| line.terminating && !kept.terminating;
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

    fn list(&mut self, found: Found, now: Duration, first: bool) {
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

    /// A node said hello to this one. A sidecar is answered and not noted: it believes nothing that would have to be taken back.
    /// Neither is a second process of a name while the first one lives. At one address that is for the next answer from
    /// there to say: whoever gives it is the one that is told of invalidations.
    pub(super) fn heard(&mut self, hello: &Hello, now: Duration) -> Standing {
        if hello.sidecar {
            return Standing::default();
        }
        if hello.name == self.me.name {
            let taken = (hello.boot != self.boot).then(|| self.me.url.clone());
            return Standing {
                taken,
                ..Standing::default()
            };
        }
        let Some(node) = self.node(&hello.name, &hello.url, now, false) else {
            return Standing::default();
        };
        let heard = node.heard(hello, now);
        self.changed |= heard.changed;
        self.go_on_telling(heard.outlived, now);
        if heard.standing.taken.is_none() {
            self.learn(&hello.members, now);
        }
        heard.standing
    }

    /// A process whose name another one has taken over, without a farewell, may still run where it listened: it is told of
    /// invalidations, and stands in the way of them, until it is gone like any other.
    fn go_on_telling(&mut self, before: Option<(String, Node)>, now: Duration) {
        if let Some((name, node)) = before
            && self.node(&name, &node.url, now, false).is_some()
        {
            self.nodes.insert(name, node);
        }
    }

    /// A node answered the hello that this one said at `said`.
    pub(super) fn answered(
        &mut self,
        name: &str,
        welcome: &Welcome,
        said: Duration,
        now: Duration,
    ) {
        if welcome.name != name {
            // Somebody else listens there by now.
            return self.unanswered(name, false, now);
        }
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let Some(another) = node.incarnation(welcome.boot, Some(said), now) else {
            return;
        };
        node.hear(now);
        node.last_answer = now;
        node.greeting = Greeting::Answered;
        node.taken.clone_from(&welcome.taken);
        node.reaches = welcome.reached;
        if welcome.reached && welcome.taken.is_none() {
            node.exchanged = node.exchanged.max(Some(said));
        }
        node.refuses = false;
        let back = node.silent_since.take().is_some();
        self.changed |= another || back;
        self.learn(&welcome.members, now);
    }

    /// A node answered something else, or is on the way of it.
    pub(super) fn heard_from(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.last_answer = now;
        }
    }

    /// For how long a node has answered nothing.
    pub(super) fn quiet_for(&self, name: &str, now: Duration) -> Option<Duration> {
        let node = self.nodes.get(name)?;
        Some(now.saturating_sub(node.last_answer))
    }

    /// A hello to a node went unanswered; `refused`: nothing listens there.
    pub(super) fn unanswered(&mut self, name: &str, refused: bool, now: Duration) {
        self.suspect(name, now);
        if let Some(node) = self.nodes.get_mut(name) {
            node.taken = None;
            // Whatever comes to listen there later is another process, and says hello.
            node.refuses |= refused;
            if node.greeting == Greeting::Unsaid {
                node.greeting = Greeting::Failed;
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

    /// Somebody is gone without a farewell.
    pub(super) fn is_deserted(&self) -> bool {
        self.nodes.values().any(|node| !node.leaving)
    }

    /// A request found a node refusing or silent.
    pub(super) fn suspect(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name)
            && node.silent_since.is_none()
        {
            node.silent_since = Some(now);
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

    /// Forgets those that are gone and silent.
    pub(super) fn forget_gone(&mut self, now: Duration) {
        self.nodes
            .retain(|_, node| node.listing.is_some() || !node.long_silent(now));
    }

    pub(super) fn set_ready(&mut self) {
        if self.phase == State::Joining {
            self.phase = State::Serving;
            self.changed = true;
        }
    }

    pub(super) fn leave(&mut self) {
        self.phase = State::Leaving;
        self.changed = true;
    }

    /// Everyone to tell of an invalidation, this node excluded.
    pub(super) fn contacts(&self) -> Vec<Contact> {
        let contact = |(name, node): (&String, &Node)| Contact {
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

    /// The contacts, each with whether it has been silent for so long that it is asked less often.
    pub(super) fn to_greet(&self, now: Duration) -> Vec<(Contact, bool)> {
        let greet = |contact: Contact| {
            let node = self.nodes.get(&contact.name);
            let long_silent = node.is_some_and(|node| node.long_silent(now));
            (contact, long_silent)
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

    /// Discovery has spoken, and each contact was found silent, or answered a hello and reaches this node where it listens.
    pub(super) fn said_hello(&self) -> bool {
        let said = |node: &Node| match node.greeting {
            Greeting::Unsaid => false,
            Greeting::Failed => true,
            Greeting::Answered => node.reaches || self.sidecar,
        };
        self.discovered && self.nodes.values().all(said)
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            name: self.me.name.clone(),
            url: self.me.url.clone(),
            boot: self.boot,
            leaving: self.phase == State::Leaving,
            sidecar: self.sidecar,
            joining: self.phase == State::Joining,
            members: self.vouched(),
        }
    }

    pub(super) fn welcome(&self, standing: Standing) -> Welcome {
        Welcome {
            name: self.me.name.clone(),
            boot: self.boot,
            members: self.vouched(),
            owing: Vec::new(),
            taken: standing.taken,
            reached: standing.reached,
        }
    }

    /// True when the members may have changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The node of this name, made if there is room. One that discovery names takes the place of one that it does not.
    fn node(&mut self, name: &str, url: &str, now: Duration, listed: bool) -> Option<&mut Node> {
        if !self.nodes.contains_key(name) {
            if self.nodes.len() >= MAX_CONTACTS {
                let weaker = self.nodes.iter().find(|(_, node)| {
                    node.listing.is_none() && (listed || node.silent_since.is_some())
                });
                let weaker = weaker.map(|(name, _)| name.clone());
                let Some(weaker) = weaker else {
                    tracing::warn!(name, "more than {MAX_CONTACTS} nodes; this one is left out");
                    return None;
                };
                self.nodes.remove(&weaker);
            }
            self.nodes
                .insert(name.to_owned(), Node::new(url.to_owned(), now));
        }
        self.nodes.get_mut(name)
    }
}

#[cfg(test)]
mod tests;
