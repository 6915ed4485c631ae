//! Bytes that were asked for and have not come yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts, for a node, the bytes that are still to come.
#[derive(Debug, Clone, Default)]
pub(in crate::proxy) struct ExpectedBytes(Arc<AtomicU64>);

/// Bytes that are counted as expected until they come, or until this is dropped.
pub(in crate::proxy) struct Expected {
    all: ExpectedBytes,
    mine: u64,
}

impl ExpectedBytes {
    /// Counts `bytes` from now on.
    pub(super) fn add(&self, bytes: u64) -> Expected {
        // A count by itself: it orders nothing else.
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Expected {
            all: self.clone(),
            mine: bytes,
        }
    }

    /// How many bytes are expected now.
    pub(super) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Expected {
    /// Counts `bytes` of them no longer.
    pub(super) fn settle(&mut self, bytes: u64) {
        let bytes = bytes.min(self.mine);
        self.mine -= bytes;
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.settle(self.mine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_ends_when_it_comes_or_is_given_up() {
        let all = ExpectedBytes::default();
        let mut first = all.add(10);
        let second = all.add(5);
        first.settle(4);
        assert_eq!(all.total(), 11);
        drop(second);
        assert_eq!(all.total(), 6);
        first.settle(100);
        assert_eq!(all.total(), 0);
        drop(first);
        assert_eq!(all.total(), 0);
    }
}
