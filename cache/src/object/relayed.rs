//! A refusal that a peer got from S3 and passed on.

use std::sync::Arc;

use super::Said;

/// A refusal by S3, or by another node that asked it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Relayed {
    /// The status for a client.
    pub status: u16,
    /// S3's code, or Falcon's.
    pub code: String,
    /// The cause, in words.
    pub message: String,
    /// What else S3 said.
    pub said: Option<Arc<Said>>,
}
