//! Asking another node.

use serde::{Deserialize, Serialize};

/// A node's name and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// What places it in the ring.
    pub name: String,
    /// Where it listens, as `http://HOST:PORT`.
    pub url: String,
}
