//! Asking another node. Only the words on the wire stand here yet.

use serde::{Deserialize, Serialize};

use crate::object::Scope;

/// How another node is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// The node's name.
    pub name: String,
    /// Where it listens, as `http://HOST:PORT`.
    pub url: String,
}

/// A node tells who it is, that it lives, and whom it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's name.
    pub name: String,
    /// Where the sender listens.
    pub url: String,
    /// Drawn at random when the process started: another one is another incarnation.
    pub boot: u64,
    /// The sender owns nothing any more and is about to stop.
    pub leaving: bool,
    /// Whom the sender knows.
    pub members: Vec<Contact>,
}

/// The answer to a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The answerer's name.
    pub name: String,
    /// The answerer's incarnation.
    pub boot: u64,
    /// Whom the answerer knows.
    pub members: Vec<Contact>,
}

/// Invalidate this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What is to be forgotten.
    pub scope: Scope,
    /// The coordinator's name.
    pub from: String,
}

/// The answer to an [`Order`]: it has been carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The answerer's name.
    pub name: String,
    /// Heads that it threw out.
    pub dropped_heads: u64,
    /// Blocks that it threw out.
    pub dropped_blocks: u64,
    /// Whom the answerer knows.
    pub members: Vec<Contact>,
}

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("the peer can't be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// It answered with a failure.
    #[error("the peer refused with {status}: {message}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// The body's text.
        message: String,
    },
    /// The answer is not what was agreed on.
    #[error("the peer's answer makes no sense: {0}")]
    Broken(String),
}
