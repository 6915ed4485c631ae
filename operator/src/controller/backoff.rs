//! Exponential back-off per cache.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::plan::Identity;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// Failures in a row, by cache.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<(String, String), u32>>);

impl Backoff {
    /// Counts a failure, and returns how long to wait: doubled each time, with jitter from half of it to all of it.
    pub(super) fn record_failure(&self, identity: &Identity) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key(identity)).or_insert(0);
        *count = count.saturating_add(1);
        let whole = FIRST
            .saturating_mul(1_u32.checked_shl(*count - 1).unwrap_or(u32::MAX))
            .min(LONGEST);
        whole / 2 + (whole / 2).mul_f64(random_fraction())
    }

    /// Failures in a row.
    pub(super) fn failures(&self, identity: &Identity) -> u32 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key(identity))
            .copied()
            .unwrap_or(0)
    }

    /// Resets a cache that was reconciled or deleted.
    pub(super) fn forget(&self, identity: &Identity) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key(identity));
    }

    /// Number of caches that are backing off.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Up to a tenth less or more, so that a thousand caches are not reconciled in the same second.
pub(super) fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + 0.2 * random_fraction())
}

fn key(identity: &Identity) -> (String, String) {
    (identity.namespace.clone(), identity.name.clone())
}

/// From 0 to 1. Without random numbers there is merely no jitter.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cache_waits_longer_each_time_and_on_its_own() {
        let named = |name: &str| Identity {
            name: name.to_owned(),
            ..Identity::default()
        };
        let (poisoned, healthy) = (named("poisoned"), named("healthy"));
        let backoff = Backoff::default();
        for doubled in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let pause = backoff.record_failure(&poisoned);
            assert!(
                pause >= Duration::from_secs(doubled) / 2 && pause <= Duration::from_secs(doubled),
                "{doubled}: {pause:?}"
            );
        }
        for _ in 0..100 {
            backoff.record_failure(&poisoned);
        }
        assert!(backoff.record_failure(&healthy) <= FIRST);
        backoff.forget(&poisoned);
        assert!(backoff.record_failure(&poisoned) <= FIRST);
        assert_eq!(backoff.len(), 2);
    }
}
