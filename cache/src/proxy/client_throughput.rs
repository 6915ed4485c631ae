//! Clients' throughput: a slow client is given copies, so that no block is held for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::ClientSpeed;

/// A client that takes less per second is slow: it would hold a block of 1 MiB for two seconds.
const SLOW_BYTES_A_SECOND: f64 = 512.0 * 1024.0;

/// What a client was given since it was last judged, and how long it was waited for.
pub(super) struct ClientThroughput {
    speed: ClientSpeed,
    bytes: u64,
    took: Duration,
    waited_since: Option<Instant>,
}

impl ClientThroughput {
    pub(super) fn new() -> Self {
        Self {
            speed: ClientSpeed::Unknown,
            bytes: 0,
            took: Duration::ZERO,
            waited_since: None,
        }
    }

    /// It has been given `bytes`, and is waited for.
    pub(super) fn given(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.waits();
    }

    /// It is waited for, until [`Self::is_there`].
    pub(super) fn waits(&mut self) {
        self.waited_since = Some(Instant::now());
    }

    /// It takes more.
    pub(super) fn is_there(&mut self) {
        if let Some(since) = self.waited_since.take() {
            self.took += since.elapsed();
        }
    }

    /// How fast it took what it was given since this was last asked.
    pub(super) fn judge(&mut self) -> ClientSpeed {
        if self.bytes > 0 {
            let due = self.took.as_secs_f64() * SLOW_BYTES_A_SECOND;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let slow = due > self.bytes as f64;
            self.speed = if slow {
                ClientSpeed::Slow
            } else {
                ClientSpeed::Fast
            };
            (self.bytes, self.took) = (0, Duration::ZERO);
        }
        self.speed
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_is_judged_by_the_time_that_it_is_waited_for_and_by_no_other() {
        let mut client = ClientThroughput::new();
        assert_eq!(client.judge(), ClientSpeed::Unknown);
        // S3 is slow, not the client.
        advance(Duration::from_mins(1)).await;
        client.given(1 << 20);
        advance(Duration::from_millis(1900)).await;
        client.is_there();
        assert_eq!(client.judge(), ClientSpeed::Fast);
        client.given(16 << 10);
        client.is_there();
        client.waits();
        advance(Duration::from_millis(100)).await;
        client.is_there();
        assert_eq!(client.judge(), ClientSpeed::Slow);
        client.given(1 << 20);
        client.is_there();
        assert_eq!(client.judge(), ClientSpeed::Fast);
    }
}
