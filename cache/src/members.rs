//! Which nodes are known, and in what state: discovery, heartbeats and requests go in, the [`Ring`] comes out.
//!
//! *Ready once to join; out only when terminating, gone or unreachable.* A contact is any node that must hear of an
//! invalidation; a member is a contact that discovery names; a sidecar is neither. `table` decides, without clock or
//! network; here are the clock, the lock and the channel on which rings are published.

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
    /// What places it in the ring: the pod's name, or the URL in `--peers`.
    pub name: String,
    /// Where it listens, as `http://HOST:PORT`.
    pub url: String,
    /// The availability zone, where the cluster names one.
    pub zone: Option<String>,
    /// It can take requests; always true in a list of `--peers`.
    pub serving: bool,
    /// It is about to stop.
    pub terminating: bool,
}

/// The nodes that this one knows.
#[derive(Debug)]
pub struct Members {
    name: String,
    started: Instant,
    table: Mutex<Table>,
    ring: watch::Sender<Arc<Ring>>,
    is_announced: watch::Sender<bool>,
    /// Where another process with this node's name listens.
    rival: watch::Sender<Option<String>>,
    /// `None` for a sidecar, which nobody tells of invalidations.
    lease: Option<MembershipLease>,
    debts: Mutex<Debts>,
    /// Wakes when a node comes to owe an invalidation.
    owing: Notify,
    /// Wakes the heartbeat early, when it has something new to say.
    heartbeat_due: Notify,
}

impl Members {
    /// This node alone. It is [`Joining`](crate::ring::MemberState::Joining) until [`Members::set_ready`].
    pub fn new(me: Contact, zone: Option<String>) -> Arc<Self> {
        let name = me.name.clone();
        Self::with_table(
            name,
            Table::new(me, zone, random()),
            Some(MembershipLease::new()),
        )
    }

    /// A sidecar: it follows the ring and is not in it. Its name must be no member's.
    pub fn beside(me: Contact) -> Arc<Self> {
        let name = me.name.clone();
        Self::with_table(name, Table::beside(me, random()), None)
    }

