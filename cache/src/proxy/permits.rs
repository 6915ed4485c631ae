//! Reads from S3 that may run at one moment. One that crawls steps aside and is counted among its like, so that it holds up no
//! other; and there is an end to these, too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A read is judged by what comes in this time of waiting for it.
const WINDOW: Duration = Duration::from_secs(1);

/// Less than so many bytes in a window is crawling: a part of 8 MiB would take longer than eight minutes.
const LEAST_BYTES: u64 = 16 * 1024;

/// After so many windows in a row a read that crawls is broken off and asked for again: the next connection may be well.
const WINDOWS: u32 = 10;

/// Reads that crawl hold a block each; together they may hold this part of all memory.
const MEMORY_PART: u64 = 4;

/// Who may read from S3.
pub(super) struct Permits {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    reads: usize,
    crawlers: usize,
}

impl Permits {
    /// So many `reads`, and beside them as many that crawl, if a quarter of the `memory` has room for their blocks.
    pub(super) fn new(reads: usize, memory: u64, block: u64) -> Self {
        let room = usize::try_from(memory / MEMORY_PART / block.max(1)).unwrap_or(usize::MAX);
        let crawlers = room.clamp(1, reads.max(1));
        Self {
            quick: Arc::new(Semaphore::new(reads)),
            slow: Arc::new(Semaphore::new(crawlers)),
            reads,
            crawlers,
        }
    }

    /// The permit for one read, when its turn comes.
    pub(super) async fn take(&self) -> Option<Permit> {
        let held = Arc::clone(&self.quick).acquire_owned().await.ok()?;
        Some(Permit {
            held,
            quick: Arc::clone(&self.quick),
            slow: Arc::clone(&self.slow),
            crawls: false,
        })
    }

    /// Reads that run now: those that go on, and those that crawl.
    pub(super) fn running(&self) -> (u64, u64) {
        let taken = |all: usize, pool: &Semaphore| all.saturating_sub(pool.available_permits());
        (
            taken(self.reads, &self.quick) as u64,
            taken(self.crawlers, &self.slow) as u64,
        )
    }
}

/// Leave for one read from S3; it ends with this.
pub(super) struct Permit {
    held: OwnedSemaphorePermit,
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    crawls: bool,
}

impl Permit {
    /// Counts the read among those that crawl, or no longer. False when as many crawl as may.
    fn counts_as(&mut self, crawls: bool) -> bool {
        if self.crawls == crawls {
            return true;
        }
        let pool = if crawls { &self.slow } else { &self.quick };
        let Ok(held) = Arc::clone(pool).try_acquire_owned() else {
            // It runs on where it is, until there is room.
            return !crawls;
        };
        (self.held, self.crawls) = (held, crawls);
        true
    }
}

/// How fast one stream brings its bytes, by the time that it is waited for.
#[derive(Debug, Default)]
pub(super) struct StreamThroughput {
    came: u64,
    waited: Duration,
    crawled: u32,
}

/// What is to become of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpeedVerdict {
    /// It brings enough.
    Flows,
    /// It brings next to nothing.
    Crawls,
    /// It has done so for long.
    CrawlsOn,
    /// It does, and as many do as may.
    NoRoom,
}

impl StreamThroughput {
    /// For how much longer it may be waited for before it is judged.
    pub(super) fn due(&self) -> Duration {
        WINDOW.saturating_sub(self.waited)
    }

    /// So many bytes came, after so long a wait.
    pub(super) fn came(&mut self, bytes: u64, waited: Duration) {
        self.came += bytes;
        self.waited += waited;
    }

    /// Judges the window that is over; `None` while it is not.
    pub(super) fn judge(&mut self, permit: Option<&mut Permit>) -> Option<SpeedVerdict> {
        if self.waited < WINDOW {
            return None;
        }
        let windows = self.waited.as_secs_f64() / WINDOW.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let crawls = (self.came as f64) < windows * LEAST_BYTES as f64;
        (self.came, self.waited) = (0, Duration::ZERO);
        let has_room = permit.is_none_or(|permit| permit.counts_as(crawls));
        if !crawls {
            self.crawled = 0;
            return Some(SpeedVerdict::Flows);
        }
        self.crawled += 1;
        Some(match (has_room, self.crawled < WINDOWS) {
            (false, _) => SpeedVerdict::NoRoom,
            (true, true) => SpeedVerdict::Crawls,
            (true, false) => SpeedVerdict::CrawlsOn,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[tokio::test]
    async fn a_read_that_crawls_makes_room_and_comes_back_when_it_flows() {
        let permits = Permits::new(2, 64 * MIB, MIB);
        let mut slow = permits.take().await.unwrap();
        let _other = permits.take().await.unwrap();
        let mut throughput = StreamThroughput::default();
        throughput.came(LEAST_BYTES - 1, WINDOW / 2);
        assert_eq!(throughput.judge(Some(&mut slow)), None);
        throughput.came(0, WINDOW / 2);
        assert_eq!(
            throughput.judge(Some(&mut slow)),
            Some(SpeedVerdict::Crawls)
        );
        assert_eq!(permits.running(), (1, 1));
        let third = permits.take().await.unwrap();
        // There is no room for it among the quick: it stays where it is.
        throughput.came(LEAST_BYTES, WINDOW);
        assert_eq!(throughput.judge(Some(&mut slow)), Some(SpeedVerdict::Flows));
        assert_eq!(permits.running(), (2, 1));
        drop(third);
        throughput.came(LEAST_BYTES, WINDOW);
        assert_eq!(throughput.judge(Some(&mut slow)), Some(SpeedVerdict::Flows));
        assert_eq!(permits.running(), (2, 0));
    }

    #[tokio::test]
    async fn no_more_reads_crawl_than_may_and_none_for_ever() {
        // A quarter of the memory has room for one block.
        let permits = Permits::new(4, 4 * MIB, MIB);
        let mut crawling = permits.take().await.unwrap();
        let mut throughput = StreamThroughput::default();
        for window in 1..=WINDOWS {
            throughput.came(10, WINDOW);
            let verdict = throughput.judge(Some(&mut crawling)).unwrap();
            assert_eq!(verdict == SpeedVerdict::CrawlsOn, window == WINDOWS);
        }
        let mut another = permits.take().await.unwrap();
        let mut throughput = StreamThroughput::default();
        throughput.came(10, WINDOW);
        assert_eq!(
            throughput.judge(Some(&mut another)),
            Some(SpeedVerdict::NoRoom)
        );
        assert_eq!(permits.running(), (1, 1));
    }
}
