//! Who is known, and what became of them: discovery, hellos and requests go in, the [`Ring`] comes out.
//!
//! *Ready once to join; out only when terminating, gone or silent.* A contact is anybody who has to be told of an
//! invalidation; a member is a contact that discovery names; a sidecar is neither. `roll` decides, without clock or network; here are the
//! clock, the lock and the channel on which rings are published.

pub mod heartbeat;
mod roll;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::peer::{Contact, Hello, Welcome};
use crate::ring::{Member, Ring, State};
use roll::Roll;

/// One line of discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What places it: the pod's name, or the URL of a static peer.
    pub name: String,
    /// Where it listens, as `http://HOST:PORT`.
    pub url: String,
    /// The availability zone, where the cluster names one.
    pub zone: Option<String>,
    /// It can take requests; always true of static peers.
    pub serving: bool,
    /// It is about to stop.
    pub terminating: bool,
}

/// The nodes that this one knows.
#[derive(Debug)]
pub struct Members {
    name: String,
    sidecar: bool,
    started: Instant,
    roll: Mutex<Roll>,
    ring: watch::Sender<Arc<Ring>>,
    said_hello: watch::Sender<bool>,
    /// There is something to tell that should not wait for the next heartbeat.
    news: Notify,
}

impl Members {
    /// This node alone. It is [`Joining`](crate::ring::State::Joining) until [`Members::set_ready`].
    pub fn new(me: Contact, zone: Option<String>) -> Arc<Self> {
        let name = me.name.clone();
        Self::of(name, false, Roll::new(me, zone, random()))
    }

    /// A sidecar: it follows the ring and is not in it. Its name must be no member's.
    pub fn beside(me: Contact) -> Arc<Self> {
        let name = me.name.clone();
        Self::of(name, true, Roll::beside(me, random()))
    }

