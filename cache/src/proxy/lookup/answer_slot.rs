//! S3's answer to a lookup, kept for one of the lookup's callers.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::origin::Reply;

/// An answer that can't be shared: the first reader that can use it takes it.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct AnswerSlot(Arc<Mutex<Option<Reply>>>);

impl AnswerSlot {
    pub(super) fn new(reply: Reply) -> Self {
        Self(Arc::new(Mutex::new(Some(reply))))
    }

    /// The answer, if it has not been taken yet and holds these bytes.
    pub(in crate::proxy) fn take(&self, range: &Range<u64>) -> Option<Reply> {
        let mut reply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reply.take_if(|reply| reply.holds(range))
    }
}
