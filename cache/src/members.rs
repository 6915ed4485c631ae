//! Who is known, and what became of them: discovery, hellos and requests go in, the [`Ring`] comes out.
//!
//! *Ready once to join; out only when terminating, gone or silent.* A contact is anybody who has to be told of an
//! invalidation; a member is a contact that discovery names; a sidecar is neither. `roll` decides, without clock or network; here are the
//! clock, the lock and the channel on which rings are published.

mod chance;
mod debts;
pub mod heartbeat;
mod lease;
mod news;
mod roll;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::object::Scope;
use crate::peer::{Contact, Hello, Owing, Welcome};
use crate::ring::{Ring, State};
pub(crate) use chance::{jittered, random};
pub use debts::Debt;
use debts::Debts;
use lease::Lease;
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
    /// Where another process listens that goes by this node's name.
    rival: watch::Sender<Option<String>>,
    lease: Lease,
    debts: Mutex<Debts>,
    /// Somebody owes an invalidation.
    owing: Notify,
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
            rival: watch::Sender::new(None),
            lease: Lease::new(),
            debts: Mutex::default(),
            owing: Notify::new(),
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
        self.change(|roll, now| {
            let ((), _) = self.meet(roll, |roll| roll.discovered(found, now));
            self.renew(roll, now);
        });
    }

    /// A node said hello; from now on it is told of invalidations. One that joins hears who owes what.
    pub fn heard(&self, hello: &Hello) -> Welcome {
        let mut welcome = self.change(|roll, now| {
            let (standing, _) = self.meet(roll, |roll| roll.heard(hello, now));
            self.renew(roll, now);
            if standing.unproved {
                self.news.notify_one();
            }
            roll.welcome(standing)
        });
        if hello.joining {
            // After it is known: what is owed from now on, it is told by whoever coordinates.
            welcome.owing = self.who_owes_what();
        }
        welcome
    }

    /// A contact answered the hello that was said at `said`.
    pub fn answered(&self, name: &str, welcome: &Welcome, said: Instant) {
        for Owing { node, scopes } in &welcome.owing {
            for scope in scopes {
                self.owe(std::slice::from_ref(node), scope);
            }
        }
        let said = said.saturating_duration_since(self.started);
        self.change(|roll, now| {
            let ((), _) = self.meet(roll, |roll| roll.answered(name, welcome, said, now));
            self.renew(roll, now);
        });
    }

    /// A hello to a contact failed or was not answered in time; `refused`: no process listens there.
    pub fn unanswered(&self, name: &str, refused: bool) {
        self.change(|roll, now| {
            roll.unanswered(name, refused, now);
            self.renew(roll, now);
        });
    }

    /// More than half of the members have answered lately, or there are none: no coordinator has given this node up.
    pub fn holds_lease(&self, now: Instant) -> bool {
        self.lease
            .holds(now.saturating_duration_since(self.started))
    }

    fn renew(&self, roll: &Roll, now: Duration) {
        // A sidecar believes nothing anyhow.
        if !self.sidecar {
            self.lease.renew(roll.lease(now), roll.is_deserted(), now);
        }
    }

    /// `forget` makes this node forget what it believed. It is called when the lease had run out and is to hold again.
    pub fn on_lapse(&self, forget: impl Fn() + Send + Sync + 'static) {
        self.lease.on_lapse(forget);
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
    /// True if one of them owes what others do, since it was not known.
    pub fn learn(&self, contacts: &[Contact]) -> bool {
        self.change(|roll, now| self.meet(roll, |roll| roll.learn(contacts, now)).1)
    }

    /// Everyone to tell of an invalidation, this node excluded; at most 4,096.
    pub fn contacts(&self) -> Vec<Contact> {
        self.change(|roll, now| {
            self.forget_gone(roll, now);
            roll.contacts()
        })
    }

    /// These have not answered an invalidation: they owe it until they have, or are gone, and are not asked for versions.
    pub fn owe(&self, nodes: &[Contact], scope: &Scope) {
        if nodes.is_empty() {
            return;
        }
        self.change(|roll, now| {
            roll.learn(nodes, now);
            let mut debts = self.debts();
            for node in nodes.iter().filter(|node| roll.url(&node.name).is_some()) {
                debts.note(&node.name, scope);
            }
        });
        self.owing.notify_one();
    }

    /// True while a node owes an invalidation, as far as this one knows.
    pub fn owes(&self, name: &str) -> bool {
        self.debts().owes(name)
    }

    /// The names of those that owe something.
    pub fn owing(&self) -> Vec<String> {
        self.debts().names().cloned().collect()
    }

    /// Waits until somebody owes something more.
    pub async fn somebody_owes(&self) {
        self.owing.notified().await;
    }

    /// The oldest that a node owes, and where it listens; `None` when it owes nothing, or is gone.
    pub fn debt(&self, name: &str) -> Option<(String, Debt)> {
        self.change(|roll, now| {
            self.forget_gone(roll, now);
            let url = roll.url(name)?.to_owned();
            Some((url, self.debts().oldest(name)?))
        })
    }

    /// The others that owe this too.
    pub fn also_owing(&self, scope: &Scope, but: &str) -> Vec<Contact> {
        self.change(|roll, _| {
            let debts = self.debts();
            let names = debts.names_for(scope).filter(|name| *name != but);
            names.filter_map(|name| roll.contact(name)).collect()
        })
    }

    /// The node has answered.
    pub fn paid(&self, name: &str, debt: &Debt) {
        self.debts().strike(name, debt);
    }

    /// Waits until a member that is silent serves again; for ever where it is not silent now.
    pub async fn until_back(&self, name: &str) {
        let mut ring = self.ring();
        let state = |ring: &Ring| ring.member(name).map(|member| member.state);
        let silent = state(&ring.borrow()) == Some(State::Silent);
        if silent
            && ring
                .wait_for(|ring| state(ring) == Some(State::Serving))
                .await
                .is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    fn who_owes_what(&self) -> Vec<Owing> {
        self.change(|roll, _| {
            let debts = self.debts();
            let owing = |name: &String| {
                Some(Owing {
                    node: roll.contact(name)?,
                    scopes: debts.of(name),
                })
            };
            debts.names().filter_map(owing).collect()
        })
    }

    /// Whoever becomes known while something is owed may have missed it too: nobody who was told may have known of it.
    /// True if somebody did.
    fn meet<T>(&self, roll: &mut Roll, meeting: impl FnOnce(&mut Roll) -> T) -> (T, bool) {
        if self.debts().is_empty() {
            return (meeting(roll), false);
        }
        let known = roll.names();
        let met = meeting(roll);
        let newcomers = roll.names();
        let owe = self.debts().share(newcomers.difference(&known));
        if owe {
            self.owing.notify_one();
        }
        (met, owe)
    }

    /// Who is gone owes nothing.
    fn forget_gone(&self, roll: &mut Roll, now: Duration) {
        roll.forget_gone(now);
        self.debts().retain(|name| roll.url(name).is_some());
    }

    /// Always after the roll, where both are locked.
    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Where another process listens that goes by this node's name, as long as others say so: they tell this one nothing then.
    pub fn rival(&self) -> watch::Receiver<Option<String>> {
        self.rival.subscribe()
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
            self.forget_gone(roll, now);
            self.lease.tell(now);
            roll.to_greet(now)
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
                    news::tell(ring, &now);
                    *ring = Arc::new(now);
                }
                changed
            });
        }
        self.rival.send_if_modified(|before| {
            let changed = before.as_ref() != roll.rival();
            if changed {
                *before = roll.rival().cloned();
            }
            changed
        });
        let said = roll.said_hello();
        self.said_hello.send_if_modified(|before| {
            let changed = *before != said;
            *before = said;
            changed
        });
        answer
    }
}
