//! Whose turn it is: a large answer leaves in slices, so that a small one that is asked for meanwhile waits for few of its bytes.
//! A slice costs a call and a turn of its task; so where nothing small is asked for, slices are long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;

/// How long a small answer keeps slices short. Nodes greet each other some times a second, and probes come too: these don't count for much.
const LATELY: Duration = Duration::from_millis(10);

/// What the connections of a node know of each other.
pub struct Turns {
    since: Instant,
    /// Microseconds after `since` until which slices are short.
    short_until: AtomicU64,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            short_until: AtomicU64::new(0),
        }
    }
}

impl Turns {
    fn micros(&self, now: Instant) -> u64 {
        let micros = now.saturating_duration_since(self.since).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    fn are_short(&self, now: Instant) -> bool {
        self.micros(now) < self.short_until.load(Ordering::Relaxed)
    }

    /// An answer of so many bytes begins; it is small if it fits into a `slice`.
    pub(super) fn begins(&self, bytes: u64, slice: usize, now: Instant) {
        if bytes <= slice as u64 {
            let until = self.micros(now + LATELY);
            self.short_until.store(until, Ordering::Relaxed);
        }
    }
}

/// One connection's turn.
pub(super) struct Turn {
    turns: Arc<Turns>,
    slice: usize,
    long_slice: usize,
    written: usize,
}

impl Turn {
    pub(super) fn new(turns: &Arc<Turns>, limits: &Limits) -> Self {
        let slice = limits.slice.max(1);
        Self {
            turns: Arc::clone(turns),
            slice,
            long_slice: limits.long_slice.max(slice),
            written: 0,
        }
    }

    /// An answer of so many bytes begins on it.
    pub(super) fn begins(&self, bytes: u64, now: Instant) {
        self.turns.begins(bytes, self.slice, now);
    }

    /// How many of `wanted` bytes may be written now; `None` when it is the others' turn.
    pub(super) fn take(&mut self, wanted: usize) -> Option<usize> {
        let fits = self.written.saturating_add(wanted) <= self.slice;
        let most = if fits || self.turns.are_short(Instant::now()) {
            self.slice
        } else {
            self.long_slice
        };
        if self.written >= most {
            self.ends();
            return None;
        }
        Some(wanted.min(most))
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// The others come before the next byte.
    pub(super) fn ends(&mut self) {
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slices_are_short_while_small_answers_are_asked_for_and_long_otherwise() {
        let limits = Limits {
            slice: 100,
            long_slice: 1000,
            ..Limits::default()
        };
        let turns = Arc::default();
        let (mut bulk, other) = (Turn::new(&turns, &limits), Turn::new(&turns, &limits));
        other.begins(101, Instant::now());
        assert_eq!(bulk.take(5000), Some(1000));
        bulk.wrote(1000);
        assert_eq!(bulk.take(4000), None);
        other.begins(100, Instant::now());
        assert_eq!(bulk.take(4000), Some(100));
        bulk.wrote(100);
        assert_eq!(bulk.take(3900), None);
        assert_eq!(bulk.take(3900), Some(100));
        bulk.wrote(60);
        assert_eq!(bulk.take(3840), Some(100));
        bulk.ends();
        advance(LATELY).await;
        assert_eq!(bulk.take(3840), Some(1000));
    }
}
