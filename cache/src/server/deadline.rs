//! A timer that costs nothing while nobody waits: armed when something stands still, forgotten when it moves.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// One bound on one wait.
pub(super) struct Deadline {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Deadline {
    /// Not armed yet.
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after,
            sleep: None,
            armed: false,
        }
    }

    /// Starts the wait; one that runs already goes on.
    pub(super) fn arm(&mut self) {
        if self.armed {
            return;
        }
        self.armed = true;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(Instant::now() + self.after),
            None => self.sleep = Some(Box::pin(sleep(self.after))),
        }
    }

    /// Ends the wait. The timer itself is left alone: setting it anew for each byte would cost more.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    /// True when the wait has lasted too long; otherwise the task is woken when it has.
    pub(super) fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        self.armed
            && self
                .sleep
                .as_mut()
                .is_some_and(|sleep| matches!(sleep.as_mut().poll(cx), Poll::Ready(())))
    }
}
