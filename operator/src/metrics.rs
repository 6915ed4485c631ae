//! The operator's Prometheus metrics.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::apply::{Verb, Write};

type Label = (&'static str, String);

/// All metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<[Label; 1], Counter>,
    duration: Histogram,
    writes: Family<[Label; 2], Counter>,
    queue: Gauge,
    running: Gauge,
    backing_off: Gauge,
    caches: Gauge,
    leader: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("falcon_operator");
        // From a reconcile that finds nothing to do (some ms) to the deadline of one (60 s).
        let duration = Histogram::new([
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
        ]);
        let mut all = Self {
            reconciles: Family::default(),
            duration,
            writes: Family::default(),
            queue: Gauge::default(),
            running: Gauge::default(),
            backing_off: Gauge::default(),
            caches: Gauge::default(),
            leader: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "reconciles",
            "Reconciles by result: done, waiting, invalid_spec, other_operator, failed",
            all.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of reconciles",
            Unit::Seconds,
            all.duration.clone(),
        );
        registry.register(
            "writes",
            "Writes to the API server, by verb and kind",
            all.writes.clone(),
        );
        registry.register(
            "queue",
            "FalconCaches that wait for their reconcile",
            all.queue.clone(),
        );
        registry.register("running", "Reconciles in progress", all.running.clone());
        registry.register(
            "backing_off",
            "FalconCaches whose last reconcile failed",
            all.backing_off.clone(),
        );
        registry.register("caches", "FalconCaches watched", all.caches.clone());
        registry.register(
            "leader",
            "1 while this process is the leader",
            all.leader.clone(),
        );
        registry.register(
            "build",
            "Version of the operator",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        all.registry = registry;
        all
    }
}

impl Metrics {
    /// Counts a reconcile that ended.
    pub fn count_reconcile(&self, result: &str, took: Duration) {
        self.reconciles
            .get_or_create(&[("result", result.to_owned())])
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts writes.
    pub fn count_writes(&self, writes: &[Write]) {
        for write in writes {
            let verb = match write.verb {
                Verb::Create => "create",
                Verb::Update => "update",
                Verb::Delete => "delete",
            };
            self.writes
                .get_or_create(&[("verb", verb.to_owned()), ("kind", write.kind.clone())])
                .inc();
        }
    }

    /// Counts a waiting reconcile for as long as the guard lives.
    pub fn enter_queue(&self) -> GaugeGuard {
        GaugeGuard::new(&self.queue)
    }

    /// Counts a running reconcile for as long as the guard lives.
    pub fn start_reconcile(&self) -> GaugeGuard {
        GaugeGuard::new(&self.running)
    }

    /// Sets the number of caches that are backing off.
    pub fn set_backing_off(&self, caches: usize) {
        self.backing_off
            .set(i64::try_from(caches).unwrap_or(i64::MAX));
    }

    /// Sets the number of watched caches.
    pub fn set_caches(&self, known: usize) {
        self.caches.set(i64::try_from(known).unwrap_or(i64::MAX));
    }

    /// Sets whether this process is the leader.
    pub fn set_leading(&self, leading: bool) {
        self.leader.set(f64::from(u8::from(leading)));
    }

    /// All metrics in OpenMetrics' text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// Increments a gauge, and decrements it when dropped, also on cancellation.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_have_the_documented_names() {
        let metrics = Metrics::default();
        metrics.count_reconcile("done", Duration::from_millis(20));
        metrics.count_writes(&[Write {
            verb: Verb::Create,
            kind: "Service".to_owned(),
            name: "media".to_owned(),
        }]);
        metrics.set_leading(true);
        let guard = metrics.start_reconcile();
        let page = metrics.encode().unwrap();
        for line in [
            "falcon_operator_reconciles_total{result=\"done\"} 1",
            "falcon_operator_reconcile_duration_seconds_count 1",
            "falcon_operator_writes_total{verb=\"create\",kind=\"Service\"} 1",
            "falcon_operator_running 1",
            "falcon_operator_leader 1.0",
            "falcon_operator_build_info{version=",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        drop(guard);
        assert!(
            metrics
                .encode()
                .unwrap()
                .contains("falcon_operator_running 0")
        );
    }
}
