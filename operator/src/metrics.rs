//! What is counted, by name.

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

/// Every counter of the operator.
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
        // From a pass that finds nothing to do (some ms) to the deadline of one (60 s).
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
            "Reconciles by result: done, waiting, refused, foreign (another operator's), failed",
            all.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconcile",
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
            "Caches that wait for their reconcile",
            all.queue.clone(),
        );
        registry.register("running", "Reconciles that run now", all.running.clone());
        registry.register(
            "backing_off",
            "Caches whose last reconcile failed",
            all.backing_off.clone(),
        );
        registry.register("caches", "FalconCaches known", all.caches.clone());
        registry.register("leader", "1 while this process leads", all.leader.clone());
        registry.register(
            "build",
            "The program",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        all.registry = registry;
        all
    }
}

impl Metrics {
    /// A reconcile ended.
    pub fn reconciled(&self, result: &str, took: Duration) {
        self.reconciles
            .get_or_create(&[("result", result.to_owned())])
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Writes were done.
    pub fn wrote(&self, writes: &[Write]) {
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

    /// A reconcile waits for its turn, for as long as the guard lives.
    pub fn waiting(&self) -> Counted {
        Counted::new(&self.queue)
    }

    /// A reconcile runs, for as long as the guard lives.
    pub fn running(&self) -> Counted {
        Counted::new(&self.running)
    }

    /// So many caches are backing off.
    pub fn backing_off(&self, caches: usize) {
        self.backing_off
            .set(i64::try_from(caches).unwrap_or(i64::MAX));
    }

    /// So many caches are known.
    pub fn caches(&self, known: usize) {
        self.caches.set(i64::try_from(known).unwrap_or(i64::MAX));
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(f64::from(u8::from(leads)));
    }

    /// All of it in OpenMetrics' text format.
    pub fn page(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// Adds one to a gauge and takes it away again, also when what was counted is cancelled.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_documented_names() {
        let metrics = Metrics::default();
        metrics.reconciled("done", Duration::from_millis(20));
        metrics.wrote(&[Write {
            verb: Verb::Create,
            kind: "Service".to_owned(),
            name: "media".to_owned(),
        }]);
        metrics.leads(true);
        let guard = metrics.running();
        let page = metrics.page().unwrap();
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
                .page()
                .unwrap()
                .contains("falcon_operator_running 0")
        );
    }
}
