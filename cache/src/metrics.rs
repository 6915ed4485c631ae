//! What is counted, by name. Labels are bounded: a key, a bucket or a client is never one.
//!
//! Counted here: what happens. Read from elsewhere at each scrape: how things stand ([`Snapshot`]).

mod exposition;
mod names;
mod response_counters;
mod snapshot;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use names::{METRICS, table};
pub use response_counters::ResponseCounters;
pub use snapshot::Snapshot;

use names::{SECONDS, code_label, listed, status_label};
use snapshot::{SnapshotCollector, SnapshotSource};

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The operation of a read of an object through the cache, by `GET` or `HEAD`, through either API: the base of the hit
/// ratio.
pub const READ: &str = "read";

/// All counters of a process.
pub struct Metrics {
    registry: Registry,
    source: Arc<OnceLock<SnapshotSource>>,
    requests: Counters<4>,
    first_byte: Histograms<2>,
    whole: Histograms<2>,
    sent: Counters<1>,
    bypassed: Counters<1>,
    cut: Counters<1>,
    origin_requests: Counters<2>,
    origin_seconds: Histograms<1>,
    origin_bytes: Counter,
    peer_bytes: Counter,
    invalidations: Counters<1>,
    connections: Gauges<1>,
    refused: Counters<1>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let source = Arc::new(OnceLock::new());
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let (name, help) = listed("falcon_build_info");
        registry.register(name, help, version);
        registry.register_collector(Box::new(SnapshotCollector(Arc::clone(&source))));
        Self {
            source,
            requests: add(&mut registry, "falcon_requests_total", Counters::default()),
            first_byte: add(
                &mut registry,
                "falcon_request_first_byte_seconds",
                histograms(),
            ),
            whole: add(&mut registry, "falcon_request_seconds", histograms()),
            sent: add(
                &mut registry,
                "falcon_sent_bytes_total",
                Counters::default(),
            ),
            bypassed: add(
                &mut registry,
                "falcon_bypassed_bytes_total",
                Counters::default(),
            ),
            cut: add(
                &mut registry,
                "falcon_cut_answers_total",
                Counters::default(),
            ),
            origin_requests: add(
                &mut registry,
                "falcon_origin_requests_total",
                Counters::default(),
            ),
            origin_seconds: add(&mut registry, "falcon_origin_request_seconds", histograms()),
            origin_bytes: add(
                &mut registry,
                "falcon_origin_bytes_total",
                Counter::default(),
            ),
            peer_bytes: add(&mut registry, "falcon_peer_bytes_total", Counter::default()),
            invalidations: add(
                &mut registry,
                "falcon_invalidations_total",
                Counters::default(),
            ),
            connections: add(&mut registry, "falcon_connections", Gauges::default()),
            refused: add(
                &mut registry,
                "falcon_connections_refused_total",
                Counters::default(),
            ),
            registry,
        }
    }

    /// Sets the source of [`Snapshot`] at each scrape. Only the first call counts.
    pub fn observe(&self, source: impl Fn() -> Snapshot + Send + Sync + 'static) {
        self.source.set(SnapshotSource(Box::new(source))).ok();
    }

    /// A request's answer begins: `took` is the time to its first byte. `source` is the word of `x-falcon-cache`, or
    /// `none`. `op` is [`READ`], or another operation.
    pub fn request(
        &self,
        api: &'static str,
        op: &'static str,
        source: &'static str,
        status: u16,
        took: Duration,
    ) {
        let status = status_label(status);
        self.requests
            .get_or_create(&[
                ("api", api),
                ("op", op),
                ("source", source),
                ("status", status),
            ])
            .inc();
        self.first_byte
            .get_or_create(&[("api", api), ("source", source)])
            .observe(took.as_secs_f64());
    }

    /// The same request's answer has ended; `whole` is false when it was cut.
    pub fn request_ended(
        &self,
        api: &'static str,
        source: &'static str,
        took: Duration,
        whole: bool,
    ) {
        self.whole
            .get_or_create(&[("api", api), ("source", source)])
            .observe(took.as_secs_f64());
        if !whole {
            self.cut.get_or_create(&[("api", api)]).inc();
        }
    }

    /// The counters of the answers to one API's reads from one source, looked up once for many answers.
    pub fn response_counters(&self, api: &'static str, source: &'static str) -> ResponseCounters {
        let status = |status| {
            let labels = [
                ("api", api),
                ("op", READ),
                ("source", source),
                ("status", status),
            ];
            self.requests.get_or_create_owned(&labels)
        };
        let labels = [("api", api), ("source", source)];
        ResponseCounters {
            whole_objects: status("200"),
            parts: status("206"),
            first_byte: self.first_byte.get_or_create_owned(&labels),
            ended: self.whole.get_or_create_owned(&labels),
            cut: self.cut.get_or_create_owned(&[("api", api)]),
            sent: self.sent.get_or_create_owned(&[("source", source)]),
        }
    }

    /// Bytes of an answer's body.
    pub fn bytes(&self, source: &'static str, n: u64) {
        self.sent.get_or_create(&[("source", source)]).inc_by(n);
    }

    /// Bytes of objects that were read past the cache, and why.
    pub fn bypassed(&self, reason: &'static str, n: u64) {
        self.bypassed.get_or_create(&[("reason", reason)]).inc_by(n);
    }

    /// S3 answered, or failed to: `code` is S3's, Falcon's word where S3 gave none, or `ok`.
    pub fn origin_answered(&self, op: &'static str, code: &str, took: Duration) {
        let code = code_label(code);
        self.origin_requests
            .get_or_create(&[("op", op), ("code", code)])
            .inc();
        self.origin_seconds
            .get_or_create(&[("op", op)])
            .observe(took.as_secs_f64());
    }

    /// Bytes of objects that came from S3.
    pub fn origin_bytes(&self, n: u64) {
        self.origin_bytes.inc_by(n);
    }

    /// `n` bytes of objects came from another node.
    pub fn peer_bytes(&self, n: u64) {
        self.peer_bytes.inc_by(n);
    }

    /// An invalidation that began here is over; `complete` if every node answered.
    pub fn invalidation(&self, complete: bool) {
        let result = if complete { "complete" } else { "incomplete" };
        self.invalidations
            .get_or_create(&[("result", result)])
            .inc();
    }

    /// A client has connected.
    pub fn connection_opened(&self, api: &'static str) {
        self.connections.get_or_create(&[("api", api)]).inc();
    }

    /// A connection has ended.
    pub fn connection_closed(&self, api: &'static str) {
        self.connections.get_or_create(&[("api", api)]).dec();
    }

    /// A connection was refused because the limit is reached.
    pub fn connection_refused(&self, api: &'static str) {
        self.refused.get_or_create(&[("api", api)]).inc();
    }

    /// Everything in the text format of OpenMetrics 1.0.
    ///
    /// # Panics
    ///
    /// Never: writing to a `String` does not fail.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }

    /// Everything in Prometheus' own text format 0.0.4.
    pub fn prometheus(&self) -> String {
        exposition::prometheus(&self.open_metrics())
    }
}

