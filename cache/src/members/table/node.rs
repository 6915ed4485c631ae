//! One node, as another sees it: what discovery says about it, what it says itself, and since when it has been silent.

use std::time::Duration;

use crate::members::lease::{GONE_AFTER, LEASE};
use crate::peer::{Heartbeat, SenderStatus};
use crate::ring::MemberState;

/// How the heartbeats to another node's present incarnation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    Pending,
    Failed,
    Answered,
}

/// What discovery last said about a node.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub(super) url: String,
    pub(super) serving: bool,
    pub(super) terminating: bool,
}

/// A process that gives the address of one that seems alive. It is right if that one is gone, and the next answer there
/// is its own.
#[derive(Debug)]
struct AddressClaim {
    incarnation: u64,
    since: Duration,
    /// The process that was known has answered there since.
    denied: bool,
}

/// How a heartbeat is answered.
#[derive(Default)]
pub(in crate::members) struct Reception {
    pub(in crate::members) status: SenderStatus,
    /// The sender has yet to answer at the address that it gives, and has not been asked.
    pub(in crate::members) unproved: bool,
}

impl Reception {
    /// Another process goes by the sender's name, and listens at `url`.
    pub(super) fn taken(url: &str) -> Self {
        Self {
            status: SenderStatus {
                taken: Some(url.to_owned()),
                reached: false,
            },
            unproved: false,
        }
    }
}

/// What follows from a heartbeat.
pub(super) struct Heard {
    pub(super) reception: Reception,
    /// What is known of the node has changed.
    pub(super) changed: bool,
    /// The process that was known by this name, and may still run.
    pub(super) outlived: Option<(String, NodeInfo)>,
}

impl Heard {
    /// The sender is not the process that is known.
    fn strange(reception: Reception) -> Self {
        Self {
            reception,
            changed: false,
            outlived: None,
        }
    }
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not follow from each other"
)]
pub(super) struct NodeInfo {
    pub(super) url: String,
    pub(super) zone: Option<String>,
    incarnation: Option<u64>,
    /// The incarnation before it, whose late messages do not count.
    former: Option<u64>,
    /// Since when the present incarnation is known.
    since: Duration,
    /// Another process says that it listens at this address.
    claim: Option<AddressClaim>,
    pub(super) listing: Option<Listing>,
    /// Discovery has said that this incarnation serves.
    pub(super) joined: bool,
    pub(super) leaving: bool,
    pub(super) unreachable_since: Option<Duration>,
    /// It has sent something to this node itself, and is not only known from others.
    pub(super) met: bool,
    last_heard: Duration,
    /// When it last answered this node. Its own heartbeats don't count: they only prove that it can send.
    pub(super) last_answer: Duration,
    pub(super) handshake: Handshake,
    /// When this node sent the last heartbeat that its present incarnation answered.
    pub(super) exchanged: Option<Duration>,
    /// Nothing listens at its address: the process is gone.
    pub(super) refuses: bool,
    /// What its last answer says about this node.
    pub(super) says: SenderStatus,
    /// It is new: until then it need not have answered.
    new_until: Duration,
}

impl NodeInfo {
    pub(super) fn new(url: String, now: Duration) -> Self {
        Self {
            url,
            zone: None,
            incarnation: None,
            former: None,
            since: now,
            claim: None,
            listing: None,
            joined: false,
            leaving: false,
            unreachable_since: None,
            met: false,
            last_heard: now,
            last_answer: now,
            handshake: Handshake::Pending,
            exchanged: None,
            refuses: false,
            says: SenderStatus::default(),
            new_until: Duration::ZERO,
        }
    }

    /// Another process comes up: the answers of the one before no longer count, and this one gets some time.
    pub(super) fn comes_up(&mut self, now: Duration) {
        self.exchanged = None;
        self.refuses = false;
        self.new_until = now + LEASE;
    }

    /// The process that was known has ended, or said that it leaves.
    pub(super) fn is_over(&self) -> bool {
        self.refuses || self.leaving
    }

    /// It is in the ring, and may be alive: a lease needs its answer.
    pub(super) fn has_a_say(&self, now: Duration) -> bool {
        let listed = self.listing.as_ref().is_some_and(|now| !now.terminating);
        let known = self.exchanged.is_some() || now >= self.new_until;
        listed && known && !self.leaving && !self.refuses
    }

    pub(super) fn state(&self, listing: &Listing) -> MemberState {
        if listing.terminating || self.leaving {
            MemberState::Leaving
        } else if !self.joined {
            MemberState::Joining
        } else if self.unreachable_since.is_some() {
            MemberState::Unreachable
        } else {
            MemberState::Serving
        }
    }

