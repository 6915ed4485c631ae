//! One node, as another sees it: what discovery says of it, what it says itself, and since when it says nothing.

use std::time::Duration;

use super::SenderStatus;
use crate::members::lease::LEASE;
use crate::peer::Heartbeat;
use crate::ring::MemberState;

/// A node that discovery no longer names is told of invalidations until it has been unreachable for so long.
pub(in crate::members) const GONE_AFTER: Duration = Duration::from_secs(10);

/// What came of the heartbeats that this node sent to another's present incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    Pending,
    Failed,
    Answered,
}

/// What the newest discovery says of a node.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub(super) url: String,
    pub(super) serving: bool,
    pub(super) terminating: bool,
}

/// A process that gives the address of one that lives. It is right if that one is gone, and the next answer is its own.
#[derive(Debug)]
struct AddressClaim {
    incarnation: u64,
    since: Duration,
    /// The one that was known has answered there since.
    denied: bool,
}

/// What comes of a heartbeat.
pub(super) struct Heard {
    pub(super) status: SenderStatus,
    /// What is known of the node has changed.
    pub(super) changed: bool,
    /// The process that was known by the name, which may still run.
    pub(super) outlived: Option<(String, NodeInfo)>,
}

impl Heard {
    /// It is another process than the one that is known.
    fn strange(status: SenderStatus) -> Self {
        Self {
            status,
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
    /// The incarnation before, whose late messages count for nothing.
    former: Option<u64>,
    /// Since when the present one is known.
    since: Duration,
    /// Another process says that it listens there.
    claim: Option<AddressClaim>,
    pub(super) listing: Option<Listing>,
    /// Discovery has said of this incarnation that it serves.
    pub(super) joined: bool,
    pub(super) leaving: bool,
    pub(super) unreachable_since: Option<Duration>,
    /// It has spoken to this node itself: known at first hand, not by another's word.
    pub(super) met: bool,
    last_heard: Duration,
    /// It answered this node: its own heartbeats prove only that it can be heard.
    pub(super) last_answer: Duration,
    pub(super) handshake: Handshake,
    /// When this node sent the last heartbeat that its present incarnation answered.
    pub(super) exchanged: Option<Duration>,
    /// Nothing listens at its address: no such process runs.
    pub(super) refuses: bool,
    /// It says that it has had an answer of this node, where this node listens.
    pub(super) reaches: bool,
    /// It says that another process goes by this node's name, which listens there.
    pub(super) taken: Option<String>,
    /// Discovery has just found it: until then it need not have answered.
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
            reaches: false,
            taken: None,
            new_until: Duration::ZERO,
        }
    }

    /// Another process comes up: what the one before answered counts no more, and this one has some time.
    pub(super) fn comes_up(&mut self, now: Duration) {
        self.exchanged = None;
        self.refuses = false;
        self.new_until = now + LEASE;
    }

    /// The process that was known runs no more, or said that it leaves.
    pub(super) fn is_over(&self) -> bool {
        self.refuses || self.leaving
    }

    /// It takes part in the ring, and may live: whoever holds a lease asks it.
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

    /// Another process under the old name: what was known of the old one is void.
    pub(super) fn start_over(&mut self) {
        self.joined = self.listing.as_ref().is_some_and(|now| now.serving);
        self.leaving = false;
        self.handshake = Handshake::Pending;
        self.taken = None;
        self.reaches = false;
    }

    /// This is another process than the one that is known by this name.
    pub(super) fn is_another(&self, incarnation: u64) -> bool {
        self.incarnation.is_some_and(|known| known != incarnation)
    }

    /// It answers, and does not leave: no other process may take its name.
    pub(super) fn lives(&self) -> bool {
        let terminating = self.listing.as_ref().is_some_and(|now| now.terminating);
        self.unreachable_since.is_none() && !self.leaving && !terminating
    }

    /// The process that was known by this name, under one that says where it listened; `None` if it does not run any more, or
    /// has said that it leaves.
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

    /// A process sends a heartbeat by this name.
    pub(super) fn record_heartbeat(&mut self, heartbeat: &Heartbeat, now: Duration) -> Heard {
        let another = self.is_another(heartbeat.incarnation);
        let moves = another && self.url != heartbeat.url;
        if another && self.lives() {
            return Heard::strange(if moves {
                SenderStatus::taken(&self.url)
            } else {
                self.note_claim(heartbeat.incarnation, now)
            });
        }
        let outlived = moves.then(|| self.outlived(&heartbeat.name, now)).flatten();
        let Some(another) = self.note_incarnation(heartbeat.incarnation, None, now) else {
            return Heard::strange(SenderStatus::taken(&self.url));
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
            status: SenderStatus {
                taken: None,
                reached: self.handshake == Handshake::Answered,
                unproved: self.handshake == Handshake::Pending,
            },
            changed: another || leaves,
            outlived,
        }
    }

    /// Another process than the known one, which lives, says that it listens at the same address.
    fn note_claim(&mut self, incarnation: u64, now: Duration) -> SenderStatus {
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
        SenderStatus {
            taken: denied.then(|| self.url.clone()),
            reached: false,
            unproved,
        }
    }

    /// Notes the incarnation that sent a heartbeat, or that answered the heartbeat of `asked`. `None`: the message comes from the one
    /// before, and this one may still run. `Some(true)`: it is a new one.
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
        // What answers now is what is told: it may have hung, and be back.
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

    /// For how long nothing has come from it, once a heartbeat went unanswered.
    fn unreachable_for(&self, now: Duration) -> Option<Duration> {
        let since = self.unreachable_since?.max(self.last_heard);
        Some(now.saturating_sub(since))
    }

    pub(super) fn is_lost(&self, now: Duration) -> bool {
        self.unreachable_for(now)
            .is_some_and(|unreachable_for| unreachable_for >= GONE_AFTER)
    }
}
