//! Gauges at the moment of a scrape.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::names::listed;

/// Figures that other modules keep; pairs are a label's value and its figure.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Blocks held.
    pub blocks: u64,
    /// Heads held.
    pub heads: u64,
    /// Bytes of blocks, by pool.
    pub cached_bytes: Vec<(&'static str, u64)>,
    /// Evictions since the start, by reason.
    pub evictions: Vec<(&'static str, u64)>,
    /// Fills that run.
    pub fills: u64,
    /// Readers that follow them.
    pub waiters: u64,
    /// Reads from S3 that run, by speed.
    pub origin_reads: Vec<(&'static str, u64)>,
    /// Bytes reserved, by kind.
    pub memory: Vec<(&'static str, u64)>,
    /// The most bytes that may be reserved.
    pub budget: u64,
    /// The most bytes that were reserved at one moment.
    pub peak: u64,
    /// Members of the ring, by state.
    pub members: Vec<(&'static str, u64)>,
    /// Nodes that owe the answer to an invalidation.
    pub unanswered: u64,
}

/// Makes a snapshot.
pub(super) struct SnapshotSource(pub(super) Box<dyn Fn() -> Snapshot + Send + Sync>);

/// Adds a snapshot to each scrape; nothing before [`super::Metrics::observe`].
pub(super) struct SnapshotCollector(pub(super) Arc<OnceLock<SnapshotSource>>);

impl fmt::Debug for SnapshotCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

impl Collector for SnapshotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(source) = self.0.get() else {
            return Ok(());
        };
        let now = (source.0)();
        one(&mut encoder, "falcon_fills", now.fills)?;
        one(&mut encoder, "falcon_fill_waiters", now.waiters)?;
        each(
            &mut encoder,
            "falcon_origin_reads",
            "speed",
            &now.origin_reads,
        )?;
        one(&mut encoder, "falcon_blocks", now.blocks)?;
        one(&mut encoder, "falcon_heads", now.heads)?;
        each(
            &mut encoder,
            "falcon_cached_bytes",
            "pool",
            &now.cached_bytes,
        )?;
        counted(
            &mut encoder,
            "falcon_evictions_total",
            "reason",
            &now.evictions,
        )?;
        each(&mut encoder, "falcon_memory_bytes", "kind", &now.memory)?;
        one(&mut encoder, "falcon_memory_budget_bytes", now.budget)?;
        one(&mut encoder, "falcon_memory_peak_bytes", now.peak)?;
        each(&mut encoder, "falcon_ring_members", "state", &now.members)?;
        one(&mut encoder, "falcon_unanswered_nodes", now.unanswered)
    }
}

/// As the registry writes it for registered metrics: with a full stop.
fn described(name: &'static str) -> (&'static str, String) {
    let (name, help) = listed(name);
    (name, format!("{help}."))
}

/// The library's gauges are signed.
fn gauge(figure: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(figure).unwrap_or(i64::MAX))
}

fn one(encoder: &mut DescriptorEncoder<'_>, name: &'static str, figure: u64) -> fmt::Result {
    let (name, help) = described(name);
    let gauge = gauge(figure);
    gauge.encode(encoder.encode_descriptor(name, &help, None, gauge.metric_type())?)
}

fn each(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    label: &'static str,
    figures: &[(&'static str, u64)],
) -> fmt::Result {
    let (name, help) = described(name);
    let kind = gauge(0).metric_type();
    let mut family = encoder.encode_descriptor(name, &help, None, kind)?;
    for (value, figure) in figures {
        gauge(*figure).encode(family.encode_family(&[(label, *value)])?)?;
    }
    Ok(())
}

fn counted(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    label: &'static str,
    figures: &[(&'static str, u64)],
) -> fmt::Result {
    let (name, help) = described(name);
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, &help, None, kind)?;
    for (value, figure) in figures {
        ConstCounter::new(*figure).encode(family.encode_family(&[(label, *value)])?)?;
    }
    Ok(())
}
