//! Whether this node may be sent requests. The node says so; `/readyz` passes it on.

/// Whether this node may be sent requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// Listening, the ring known, heartbeats sent.
    Yes,
    /// Not yet, or no longer: why.
    No(String),
}