    /// Another process has the name: what was known about the old one is void.
    pub(super) fn start_over(&mut self) {
        self.joined = self.listing.as_ref().is_some_and(|now| now.serving);
        self.leaving = false;
        self.handshake = Handshake::Pending;
        self.says = SenderStatus::default();
    }

    /// This is not the process that is known by this name.
    pub(super) fn is_another(&self, incarnation: u64) -> bool {
        self.incarnation.is_some_and(|known| known != incarnation)
    }

    /// It answers, and is not leaving: no other process may take its name.
    pub(super) fn lives(&self) -> bool {
        let terminating = self.listing.as_ref().is_some_and(|now| now.terminating);
        self.unreachable_since.is_none() && !self.leaving && !terminating
    }

    /// The process that was known by this name, renamed after the address where it listened; `None` if it has ended, or
    /// said that it leaves.
    pub(super) fn outlived(&self, name: &str, now: Duration) -> Option<(String, Self)> {
        if !self.met || self.is_over() || self.is_lost(now) {
            return None;
        }
        let mut before = Self::new(self.url.clone(), now);
        before.last_heard = self.last_heard;
        before.unreachable_since = Some(self.unreachable_since.unwrap_or(now));
        before.handshake = Handshake::Failed;
        Some((format!("{name} as it was at {}", self.url), before))
    }

    /// A process sent a heartbeat by this name.
    pub(super) fn record_heartbeat(&mut self, heartbeat: &Heartbeat, now: Duration) -> Heard {
        let another = self.is_another(heartbeat.incarnation);
        let moves = another && self.url != heartbeat.url;
        if another && self.lives() {
            return Heard::strange(if moves {
                Reception::taken(&self.url)
            } else {
                self.note_claim(heartbeat.incarnation, now)
            });
        }
        let outlived = moves.then(|| self.outlived(&heartbeat.name, now)).flatten();
        let Some(another) = self.note_incarnation(heartbeat.incarnation, None, now) else {
            return Heard::strange(Reception::taken(&self.url));
        };
        if another || self.listing.is_none() {
            self.url.clone_from(&heartbeat.url);
        }
        if another || self.refuses {
            self.comes_up(now);
        }
        let leaves = heartbeat.leaving && !self.leaving;
        self.leaving |= heartbeat.leaving;
        self.note_heard(now);
        Heard {
            reception: Reception {
                status: SenderStatus {
                    taken: None,
                    reached: self.handshake == Handshake::Answered,
                },
                unproved: self.handshake == Handshake::Pending,
            },
            changed: another || leaves,
            outlived,
        }
    }

    /// A process that is not the known one, which seems alive, says that it listens at the same address.
    fn note_claim(&mut self, incarnation: u64, now: Duration) -> Reception {
        let unproved = self
            .claim
            .as_ref()
            .is_none_or(|claim| claim.incarnation != incarnation);
        if unproved {
            self.claim = Some(AddressClaim {
                incarnation,
                since: now,
                denied: false,
            });
        }
        let denied = self.claim.as_ref().is_some_and(|claim| claim.denied);
        Reception {
            status: SenderStatus {
                taken: denied.then(|| self.url.clone()),
                reached: false,
            },
            unproved,
        }
    }

    /// Notes the incarnation that sent a heartbeat, or that answered the heartbeat sent at `asked`. `None`: the message
    /// is from the incarnation before, and the present one may still run. `Some(true)`: it is a new incarnation.
    pub(super) fn note_incarnation(
        &mut self,
        incarnation: u64,
        asked: Option<Duration>,
        now: Duration,
    ) -> Option<bool> {
        if self.incarnation == Some(incarnation) {
            if let (Some(claim), Some(asked)) = (&mut self.claim, asked) {
                claim.denied |= asked >= claim.since;
            }
            return Some(false);
        }
        // The process that answers now is the one that is told: it may have hung, and be back.
        let late = asked.is_none_or(|asked| asked <= self.since);
        if self.former == Some(incarnation) && late && !self.refuses && !self.is_lost(now) {
            return None;
        }
        self.since = now;
        self.claim = None;
        self.former = self.incarnation.replace(incarnation);
        if self.former.is_none() {
            return Some(false);
        }
        self.start_over();
        Some(true)
    }

    pub(super) fn note_heard(&mut self, now: Duration) {
        self.met = true;
        self.last_heard = now;
    }

    /// How long it has been silent, once a heartbeat went unanswered.
    fn unreachable_for(&self, now: Duration) -> Option<Duration> {
        let since = self.unreachable_since?.max(self.last_heard);
        Some(now.saturating_sub(since))
    }

    pub(super) fn is_lost(&self, now: Duration) -> bool {
        self.unreachable_for(now)
            .is_some_and(|unreachable_for| unreachable_for >= GONE_AFTER)
    }
}
