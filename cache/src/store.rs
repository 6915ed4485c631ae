//! What this node holds. Only the words that others need stand here yet.

/// What an invalidation threw out at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Heads thrown out.
    pub heads: u64,
    /// Blocks thrown out.
    pub blocks: u64,
}