    fn of(name: String, sidecar: bool, mut roll: Roll) -> Arc<Self> {
        roll.take_changed();
        let ring = Arc::new(Ring::new(&name, roll.members(), 1));
        Arc::new(Self {
            name,
            sidecar,
            started: Instant::now(),
            roll: Mutex::new(roll),
            ring: watch::Sender::new(ring),
            said_hello: watch::Sender::new(false),
            news: Notify::new(),
        })
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This node is beside the ring: it owns nothing, and nobody tells it of invalidations.
    pub fn is_sidecar(&self) -> bool {
        self.sidecar
    }

    /// The ring, and every later one. A new one comes only when a member or its state changed.
    pub fn ring(&self) -> watch::Receiver<Arc<Ring>> {
        self.ring.subscribe()
    }

    /// Discovery's newest word: the whole set, each time.
    pub fn discovered(&self, found: Vec<Found>) {
        self.change(|roll, now| roll.discovered(found, now));
    }

    /// A node said hello; from now on it is told of invalidations.
    pub fn heard(&self, hello: &Hello) -> Welcome {
        self.change(|roll, now| {
            roll.heard(hello, now);
            roll.welcome()
        })
    }

    /// A contact answered a hello.
    pub fn answered(&self, name: &str, welcome: &Welcome) {
        self.change(|roll, now| roll.answered(name, welcome, now));
    }

    /// A hello to a contact failed or was not answered in time.
    pub fn unanswered(&self, name: &str) {
        self.change(|roll, now| roll.unanswered(name, now));
    }

    /// A request found it refusing, reset or silent: it is asked for nothing until it answers a heartbeat.
    pub fn suspect(&self, name: &str) {
        self.change(|roll, now| roll.suspect(name, now));
    }

    /// A node answered a request, or a piece of the answer came: it lives.
    pub fn heard_from(&self, name: &str) {
        self.change(|roll, now| roll.heard_from(name, now));
    }

    /// For how long a node has answered nothing; `None` for one that is not known.
    pub fn quiet_for(&self, name: &str) -> Option<Duration> {
        self.change(|roll, now| roll.quiet_for(name, now))
    }

    /// Another node named these; they are told of invalidations from now on.
    pub fn learn(&self, contacts: &[Contact]) {
        self.change(|roll, now| roll.learn(contacts, now));
    }

    /// Everyone to tell of an invalidation, this node excluded; at most 4,096.
    pub fn contacts(&self) -> Vec<Contact> {
        self.change(|roll, now| {
            roll.forget_gone(now);
            roll.contacts()
        })
    }

    /// True once discovery has said who is there. Until then nobody can be told that all have been told.
    pub fn know_the_ring(&self) -> bool {
        self.change(|roll, _| roll.knows_the_ring())
    }

    /// Those whom this node names to others, itself included if it is a member.
    pub fn vouched(&self) -> Vec<Contact> {
        self.change(|roll, _| roll.vouched())
    }

    /// This node takes its share from now on.
    pub fn set_ready(&self) {
        self.change(|roll, _| roll.set_ready());
        self.news.notify_one();
    }

    /// This node gives up its share and says so.
    pub fn leave(&self) {
        self.change(|roll, _| roll.leave());
        self.news.notify_one();
    }

    /// True once every contact answered a hello of this node or was found silent: then every coordinator knows of it, and it may
    /// report ready. False until discovery has spoken for the first time.
    pub fn said_hello(&self) -> bool {
        *self.said_hello.borrow()
    }

    /// Waits for [`Members::said_hello`]; false when it did not come about by `deadline`.
    pub async fn wait_hello(&self, deadline: Instant) -> bool {
        let mut said = self.said_hello.subscribe();
        timeout_at(deadline, said.wait_for(|said| *said))
            .await
            .is_ok()
    }

    /// What this node says to the others now.
    fn hello(&self) -> Hello {
        self.change(|roll, _| roll.hello())
    }

    /// The contacts, each with whether it has been silent for long.
    fn to_greet(&self) -> Vec<(Contact, bool)> {
        self.change(|roll, now| {
            roll.forget_gone(now);
            let greet = |contact: Contact| {
                let long_silent = roll.long_silent(&contact.name, now);
                (contact, long_silent)
            };
            roll.contacts().into_iter().map(greet).collect()
        })
    }

    /// The only door to the roll. What follows from a change is published before the next one can happen.
    fn change<T>(&self, change: impl FnOnce(&mut Roll, Duration) -> T) -> T {
        let mut roll = self.roll.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut roll, self.started.elapsed());
        if roll.take_changed() {
            let members = roll.members();
            self.ring.send_if_modified(|ring| {
                let changed = ring.members() != members;
                if changed {
                    let now = Ring::new(&self.name, members, ring.version() + 1);
                    tell(ring, &now);
                    *ring = Arc::new(now);
                }
                changed
            });
        }
        let said = roll.said_hello();
        self.said_hello.send_if_modified(|before| {
            let changed = *before != said;
            *before = said;
            changed
        });
        answer
    }
}

/// One line for each node that has another state than before.
fn tell(before: &Ring, now: &Ring) {
    for Member { name, state, .. } in now.members() {
        let was = before.member(name).map(|member| member.state);
        if was == Some(*state) {
            continue;
        }
        let (was, now) = (was.map_or("unknown", State::as_str), state.as_str());
        if *state == State::Silent {
            tracing::warn!(
                name,
                was,
                now,
                "a node does not answer: the next in order stand in for it"
            );
        } else {
            tracing::info!(name, was, now, "the ring changed");
        }
    }
    for Member { name, state, .. } in before.members() {
        if now.member(name).is_none() {
            tracing::info!(name, was = state.as_str(), "a node left the ring");
        }
    }
}

/// A number that no other process and no other call is likely to draw.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// Between four fifths of `most` and `most`, so that nodes started together don't stay in step.
pub(crate) fn jittered(most: Duration) -> Duration {
    let share = u32::try_from(random() % 200).expect("below 200");
    most * (1_000 - share) / 1_000
}
