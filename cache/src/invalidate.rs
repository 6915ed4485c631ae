//! Stand-in until the real module is merged.
#![expect(missing_docs, clippy::unused_async, reason = "a stand-in")]
use crate::object::Scope;

#[derive(Debug, Clone)]
pub struct Report {
    pub complete: bool,
    pub nodes: Vec<NodeReport>,
}

#[derive(Debug, Clone)]
pub struct NodeReport {
    pub name: String,
    pub answered: bool,
    pub dropped_heads: u64,
    pub dropped_blocks: u64,
    pub error: Option<String>,
}

pub struct Invalidator;

impl Invalidator {
    pub async fn invalidate(&self, _scope: Scope) -> Report {
        unreachable!()
    }
}
