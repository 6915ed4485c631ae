//! Reading past the cache: S3's answer is streamed to one reader, and nothing of it is stored.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::Error;
use crate::metrics::Metrics;
use crate::object::BypassReason;
use crate::origin::{OriginBody, Reply};
use crate::store::{Charge, Kind, Store};

/// What a reader past the cache holds of its stream: the client's read buffer and what is being sent.
const BUFFERED: u64 = 512 * 1024;

/// The bytes of S3's answer that are still to be given, and the charge for what is buffered of it.
pub(super) struct Bypass {
    body: OriginBody,
    skip: u64,
    left: u64,
    reason: BypassReason,
    metrics: Arc<Metrics>,
    _charge: Charge,
}

impl Bypass {
    /// Reserves the memory for one; waits for it up to `patience`. Done before S3 is asked.
    pub(super) async fn reserve(store: &Store, patience: Duration) -> Result<Charge, Error> {
        let charge = store.reserve(Kind::Replicas, BUFFERED, patience).await;
        charge.ok_or(Error::NoMemory)
    }

    /// The bytes `range` of an answer that holds them.
    pub(super) fn new(
        reply: Reply,
        range: &Range<u64>,
        charge: Charge,
        reason: BypassReason,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            reason,
            metrics,
            skip: range.start.saturating_sub(reply.range.start),
            left: range.end - range.start,
            body: reply.body,
            _charge: charge,
        }
    }

    /// The next bytes; `None` after the last of the range.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        while self.left > 0 {
            let mut bytes = match self.body.next().await? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(Error::Origin(error))),
            };
            let within = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
            let skipped = bytes.split_to(within(self.skip).min(bytes.len()));
            self.skip -= skipped.len() as u64;
            bytes.truncate(within(self.left));
            self.left -= bytes.len() as u64;
            if !bytes.is_empty() {
                self.metrics
                    .bypassed(self.reason.as_str(), bytes.len() as u64);
                return Some(Ok(bytes));
            }
        }
        None
    }
}
