//! The access log: a debug line for each request, and a warning for each that failed at this node or behind it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::failure::Failure;
use super::request_id;

/// Warnings in a second; what fails for one client often fails for all at the same moment.
const WARNINGS: u64 = 10;

/// True when each request has a line in the log.
pub(super) fn is_on() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// The line of one request, collected only when the log [is on](is_on).
pub(super) struct AccessLogEntry {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) status: StatusCode,
    pub(super) source: &'static str,
    pub(super) bypass: Option<&'static str>,
    pub(super) code: Option<String>,
    pub(super) id: HeaderValue,
}

impl AccessLogEntry {
    /// Writes the line, once the answer is sent or cut.
    pub(super) fn write(&self, sent: u64, took: Duration, whole: bool) {
        tracing::debug!(
            method = %self.method, path = self.path, key = self.key, status = self.status.as_u16(), source = self.source,
            bypass = self.bypass, bytes = sent, ms = took.as_secs_f64() * 1000.0, request_id = request_id::text(&self.id), code = self.code,
            "{}", if whole { "answered" } else { "cut" }
        );
    }
}

/// Warns of failed requests, a few in each second.
pub(super) struct Warnings {
    start: Instant,
    second: AtomicU64,
    count: AtomicU64,
}

impl fmt::Debug for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Warnings")
    }
}

impl Warnings {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            second: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// Warns that this request failed, unless there were enough warnings in this second.
    pub(super) fn warn(&self, method: &Method, path: &str, failure: &Failure, id: &HeaderValue) {
        let Some(left_out) = self.allow() else {
            return;
        };
        tracing::warn!(
            %method, path, key = failure.key(), bucket = failure.bucket(), status = failure.status().as_u16(),
            code = failure.code(), request_id = request_id::text(id), left_out, "{}", failure.message()
        );
    }

    /// `None` when there were enough in this second; else how many were left out in the one before.
    fn allow(&self) -> Option<u64> {
        let now = self.start.elapsed().as_secs();
        let before = if self.second.swap(now, Ordering::Relaxed) == now {
            0
        } else {
            self.count.swap(0, Ordering::Relaxed)
        };
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        (count < WARNINGS).then(|| before.saturating_sub(WARNINGS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn warnings_are_limited_and_the_rest_is_counted() {
        let warnings = Warnings::new();
        let let_through = (0..25).filter(|_| warnings.allow().is_some()).count();
        assert_eq!(let_through as u64, WARNINGS);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(warnings.allow(), Some(15));
        assert_eq!(warnings.allow(), Some(0));
    }
}
