//! When the StatefulSet's controller is made to retry creating pods: less often each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Identity;

/// The controller's own retries are this close together at first.
const FIRST: Duration = Duration::from_secs(10);
/// After the cause is removed, pods are created within this.
const LONGEST: Duration = Duration::from_mins(1);

/// By cache: when the next retry is due, and the pause after it.
#[derive(Debug, Default)]
pub(super) struct CreationRetries(Mutex<HashMap<String, (Instant, Duration)>>);

impl CreationRetries {
    /// Whether a retry is due; if so, schedules the next one.
    pub(super) fn take_due(&self, identity: &Identity) -> bool {
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

    /// Resets a cache whose pods are created again, or which is deleted.
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
    async fn retries_become_rarer_down_to_one_a_minute() {
        let retries = CreationRetries::default();
        let identity = Identity::default();
        let mut seconds = Vec::new();
        for second in 0..240 {
            if retries.take_due(&identity) {
                seconds.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(seconds, [10, 30, 70, 130, 190]);
        retries.forget(&identity);
        assert!(!retries.take_due(&identity), "from the beginning");
    }
}
