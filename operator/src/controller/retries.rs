//! When the StatefulSet's controller is asked to try again to create pods: more seldom each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Identity;

/// The controller's own tries are this close together at first.
const FIRST: Duration = Duration::from_secs(10);
/// Whoever has removed the cause waits for no longer than this.
const LONGEST: Duration = Duration::from_mins(1);

/// By cache: when the next request is due, and the pause after it.
#[derive(Debug, Default)]
pub(super) struct Retries(Mutex<HashMap<String, (Instant, Duration)>>);

impl Retries {
    /// Whether it is time; then the next time is later.
    pub(super) fn is_due(&self, identity: &Identity) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (due, pause) = all
            .entry(identity.uid.clone())
            .or_insert((now + FIRST, FIRST));
        if now < *due {
            return false;
        }
        *pause = (*pause * 2).min(LONGEST);
        *due = now + *pause;
        true
    }

    /// Pods are created again, or the cache is gone.
    pub(super) fn forget(&self, identity: &Identity) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&identity.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_become_rarer_down_to_one_a_minute() {
        let retries = Retries::default();
        let identity = Identity::default();
        let mut seconds = Vec::new();
        for second in 0..240 {
            if retries.is_due(&identity) {
                seconds.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(seconds, [10, 30, 70, 130, 190]);
        retries.forget(&identity);
        assert!(!retries.is_due(&identity), "from the beginning");
    }
}
