//! Who is known, and what became of them: discovery, heartbeats and requests go in, the [`Ring`] comes out.
//!
//! *Ready once to join; out only when terminating, gone or unreachable.* A contact is anybody who has to be told of an
//! invalidation; a member is a contact that discovery names; a sidecar is neither. `table` decides, without clock or network; here are the
//! clock, the lock and the channel on which rings are published.

mod change_log;
mod debts;
pub mod heartbeat;
mod jitter;
mod lease;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::object::Scope;
use crate::peer::{Contact, Heartbeat, HeartbeatAck, Owing};
use crate::ring::{MemberState, Ring};
pub use debts::Debt;
use debts::Debts;
pub(crate) use jitter::{jittered, random};
use lease::MembershipLease;
use table::Table;

/// One line of discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredNode {
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
    table: Mutex<Table>,
    ring: watch::Sender<Arc<Ring>>,
    is_announced: watch::Sender<bool>,
    /// Where another process listens that goes by this node's name.
    rival: watch::Sender<Option<String>>,
    lease: MembershipLease,
    debts: Mutex<Debts>,
    /// Somebody owes an invalidation.
    owing: Notify,
    /// There is something to tell that should not wait for the next heartbeat.
    heartbeat_due: Notify,
}

impl Members {
    /// This node alone. It is [`Joining`](crate::ring::MemberState::Joining) until [`Members::set_ready`].
    pub fn new(me: Contact, zone: Option<String>) -> Arc<Self> {
        let name = me.name.clone();
        Self::with_table(name, false, Table::new(me, zone, random()))
    }

    /// A sidecar: it follows the ring and is not in it. Its name must be no member's.
    pub fn beside(me: Contact) -> Arc<Self> {
        let name = me.name.clone();
        Self::with_table(name, true, Table::beside(me, random()))
    }

