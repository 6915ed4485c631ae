//! Whose turn it is: a large answer leaves in slices, so that a small one that is asked for meanwhile waits for few of its bytes.
//! A slice costs a call and a turn of its task; so where nothing small is asked for and few write, slices are long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;

/// How long a small answer keeps slices short. Nodes greet each other some times a second, and probes come too: these don't count for much.
const LATELY: Duration = Duration::from_millis(10);

/// What all who wait for their turn write until it is the first one's again, unless slices are short. A greeting that comes meanwhile waits
/// for as much, a millisecond or two: a node that answers late is taken for a lost one.
const ROUND: usize = 8 << 20;

/// What the connections of a node know of each other.
pub struct Turns {
    since: Instant,
    /// Connections that have more to write and wait for their turn.
    waiting: AtomicUsize,
    /// Microseconds after `since` until which slices are short.
    short_until: AtomicU64,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            waiting: AtomicUsize::new(0),
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
    waits: bool,
}

impl Turn {
    pub(super) fn new(turns: &Arc<Turns>, limits: &Limits) -> Self {
        let slice = limits.slice.max(1);
        Self {
            turns: Arc::clone(turns),
            slice,
            long_slice: limits.long_slice.max(slice),
            written: 0,
            waits: false,
        }
    }

    /// An answer of so many bytes begins on it.
    pub(super) fn begins(&self, bytes: u64, now: Instant) {
        self.turns.begins(bytes, self.slice, now);
    }

    /// How many of `wanted` bytes may be written now; `None` when it is the others' turn.
    pub(super) fn take(&mut self, wanted: usize) -> Option<usize> {
        self.comes();
        let fits = self.written.saturating_add(wanted) <= self.slice;
        let most = if fits || self.turns.are_short(Instant::now()) {
            self.slice
        } else {
            let writers = self.turns.waiting.load(Ordering::Relaxed) + 1;
            (ROUND / writers).clamp(self.slice, self.long_slice)
        };
        if self.written >= most {
            self.ends();
            self.waits = true;
            self.turns.waiting.fetch_add(1, Ordering::Relaxed);
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

    fn comes(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.turns.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.comes();
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

    #[tokio::test(start_paused = true)]
    async fn the_more_wait_for_their_turn_the_shorter_it_is() {
        let limits = Limits::default();
        let turns = Arc::default();
        let mut writers: Vec<Turn> = (0..1000).map(|_| Turn::new(&turns, &limits)).collect();
        let most = 1 << 30;
        for (count, length) in [(1, 512 << 10), (32, ROUND / 32), (1000, 64 << 10)] {
            for writer in &mut writers[..count - 1] {
                writer.wrote(most);
                assert_eq!(writer.take(most), None);
            }
            assert_eq!(writers[count - 1].take(most), Some(length));
        }
        writers.truncate(1);
        assert_eq!(writers[0].take(most), Some(512 << 10));
    }
}
