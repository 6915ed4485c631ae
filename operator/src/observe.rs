//! State of the pods: what the API server says of them, why some are missing, whether they are reachable, and the
//! metrics of their admin ports.
//!
//! The metrics are for the status and for the condition `OriginReachable`: they are read seldom, and everything is
//! bounded. A pod that does not respond is left out.

pub mod pod;
pub mod pod_events;
pub mod pod_metrics;
pub mod reachability;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::client::Client;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::observe::pod::PodState;
use crate::observe::pod_events::CreationFailure;
use crate::observe::pod_metrics::{CacheMetrics, OriginHealth, PodMetrics};
use crate::observe::reachability::Reachability;
use crate::plan::Identity;
use crate::resources::container::ADMIN_PORT;
use crate::resources::meta;

/// A pod that takes longer is left out.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// While S3 does not respond, metrics are read again after this, so that the status soon shows what is wrong, or that
/// it recovered.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum size of a page of metrics.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// Pods that are read concurrently, over all caches.
const MAX_CONCURRENT_READS: usize = 16;
/// Events read per object: recorders combine similar ones.
const EVENT_LIMIT: u32 = 100;
/// Pods of one cache whose Events are read; others of the same template fail alike.
const MAX_EXPLAINED_PODS: usize = 3;

/// Reads pods, and remembers the last metrics of each cache.
pub struct Observer {
    client: Client,
    http: HttpClient<HttpConnector, Empty<&'static [u8]>>,
    interval: Duration,
    permits: Semaphore,
    last: Mutex<HashMap<String, (Instant, CacheMetrics)>>,
    reachability: Reachability,
}

/// The pods of a cache at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The moment.
    pub now: Timestamp,
    /// The pods that exist.
    pub pods: Vec<PodState>,
    /// Pods that could not be created.
    pub creation_failures: Vec<CreationFailure>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl Observer {
    /// Reads the metrics of a cache at most once per `interval`.
    pub fn new(client: Client, interval: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(READ_TIMEOUT));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self {
            client,
            http,
            interval,
            permits: Semaphore::new(MAX_CONCURRENT_READS),
            last: Mutex::default(),
            reachability: Reachability::default(),
        }
    }

    /// Which pods are reachable.
    pub fn reachability(&self) -> &Reachability {
        &self.reachability
    }

    /// The pods of a cache; for those that do not start, why, as far as their Events say.
    pub async fn pods(
        &self,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Vec<PodState>, kube::Error> {
        let mut pods = self.list_pods(identity).await?;
        self.reachability.track(&identity.uid, &mut pods);
        let waiting = pods
            .iter_mut()
            .filter(|pod| pod.creating && pod.problem.is_none() && !pod.is_terminating());
        for pod in waiting.take(MAX_EXPLAINED_PODS) {
            let events = self.events(identity, "Pod", &pod.name).await?;
            pod.problem = pod_events::start_problem(pod, &events, now);
        }
        Ok(pods)
    }

    /// Why pods of the set with this uid are missing.
    pub async fn creation_failures(
        &self,
        identity: &Identity,
        set_uid: &str,
        pods: &[PodState],
    ) -> Result<Vec<CreationFailure>, kube::Error> {
        let events = self.events(identity, "StatefulSet", &identity.name).await?;
        Ok(pod_events::creation_failures(&events, set_uid, pods))
    }

    async fn events(
        &self,
        identity: &Identity,
        kind: &str,
        name: &str,
    ) -> Result<Vec<Event>, kube::Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &identity.namespace);
        let about = format!("regarding.kind={kind},regarding.name={name}");
        match api
            .list(&ListParams::default().fields(&about).limit(EVENT_LIMIT))
            .await
        {
            Ok(list) => Ok(list.items),
            // A role from before this permission was needed: the cause stays unknown, all else works.
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn list_pods(&self, identity: &Identity) -> Result<Vec<PodState>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &identity.namespace);
        let list = api
            .list(&ListParams::default().labels(&meta::selector_text(identity)))
            .await?;
        let mut pods: Vec<PodState> = list.items.iter().map(pod::state).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Metrics of a cache: fresh ones if they are due, otherwise the last ones.
    pub async fn cache_metrics(
        &self,
        identity: &Identity,
        pods: &[PodState],
    ) -> Option<CacheMetrics> {
        let last = self.last(identity);
        if let Some((read, metrics)) = &last
            && read.elapsed() < self.valid_for(metrics)
        {
            return Some(metrics.clone());
        }
        let addresses: Vec<&str> = pods
            .iter()
            .filter(|pod| pod.is_serving())
            .filter_map(|pod| pod.ip.as_deref())
            .collect();
        let samples: Vec<PodMetrics> =
            join_all(addresses.into_iter().map(|ip| self.read_metrics(ip)))
                .await
                .into_iter()
                .flatten()
                .collect();
        if samples.is_empty() {
            return last.map(|(_, metrics)| metrics);
        }
        let metrics = CacheMetrics::sum(&samples, last.as_ref().map(|(_, metrics)| metrics));
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(identity.uid.clone(), (Instant::now(), metrics.clone()));
        Some(metrics)
    }

    /// Whether the metrics of a cache have to be read again soon.
    pub fn needs_recheck(&self, identity: &Identity) -> bool {
        self.last(identity)
            .is_some_and(|(_, metrics)| self.valid_for(&metrics) < self.interval)
    }

    fn valid_for(&self, metrics: &CacheMetrics) -> Duration {
        match metrics.origin {
            OriginHealth::Responding => self.interval,
            OriginHealth::NotContacted | OriginHealth::Failing(_) => {
                self.interval.min(RECHECK_INTERVAL)
            }
        }
    }

    /// Removes a deleted cache.
    pub fn forget(&self, identity: &Identity) {
        self.reachability.forget(&identity.uid);
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&identity.uid);
    }

    fn last(&self, identity: &Identity) -> Option<(Instant, CacheMetrics)> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&identity.uid)
            .cloned()
    }

    /// Probes every pod that was ready at the last reconcile; returns whether other pods are reachable than before.
    pub async fn probe_pods(&self) -> bool {
        let targets = self.reachability.targets();
        let results = join_all(targets.into_iter().map(async |pod| {
            let reachable = self.fetch(&pod.ip, "healthz").await.is_some();
            (pod, reachable)
        }))
        .await;
        self.reachability.record(results)
    }

    async fn read_metrics(&self, ip: &str) -> Option<PodMetrics> {
        let bytes = self.fetch(ip, "metrics").await?;
        Some(pod_metrics::parse(std::str::from_utf8(&bytes).ok()?))
    }

    async fn fetch(&self, ip: &str, path: &str) -> Option<Vec<u8>> {
        let _permit = self.permits.acquire().await.ok()?;
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        let uri = format!("http://{host}:{ADMIN_PORT}/{path}").parse().ok()?;
        let page = async {
            let answer = self
                .http
                .get(uri)
                .await
                .ok()
                .filter(|answer| answer.status().is_success())?;
            Limited::new(answer.into_body(), MAX_PAGE_BYTES)
                .collect()
                .await
                .ok()
        };
        Some(timeout(READ_TIMEOUT, page).await.ok()??.to_bytes().to_vec())
    }
}
