//! One node, as another sees it: what discovery says of it, what it says itself, and since when it says nothing.

use std::time::Duration;

use crate::ring::State;

/// A node that discovery no longer names is told of invalidations until it has been silent for so long.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(10);

/// What came of the hellos that this node said to another's present incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    Unsaid,
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

#[derive(Debug)]
pub(super) struct Node {
    pub(super) url: String,
    pub(super) zone: Option<String>,
    boot: Option<u64>,
    /// The incarnation before, whose late messages count for nothing.
    former: Option<u64>,
    pub(super) listing: Option<Listing>,
    /// Discovery has said of this incarnation that it serves.
    pub(super) joined: bool,
    pub(super) leaving: bool,
    pub(super) silent_since: Option<Duration>,
    /// It has spoken to this node itself: known at first hand, not by another's word.
    pub(super) met: bool,
    last_heard: Duration,
    /// It answered this node: its own hellos prove only that it can be heard.
    pub(super) last_answer: Duration,
    pub(super) greeting: Greeting,
}

impl Node {
    pub(super) fn new(url: String, now: Duration) -> Self {
        Self {
            url,
            zone: None,
            boot: None,
            former: None,
            listing: None,
            joined: false,
            leaving: false,
            silent_since: None,
            met: false,
            last_heard: now,
            last_answer: now,
            greeting: Greeting::Unsaid,
        }
    }

    pub(super) fn state(&self, listing: &Listing) -> State {
        if listing.terminating || self.leaving {
            State::Leaving
        } else if !self.joined {
            State::Joining
        } else if self.silent_since.is_some() {
            State::Silent
        } else {
            State::Serving
        }
    }

    /// Another process under the old name: what was known of the old one is void.
    pub(super) fn start_over(&mut self) {
        self.joined = self.listing.as_ref().is_some_and(|now| now.serving);
        self.leaving = false;
        self.greeting = Greeting::Unsaid;
    }

    /// Notes the incarnation. `None`: the message comes from the one before. `Some(true)`: it is a new one.
    pub(super) fn incarnation(&mut self, boot: u64) -> Option<bool> {
        if self.boot == Some(boot) {
            return Some(false);
        }
        if self.former == Some(boot) {
            return None;
        }
        self.former = self.boot.replace(boot);
        if self.former.is_none() {
            return Some(false);
        }
        self.start_over();
        Some(true)
    }

    pub(super) fn hear(&mut self, now: Duration) {
        self.met = true;
        self.last_heard = now;
    }

    /// For how long nothing has come from it, once a hello went unanswered.
    fn silence(&self, now: Duration) -> Option<Duration> {
        let since = self.silent_since?.max(self.last_heard);
        Some(now.saturating_sub(since))
    }

    pub(super) fn long_silent(&self, now: Duration) -> bool {
        self.silence(now)
            .is_some_and(|silence| silence >= GONE_AFTER)
    }
}
