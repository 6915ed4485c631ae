//! stub
use crate::members::Members;
use crate::metrics::Metrics;
use crate::object::Scope;
use crate::peer::*;
use crate::store::Dropped;
use std::sync::Arc;
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
    pub async fn invalidate(&self, _s: Scope) -> Report {
        unreachable!()
    }
    pub fn ordered(&self, _o: &Order) -> Ack {
        unreachable!()
    }
    pub fn pending(&self) -> u64 {
        0
    }
    pub fn new(
        _m: Arc<Members>,
        _p: Peers,
        _f: Box<dyn Fn(&Scope) -> Dropped + Send + Sync>,
        _x: Arc<Metrics>,
        _s: tokio_util::sync::CancellationToken,
    ) -> Arc<Self> {
        unreachable!()
    }
}
