//! What is counted, by name.

use std::time::Duration;

/// The counters of a node.
#[derive(Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// The origin answered `op`, with S3's error code or `ok`, after `took`.
    pub fn origin_answered(&self, op: &'static str, code: &str, took: Duration) {
        let _ = (op, code, took);
    }

    /// `n` bytes of object bodies came from the origin.
    pub fn origin_bytes(&self, n: u64) {
        let _ = n;
    }
}