fn histograms<const N: usize>() -> Histograms<N> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// Registers `metric` under its line of [`METRICS`].
fn add<M: Metric + Clone>(registry: &mut Registry, name: &'static str, metric: M) -> M {
    let (name, help) = listed(name);
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// One of everything.
    fn touched() -> Metrics {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        metrics.request("blob", READ, "memory", 200, took);
        metrics.bypassed("too-large", 5);
        metrics.request_ended("blob", "memory", took, false);
        metrics.bytes("memory", 5);
        metrics.origin_answered("read", "ok", took);
        metrics.origin_answered("read", "SomethingNew", took);
        metrics.origin_bytes(7);
        metrics.peer_bytes(1);
        metrics.invalidation(true);
        metrics.connection_opened("blob");
        metrics.connection_refused("blob");
        metrics.observe(|| Snapshot {
            cached_bytes: vec![("owned", 9)],
            evictions: vec![("room", 3)],
            origin_reads: vec![("quick", 2)],
            memory: vec![("blocks", 4)],
            members: vec![("serving", 3)],
            ..Snapshot::default()
        });
        metrics
    }

    #[test]
    fn the_table_lists_exactly_what_is_registered() {
        let text = touched().prometheus();
        let mut types = BTreeMap::new();
        let mut helps = BTreeMap::new();
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                types.insert(name.to_owned(), kind.to_owned());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                helps.insert(name.to_owned(), help.to_owned());
            } else {
                let series = line.rsplit_once(' ').unwrap().0;
                let (name, inner) = series.split_once('{').unwrap_or((series, "}"));
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap_or(name);
                let names = inner
                    .trim_end_matches('}')
                    .split(',')
                    .filter_map(|pair| pair.split_once('='));
                let set = labels.entry(base.to_owned()).or_default();
                set.extend(
                    names
                        .map(|(name, _)| name.to_owned())
                        .filter(|name| name != "le"),
                );
            }
        }
        assert_eq!(types.len(), METRICS.len(), "{text}");
        for (name, kind, names, help) in METRICS {
            let kind = if *kind == "info" { "gauge" } else { kind };
            assert_eq!(types.get(*name).map(String::as_str), Some(kind), "{name}");
            assert_eq!(helps[*name], format!("{help}."), "{name}");
            let names = names
                .split(", ")
                .filter(|name| !name.is_empty())
                .map(str::to_owned);
            assert_eq!(labels[*name], names.collect(), "{name}");
        }
    }

    #[test]
    fn an_unknown_code_of_s3_makes_no_new_series() {
        let text = touched().open_metrics();
        assert!(
            text.contains(r#"falcon_origin_requests_total{op="read",code="other"} 1"#),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_documentation_has_a_line_for_each() {
        assert_eq!(table().lines().count(), METRICS.len() + 2);
    }
}
