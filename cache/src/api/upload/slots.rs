//! Slots for uploads. An upload needs one when it buffers more than a few bytes or sends a request to S3. While it
//! holds one it must keep up a rate, and no known caller holds more than half of the slots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::Caller;
use crate::web::failure::Failure;

/// The window over which the rate of a slot's holder is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// The bytes that must come in it: 16 KiB a second.
const LEAST_BYTES: u64 = 160 * 1024;

/// The slots of a node.
pub(crate) struct UploadSlots {
    all: Arc<Semaphore>,
    share: usize,
    /// The share of each known caller.
    callers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A slot that is held.
pub(super) struct UploadSlot {
    _own: Option<OwnedSemaphorePermit>,
    _any: OwnedSemaphorePermit,
}

impl UploadSlots {
    /// `all` slots, half of them for each known caller.
    pub(crate) fn new(all: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            share: all.div_ceil(2),
            callers: Mutex::default(),
        }
    }

    /// A slot for this caller; `503` when none comes free in time.
    pub(super) async fn take(&self, who: &Caller, wait: Duration) -> Result<UploadSlot, Failure> {
        let own = self.own(who);
        let slot = async {
            let own = match own {
                Some(own) => Some(own.acquire_owned().await.ok()?),
                None => None,
            };
            let any = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(UploadSlot {
                _own: own,
                _any: any,
            })
        };
        let slot = timeout(wait, slot).await.ok().flatten();
        slot.ok_or_else(|| {
            Failure::later("TooManyUploads", "too many uploads are running: try again")
        })
    }

    fn own(&self, who: &Caller) -> Option<Arc<Semaphore>> {
        let Caller::Known(principal) = who else {
            return None;
        };
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // Callers that hold nothing are forgotten: the access file may name others by now.
        callers.retain(|_, own| Arc::strong_count(own) > 1);
        let own = callers
            .entry(principal.name.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(self.share)));
        Some(Arc::clone(own))
    }
}

/// How fast a client sends while it holds a slot.
#[derive(Default)]
pub(super) struct SendRate {
    bytes: u64,
    waited: Duration,
}

impl SendRate {
    /// Counts bytes that came after a wait; `408` when they are too few for a slot.
    pub(super) fn record(&mut self, bytes: usize, waited: Duration) -> Result<(), Failure> {
        self.bytes += bytes as u64;
        self.waited += waited;
        if self.waited < WINDOW {
            return Ok(());
        }
        let windows = self.waited.as_secs_f64() / WINDOW.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let keeps = self.bytes as f64 >= windows * LEAST_BYTES as f64;
        *self = Self::default();
        if keeps {
            return Ok(());
        }
        Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            "an upload of more than 64 KiB must send at least 16 KiB a second: others are waiting for its slot",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_judged_by_the_time_that_is_waited_for_bytes() {
        let mut rate = SendRate::default();
        let least = usize::try_from(LEAST_BYTES).unwrap();
        assert!(rate.record(1, WINDOW / 2).is_ok());
        assert!(rate.record(least, WINDOW / 2).is_ok());
        assert!(rate.record(least, WINDOW.mul_f64(0.99)).is_ok());
        assert!(rate.record(0, WINDOW).is_err());
        // 100 kB/s, however it comes.
        assert!(rate.record(3_000_000, 3 * WINDOW).is_ok());
    }

    #[tokio::test]
    async fn there_are_turns_for_so_many_and_no_more() {
        let turns = UploadSlots::new(2);
        let who = Caller::Anybody;
        let first = turns.take(&who, Duration::ZERO).await.ok().unwrap();
        let _second = turns.take(&who, Duration::ZERO).await.ok().unwrap();
        let refused = turns.take(&who, Duration::ZERO).await.err().unwrap();
        assert_eq!(refused.code(), "TooManyUploads");
        drop(first);
        assert!(turns.take(&who, Duration::ZERO).await.is_ok());
    }
}