    fn with_table(name: String, sidecar: bool, mut table: Table) -> Arc<Self> {
        table.take_changed();
        let ring = Arc::new(Ring::new(&name, table.members(), 1));
        Arc::new(Self {
            name,
            sidecar,
            started: Instant::now(),
            table: Mutex::new(table),
            ring: watch::Sender::new(ring),
            is_announced: watch::Sender::new(false),
            rival: watch::Sender::new(None),
            lease: MembershipLease::new(),
            debts: Mutex::default(),
            owing: Notify::new(),
            heartbeat_due: Notify::new(),
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
    pub fn apply_discovery(&self, found: Vec<DiscoveredNode>) {
        self.change(|table, now| {
            let ((), _) = self.meet(table, |table| table.apply_discovery(found, now));
            self.renew(table, now);
        });
    }

    /// A node sent a heartbeat; from now on it is told of invalidations. One that joins hears who owes what.
    pub fn record_heartbeat(&self, heartbeat: &Heartbeat) -> HeartbeatAck {
        let mut ack = self.change(|table, now| {
            let (status, _) = self.meet(table, |table| table.record_heartbeat(heartbeat, now));
            self.renew(table, now);
            if status.unproved {
                self.heartbeat_due.notify_one();
            }
            table.ack(status)
        });
        if heartbeat.joining {
            // After it is known: what is owed from now on, it is told by whoever coordinates.
            ack.owing = self.who_owes_what();
        }
        ack
    }

    /// A contact answered the heartbeat that was sent at `sent`.
    pub fn record_ack(&self, name: &str, ack: &HeartbeatAck, sent: Instant) {
        for Owing { node, scopes } in &ack.owing {
            for scope in scopes {
                self.owe(std::slice::from_ref(node), scope);
            }
        }
        let sent = sent.saturating_duration_since(self.started);
        self.change(|table, now| {
            let ((), _) = self.meet(table, |table| table.record_ack(name, ack, sent, now));
            self.renew(table, now);
        });
    }

    /// A heartbeat to a contact failed or was not answered in time; `refused`: no process listens there.
    pub fn record_missed(&self, name: &str, refused: bool) {
        self.change(|table, now| {
            table.record_missed(name, refused, now);
            self.renew(table, now);
        });
    }

    /// More than half of the members have answered lately, or there are none: no coordinator has given this node up.
    pub fn holds_lease(&self, now: Instant) -> bool {
        self.lease
            .holds(now.saturating_duration_since(self.started))
    }

    fn renew(&self, table: &Table, now: Duration) {
        // A sidecar believes nothing anyhow.
        if !self.sidecar {
            self.lease.renew(table.lease(now), table.is_deserted(), now);
        }
    }

    /// `forget` makes this node forget what it believed. It is called when the lease had run out and is to hold again.
    pub fn on_lapse(&self, forget: impl Fn() + Send + Sync + 'static) {
        self.lease.on_lapse(forget);
    }

    /// A request found it refusing, reset or unreachable: it is asked for nothing until it answers a heartbeat.
    pub fn suspect(&self, name: &str) {
        self.change(|table, now| table.suspect(name, now));
    }

    /// A node answered a request, or a piece of the answer came: it lives.
    pub fn record_activity(&self, name: &str) {
        self.change(|table, now| table.record_activity(name, now));
    }

    /// For how long a node has answered nothing; `None` for one that is not known.
    pub fn idle_for(&self, name: &str) -> Option<Duration> {
        self.change(|table, now| table.idle_for(name, now))
    }

    /// Another node named these; they are told of invalidations from now on.
    /// True if one of them owes what others do, since it was not known.
    pub fn learn(&self, contacts: &[Contact]) -> bool {
        self.change(|table, now| self.meet(table, |table| table.learn(contacts, now)).1)
    }

    /// Everyone to tell of an invalidation, this node excluded; at most 4,096.
    pub fn contacts(&self) -> Vec<Contact> {
        self.change(|table, now| {
            self.forget_gone(table, now);
            table.contacts()
        })
    }

    /// These have not answered an invalidation: they owe it until they have, or are gone, and are not asked for versions.
    pub fn owe(&self, nodes: &[Contact], scope: &Scope) {
        if nodes.is_empty() {
            return;
        }
        self.change(|table, now| {
            table.learn(nodes, now);
            let mut debts = self.debts();
            for node in nodes.iter().filter(|node| table.url(&node.name).is_some()) {
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
        self.change(|table, now| {
            self.forget_gone(table, now);
            let url = table.url(name)?.to_owned();
            Some((url, self.debts().oldest(name)?))
        })
    }

    /// The others that owe this too.
    pub fn also_owing(&self, scope: &Scope, but: &str) -> Vec<Contact> {
        self.change(|table, _| {
            let debts = self.debts();
            let names = debts.names_for(scope).filter(|name| *name != but);
            names.filter_map(|name| table.contact(name)).collect()
        })
    }

    /// The node has answered.
    pub fn paid(&self, name: &str, debt: &Debt) {
        self.debts().strike(name, debt);
    }

    /// Waits until a member that is unreachable serves again; for ever where it is not unreachable now.
    pub async fn until_back(&self, name: &str) {
        let mut ring = self.ring();
        let state = |ring: &Ring| ring.member(name).map(|member| member.state);
        let unreachable = state(&ring.borrow()) == Some(MemberState::Unreachable);
        if unreachable
            && ring
                .wait_for(|ring| state(ring) == Some(MemberState::Serving))
                .await
                .is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    fn who_owes_what(&self) -> Vec<Owing> {
        self.change(|table, _| {
            let debts = self.debts();
            let owing = |name: &String| {
                Some(Owing {
                    node: table.contact(name)?,
                    scopes: debts.of(name),
                })
            };
            debts.names().filter_map(owing).collect()
        })
    }

    /// Whoever becomes known while something is owed may have missed it too: nobody who was told may have known of it.
    /// True if somebody did.
    fn meet<T>(&self, table: &mut Table, meeting: impl FnOnce(&mut Table) -> T) -> (T, bool) {
        if self.debts().is_empty() {
            return (meeting(table), false);
        }
        let known = table.names();
        let met = meeting(table);
        let newcomers = table.names();
        let owe = self.debts().share(newcomers.difference(&known));
        if owe {
            self.owing.notify_one();
        }
        (met, owe)
    }

    /// Who is gone owes nothing.
    fn forget_gone(&self, table: &mut Table, now: Duration) {
        table.forget_gone(now);
        self.debts().retain(|name| table.url(name).is_some());
    }

    /// Always after the table, where both are locked.
    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once discovery has said who is there. Until then nobody can be told that all have been told.
    pub fn know_the_ring(&self) -> bool {
        self.change(|table, _| table.knows_the_ring())
    }

    /// Those whom this node names to others, itself included if it is a member.
    pub fn vouched(&self) -> Vec<Contact> {
        self.change(|table, _| table.vouched())
    }

    /// This node takes its share from now on.
    pub fn set_ready(&self) {
        self.change(|table, _| table.set_ready());
        self.heartbeat_due.notify_one();
    }

    /// This node gives up its share and says so.
    pub fn leave(&self) {
        self.change(|table, _| table.leave());
        self.heartbeat_due.notify_one();
    }

    /// True once every contact answered a heartbeat of this node or was found unreachable: then every coordinator knows of it, and it may
    /// report ready. False until discovery has spoken for the first time.
    pub fn is_announced(&self) -> bool {
        *self.is_announced.borrow()
    }

    /// Where another process listens that goes by this node's name, as long as others say so: they tell this one nothing then.
    pub fn rival(&self) -> watch::Receiver<Option<String>> {
        self.rival.subscribe()
    }

    /// Waits for [`Members::is_announced`]; false when it did not come about by `deadline`.
    pub async fn wait_announced(&self, deadline: Instant) -> bool {
        let mut sent = self.is_announced.subscribe();
        timeout_at(deadline, sent.wait_for(|sent| *sent))
            .await
            .is_ok()
    }

    /// What this node says to the others now.
    fn heartbeat(&self) -> Heartbeat {
        self.change(|table, _| table.heartbeat())
    }

    /// The contacts, each with whether it has been unreachable for long.
    fn heartbeat_targets(&self) -> Vec<(Contact, bool)> {
        self.change(|table, now| {
            self.forget_gone(table, now);
            self.lease.log_lapse(now);
            table.heartbeat_targets(now)
        })
    }

    /// All access to the table goes through here. What follows from a change is published before the next one can happen.
    fn change<T>(&self, change: impl FnOnce(&mut Table, Duration) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut table, self.started.elapsed());
        if table.take_changed() {
            let members = table.members();
            self.ring.send_if_modified(|ring| {
                let changed = ring.members() != members;
                if changed {
                    let now = Ring::new(&self.name, members, ring.version() + 1);
                    change_log::log_changes(ring, &now);
                    *ring = Arc::new(now);
                }
                changed
            });
        }
        self.rival.send_if_modified(|before| {
            let changed = before.as_ref() != table.rival();
            if changed {
                *before = table.rival().cloned();
            }
            changed
        });
        let sent = table.is_announced();
        self.is_announced.send_if_modified(|before| {
            let changed = *before != sent;
            *before = sent;
            changed
        });
        answer
    }
}
