//! A timer that costs next to nothing while there is progress: it is set once, and checks again when it fires.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time limit of one wait.
pub(super) struct Deadline {
    after: Duration,
    until: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Not armed yet.
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after,
            until: None,
            sleep: None,
        }
    }

    /// Starts the wait, unless it is already running.
    pub(super) fn arm(&mut self) {
        if self.until.is_none() {
            self.arm_at(Instant::now());
        }
    }

    /// Restarts the wait at `now`.
    pub(super) fn arm_at(&mut self, now: Instant) {
        self.until = Some(now + self.after);
    }

    /// Ends the wait. The timer itself is left alone: resetting it for each wait would cost more.
    pub(super) fn disarm(&mut self) {
        self.until = None;
    }

    /// True while the wait runs.
    pub(super) fn is_armed(&self) -> bool {
        self.until.is_some()
    }

    /// True when the wait has lasted too long; otherwise the task is woken when it has.
    pub(super) fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(until) = self.until else {
            return false;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        // Set for an earlier wait, it fires before the end of this one.
        while let Poll::Ready(()) = sleep.as_mut().poll(cx) {
            if Instant::now() >= until {
                return true;
            }
            sleep.as_mut().reset(until);
        }
        false
    }
}
