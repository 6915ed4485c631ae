//! The state of a node, for its metrics.

use std::sync::Arc;

use crate::invalidate::Invalidator;
use crate::members::Members;
use crate::metrics::{Metrics, Snapshot};
use crate::proxy::Proxy;
use crate::ring::MemberState;
use crate::store::Kind;

/// Lets each scrape read the state.
pub(super) fn observe(
    metrics: &Metrics,
    proxy: &Proxy,
    members: &Arc<Members>,
    invalidator: &Invalidator,
) {
    let (proxy, ring, invalidator) = (proxy.clone(), members.ring(), invalidator.clone());
    metrics.observe(move || {
        let (stats, budget) = (proxy.store().stats(), proxy.store().budget());
        let (normal, slow) = proxy.origin_reads();
        let in_state = |state: MemberState| {
            ring.borrow()
                .members()
                .iter()
                .filter(|member| member.state == state)
                .count() as u64
        };
        Snapshot {
            blocks: stats.blocks,
            heads: stats.heads,
            cached_bytes: vec![
                ("owned", stats.owned_bytes),
                ("replica", stats.replica_bytes),
            ],
            evictions: vec![
                ("capacity", stats.evictions.capacity),
                ("invalidated", stats.evictions.invalidated),
                ("replaced", stats.evictions.replaced),
            ],
            fills: proxy.fills().len() as u64,
            waiters: proxy.fills().followers() as u64,
            origin_reads: vec![("normal", normal), ("slow", slow)],
            memory: Kind::ALL
                .iter()
                .map(|kind| (kind.as_str(), budget.used_by(*kind)))
                .collect(),
            budget: budget.limit(),
            peak: budget.peak(),
            members: MemberState::ALL
                .iter()
                .map(|state| (state.as_str(), in_state(*state)))
                .collect(),
            unanswered: invalidator.pending() as u64,
        }
    });
}