    fn with_table(name: String, mut table: Table, lease: Option<MembershipLease>) -> Arc<Self> {
        table.take_changed();
        let ring = Arc::new(Ring::new(&name, table.members(), 1));
        Arc::new(Self {
            name,
            started: Instant::now(),
            table: Mutex::new(table),
            ring: watch::Sender::new(ring),
            is_announced: watch::Sender::new(false),
            rival: watch::Sender::new(None),
            lease,
            debts: Mutex::default(),
            owing: Notify::new(),
            heartbeat_due: Notify::new(),
        })
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ring, and every later one. A new one comes only when a member or its state changed.
    pub fn ring(&self) -> watch::Receiver<Arc<Ring>> {
        self.ring.subscribe()
    }

    /// Applies discovery's newest set, which is always the whole set.
    pub fn apply_discovery(&self, found: Vec<DiscoveredNode>) {
        self.change(|table, now| {
            let ((), _) = self.meet(table, |table| table.apply_discovery(found, now));
            self.renew(table, now);
        });
    }

    /// A node sent a heartbeat: from now on it is told of invalidations. One that joins also hears who owes what.
    pub fn record_heartbeat(&self, heartbeat: &Heartbeat) -> HeartbeatAck {
        let mut ack = self.change(|table, now| {
            let (reception, _) = self.meet(table, |table| table.record_heartbeat(heartbeat, now));
            self.renew(table, now);
            if reception.unproved {
                self.heartbeat_due.notify_one();
            }
            table.ack(reception.status)
        });
        if heartbeat.joining {
            // After it is recorded, so that it misses nothing: coordinators tell it whatever is owed from now on.
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

    /// More than half of the members have answered lately, or there are none: no coordinator has given this node up, so
    /// it is told of invalidations. Never true of a sidecar.
    pub fn holds_lease(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.started);
        self.lease.as_ref().is_some_and(|lease| lease.holds(now))
    }

    fn renew(&self, table: &Table, now: Duration) {
        if let Some(lease) = &self.lease {
            lease.renew(table.lease(now), table.is_deserted(), now);
        }
    }

    /// `forget` drops what this node believes. It is called when a lease that had run out is renewed.
    pub fn on_lapse(&self, forget: impl Fn() + Send + Sync + 'static) {
        if let Some(lease) = &self.lease {
            lease.on_lapse(forget);
        }
    }

    /// A request to it was refused, reset or failed to connect: it is asked for nothing until it answers a heartbeat.
    pub fn suspect(&self, name: &str) {
        self.change(|table, now| table.suspect(name, now));
    }

    /// A node answered a request, or a piece of its answer came: it is alive.
    pub fn record_activity(&self, name: &str) {
        self.change(|table, now| table.record_activity(name, now));
    }

    /// How long a node has not answered anything; `None` for one that is not known.
    pub fn idle_for(&self, name: &str) -> Option<Duration> {
        self.change(|table, now| table.idle_for(name, now))
    }

    /// Another node named these: they are told of invalidations from now on. True if a new one owes what others owe.
    pub fn learn(&self, contacts: &[Contact]) -> bool {
        self.change(|table, now| self.meet(table, |table| table.learn(contacts, now)).1)
    }

    /// All nodes to tell of an invalidation, except this one; at most 4,096.
    pub fn contacts(&self) -> Vec<Contact> {
        self.change(|table, now| {
            self.forget_gone(table, now);
            table.contacts()
        })
    }

    /// These have not answered an invalidation: they owe it, and are not asked for versions, until they answer.
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

    /// True while a node owes an invalidation, as far as this node knows.
    pub fn owes(&self, name: &str) -> bool {
        self.debts().owes(name)
    }

    /// The names of the nodes that owe something.
    pub fn owing(&self) -> Vec<String> {
        self.debts().names().cloned().collect()
    }

    /// Waits until a node comes to owe something more.
    pub async fn somebody_owes(&self) {
        self.owing.notified().await;
    }

    /// The oldest debt of a node, and its address; `None` if it owes nothing, or is gone.
    pub fn debt(&self, name: &str) -> Option<(String, Debt)> {
        self.change(|table, now| {
            self.forget_gone(table, now);
            let url = table.url(name)?.to_owned();
            Some((url, self.debts().oldest(name)?))
        })
    }

    /// The other nodes that owe this too.
    pub fn also_owing(&self, scope: &Scope, but: &str) -> Vec<Contact> {
        self.change(|table, _| {
            let debts = self.debts();
            let names = debts.names_for(scope).filter(|name| *name != but);
            names.filter_map(|name| table.contact(name)).collect()
        })
    }

    /// The node has answered this one.
    pub fn paid(&self, name: &str, debt: &Debt) {
        self.debts().strike(name, debt);
    }

    /// Waits until a member that is unreachable serves again; never returns for one that is not unreachable now.
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

    /// A node that becomes known while something is owed may have missed it too. True if there was one.
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

    /// A node that is gone owes nothing.
    fn forget_gone(&self, table: &mut Table, now: Duration) {
        table.forget_gone(now);
        self.debts().retain(|name| table.url(name).is_some());
    }

    /// Always after the table, where both are locked.
    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once discovery has named the nodes. Until then an invalidation can't be complete.
    pub fn know_the_ring(&self) -> bool {
        self.change(|table, _| table.knows_the_ring())
    }

    /// The nodes that this one names to others, including itself if it is a member.
    pub fn vouched(&self) -> Vec<Contact> {
        self.change(|table, _| table.vouched())
    }

    /// This node takes its share of the ring from now on.
    pub fn set_ready(&self) {
        self.change(|table, _| table.set_ready());
        self.heartbeat_due.notify_one();
    }

    /// This node gives up its share of the ring, and says so.
    pub fn leave(&self) {
        self.change(|table, _| table.leave());
        self.heartbeat_due.notify_one();
    }

    /// True once every contact answered a heartbeat of this node or was found unreachable: then every coordinator knows
    /// of it, and it may report ready. False until discovery has named the nodes.
    pub fn is_announced(&self) -> bool {
        *self.is_announced.borrow()
    }

    /// Where another process with this node's name listens, for as long as other nodes say so: they tell this one
    /// nothing.
    pub fn rival(&self) -> watch::Receiver<Option<String>> {
        self.rival.subscribe()
    }

    /// Waits for [`Members::is_announced`]; false if it is not true by `deadline`.
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
            if let Some(lease) = &self.lease {
                lease.log_lapse(now);
            }
            table.heartbeat_targets(now)
        })
    }

    /// All access to the table goes through here. What follows from a change is published before the next change.
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
