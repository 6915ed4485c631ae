//! How fast a stream brings its bytes, and what becomes of one that crawls.

use std::time::Duration;

use super::permits::Permit;

/// A read is judged by what comes while it is waited for this long.
const WINDOW: Duration = Duration::from_secs(1);

/// Fewer bytes in a window are crawling: a part of 8 MiB would take longer than eight minutes.
const LEAST_BYTES: u64 = 16 * 1024;

/// After this many windows in a row a read that crawls is broken off and begun again: the next connection may be well.
const WINDOWS: u32 = 10;

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
    /// It brings next to nothing, and no more reads may crawl.
    NoRoom,
}

impl StreamThroughput {
    /// How much longer to wait for it before it is judged.
    pub(super) fn due(&self) -> Duration {
        WINDOW.saturating_sub(self.waited)
    }

    /// Adds `bytes` that came after a wait.
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
    use super::super::permits::Permits;
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
        // No permit is free in the quick pool: it stays where it is.
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
