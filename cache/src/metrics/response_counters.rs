//! The counters of the answers of one API from one source: otherwise each hit would look up six of them by name.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

/// Handles to the counters that [`Metrics::request`](super::Metrics::request) and similar methods find by their labels.
#[derive(Debug)]
pub struct ResponseCounters {
    pub(super) whole_objects: Counter,
    pub(super) parts: Counter,
    pub(super) first_byte: Histogram,
    pub(super) ended: Histogram,
    pub(super) cut: Counter,
    pub(super) sent: Counter,
}

impl ResponseCounters {
    /// The first byte of an answer has left, `took` after its request: of a `200`, or of a `206` when it is `partial`.
    pub fn begun(&self, partial: bool, took: Duration) {
        let status = if partial {
            &self.parts
        } else {
            &self.whole_objects
        };
        status.inc();
        self.first_byte.observe(took.as_secs_f64());
    }

    /// It has ended after `bytes` of its body; `whole` is false when it was cut.
    pub fn ended(&self, bytes: u64, took: Duration, whole: bool) {
        self.ended.observe(took.as_secs_f64());
        self.sent.inc_by(bytes);
        if !whole {
            self.cut.inc();
        }
    }
}
