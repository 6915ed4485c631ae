//! Fair write scheduling: a large answer is written in quanta, so that a small one waits for few of its bytes. Each
//! quantum costs a system call and a turn of its task, so quanta are long while no small answer is due and few
//! connections write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;

/// How long a small answer keeps quanta short. Heartbeats and probes come several times a second, and should not count
/// for much.
const LATELY: Duration = Duration::from_millis(10);

/// The bytes that all waiting connections write in one round while quanta are long. A heartbeat that comes meanwhile
/// waits for as many, a millisecond or two: a node that answers late is taken for a lost one.
const ROUND: usize = 8 << 20;

/// What the connections of a node share.
pub struct WriteScheduler {
    since: Instant,
    /// Connections that have more to write and wait for their turn.
    waiting: AtomicUsize,
    /// Microseconds after `since` until which quanta are short.
    short_quantum_until: AtomicU64,
}

impl Default for WriteScheduler {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            waiting: AtomicUsize::new(0),
            short_quantum_until: AtomicU64::new(0),
        }
    }
}

impl WriteScheduler {
    fn micros(&self, now: Instant) -> u64 {
        let micros = now.saturating_duration_since(self.since).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    fn is_quantum_short(&self, now: Instant) -> bool {
        self.micros(now) < self.short_quantum_until.load(Ordering::Relaxed)
    }

    /// An answer of `bytes` begins; it is small if it fits into a `quantum`.
    pub(super) fn note_response(&self, bytes: u64, quantum: usize, now: Instant) {
        if bytes <= quantum as u64 {
            let until = self.micros(now + LATELY);
            self.short_quantum_until.store(until, Ordering::Relaxed);
        }
    }
}

/// One connection's turn.
pub(super) struct WriteTurn {
    scheduler: Arc<WriteScheduler>,
    quantum: usize,
    long_quantum: usize,
    written: usize,
    waits: bool,
}

impl WriteTurn {
    pub(super) fn new(scheduler: &Arc<WriteScheduler>, limits: &Limits) -> Self {
        let quantum = limits.quantum.max(1);
        Self {
            scheduler: Arc::clone(scheduler),
            quantum,
            long_quantum: limits.long_quantum.max(quantum),
            written: 0,
            waits: false,
        }
    }

    /// An answer of `bytes` begins on this connection.
    pub(super) fn note_response(&self, bytes: u64, now: Instant) {
        self.scheduler.note_response(bytes, self.quantum, now);
    }

    /// How many of `wanted` bytes may be written now; `None` when it is the others' turn.
    pub(super) fn grant(&mut self, wanted: usize) -> Option<usize> {
        self.leave_queue();
        let fits = self.written.saturating_add(wanted) <= self.quantum;
        let most = if fits || self.scheduler.is_quantum_short(Instant::now()) {
            self.quantum
        } else {
            let writers = self.scheduler.waiting.load(Ordering::Relaxed) + 1;
            (ROUND / writers).clamp(self.quantum, self.long_quantum)
        };
        if self.written >= most {
            self.end();
            self.waits = true;
            self.scheduler.waiting.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(wanted.min(most))
    }

    /// Counts the bytes that were written.
    pub(super) fn note_written(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// The others come before the next byte.
    pub(super) fn end(&mut self) {
        self.written = 0;
    }

    fn leave_queue(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.scheduler.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for WriteTurn {
    fn drop(&mut self) {
        self.leave_queue();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quanta_are_short_while_small_answers_are_asked_for_and_long_otherwise() {
        let limits = Limits {
            quantum: 100,
            long_quantum: 1000,
            ..Limits::default()
        };
        let scheduler = Arc::default();
        let (mut bulk, other) = (
            WriteTurn::new(&scheduler, &limits),
            WriteTurn::new(&scheduler, &limits),
        );
        other.note_response(101, Instant::now());
        assert_eq!(bulk.grant(5000), Some(1000));
        bulk.note_written(1000);
        assert_eq!(bulk.grant(4000), None);
        other.note_response(100, Instant::now());
        assert_eq!(bulk.grant(4000), Some(100));
        bulk.note_written(100);
        assert_eq!(bulk.grant(3900), None);
        assert_eq!(bulk.grant(3900), Some(100));
        bulk.note_written(60);
        assert_eq!(bulk.grant(3840), Some(100));
        bulk.end();
        advance(LATELY).await;
        assert_eq!(bulk.grant(3840), Some(1000));
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_wait_for_their_turn_the_shorter_it_is() {
        let limits = Limits::default();
        let scheduler = Arc::default();
        let mut writers: Vec<WriteTurn> = (0..1000)
            .map(|_| WriteTurn::new(&scheduler, &limits))
            .collect();
        let most = 1 << 30;
        for (count, length) in [(1, 512 << 10), (32, ROUND / 32), (1000, 64 << 10)] {
            for writer in &mut writers[..count - 1] {
                writer.note_written(most);
                assert_eq!(writer.grant(most), None);
            }
            assert_eq!(writers[count - 1].grant(most), Some(length));
        }
        writers.truncate(1);
        assert_eq!(writers[0].grant(most), Some(512 << 10));
    }
}
