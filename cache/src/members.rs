//! Stand-in until the real module is merged.
#![expect(missing_docs, reason = "a stand-in")]
use std::sync::Arc;

use tokio::sync::watch;

use crate::ring::Ring;

pub struct Members;

impl Members {
    pub fn ring(&self) -> watch::Receiver<Arc<Ring>> {
        unreachable!()
    }
}
