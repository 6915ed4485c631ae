//! How the pods are: their state as the API server has it, why some are missing, whether they answer, and figures from their admin ports.
//!
//! Figures are for the eye and for the condition `OriginReachable`: read seldom, with a bound on everything. A pod that does not answer costs nothing.

pub mod figures;
pub mod pod;
pub mod pulse;
pub mod warnings;

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

use crate::observe::figures::{Figures, Origin, Sample};
use crate::observe::pod::PodState;
use crate::observe::pulse::Pulse;
use crate::observe::warnings::Refusal;
use crate::plan::Identity;
use crate::resources::container::ADMIN_PORT;
use crate::resources::meta;

/// A pod that takes longer is left out of the sum.
const PATIENCE: Duration = Duration::from_secs(2);
/// Figures are not believed for longer than this while S3 has not answered: what is wrong, or right again, is told soon.
pub const UNSURE: Duration = Duration::from_secs(5);
/// More than this is no page of metrics of ours.
const PAGE_BYTES: usize = 1 << 20;
/// Pods read at once, over all caches.
const AT_ONCE: usize = 16;
/// Events read of one object: the recorders combine those that are alike.
const EVENTS: u32 = 100;
/// Pods of one cache whose Events are read; others of the same form fail alike.
const EXPLAINED: usize = 3;

/// Reads pods and remembers the last figures of each cache.
pub struct Observer {
    client: Client,
    http: HttpClient<HttpConnector, Empty<&'static [u8]>>,
    every: Duration,
    permits: Semaphore,
    last: Mutex<HashMap<String, (Instant, Figures)>>,
    pulse: Pulse,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Observer {
    /// Reads figures of a cache at most once in `every`.
    pub fn new(client: Client, every: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Self {
            client,
            http,
            every,
            permits: Semaphore::new(AT_ONCE),
            last: Mutex::default(),
            pulse: Pulse::default(),
        }
    }

    /// Who answers, as far as is known between two looks.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The pods of a cache; for those that do not start, why, as far as their Events tell.
    pub async fn pods(
        &self,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Vec<PodState>, kube::Error> {
        let mut pods = self.listed(identity).await?;
        self.pulse.follow(&identity.uid, &mut pods);
        let waiting = pods
            .iter_mut()
            .filter(|pod| pod.creating && pod.trouble.is_none() && !pod.leaves());
        for pod in waiting.take(EXPLAINED) {
            let events = self.events(identity, "Pod", &pod.name).await?;
            pod.trouble = warnings::not_started(pod, &events, now);
        }
        Ok(pods)
    }

    /// Why pods of the set with this uid are missing.
    pub async fn refusals(
        &self,
        identity: &Identity,
        set_uid: &str,
        pods: &[PodState],
    ) -> Result<Vec<Refusal>, kube::Error> {
        let events = self.events(identity, "StatefulSet", &identity.name).await?;
        Ok(warnings::refusals(&events, set_uid, pods))
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
            .list(&ListParams::default().fields(&about).limit(EVENTS))
            .await
        {
            Ok(list) => Ok(list.items),
            // A role from before this right was needed: the cause stays unknown, all else goes on.
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn listed(&self, identity: &Identity) -> Result<Vec<PodState>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &identity.namespace);
        let list = api
            .list(&ListParams::default().labels(&meta::selector_text(identity)))
            .await?;
        let mut pods: Vec<PodState> = list.items.iter().map(pod::state).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Figures of a cache: fresh ones if it is time, else the last ones.
    pub async fn figures(&self, identity: &Identity, pods: &[PodState]) -> Option<Figures> {
        let last = self.last(identity);
        if let Some((read, figures)) = &last
            && read.elapsed() < self.believed(figures)
        {
            return Some(figures.clone());
        }
        let addresses: Vec<&str> = pods
            .iter()
            .filter(|pod| pod.answers())
            .filter_map(|pod| pod.ip.as_deref())
            .collect();
        let samples: Vec<Sample> = join_all(addresses.into_iter().map(|ip| self.sample(ip)))
            .await
            .into_iter()
            .flatten()
            .collect();
        if samples.is_empty() {
            return last.map(|(_, figures)| figures);
        }
        let figures = Figures::of(&samples, last.as_ref().map(|(_, figures)| figures));
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(identity.uid.clone(), (Instant::now(), figures.clone()));
        Some(figures)
    }

    /// Whether the figures of a cache are to be read again soon.
    pub fn is_unsure(&self, identity: &Identity) -> bool {
        self.last(identity)
            .is_some_and(|(_, figures)| self.believed(&figures) < self.every)
    }

    fn believed(&self, figures: &Figures) -> Duration {
        match figures.origin {
            Origin::Answers => self.every,
            Origin::NotAsked | Origin::Fails(_) => self.every.min(UNSURE),
        }
    }

    /// Forgets a cache that is gone.
    pub fn forget(&self, identity: &Identity) {
        self.pulse.forget(&identity.uid);
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&identity.uid);
    }

    fn last(&self, identity: &Identity) -> Option<(Instant, Figures)> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&identity.uid)
            .cloned()
    }

    /// Asks every pod that served at the last look; returns whether others answer than before.
    pub async fn listen(&self) -> bool {
        let asked = self.pulse.pods();
        let heard = join_all(asked.into_iter().map(async |pod| {
            let answers = self.page(&pod.ip, "healthz").await.is_some();
            (pod, answers)
        }))
        .await;
        self.pulse.note(heard)
    }

    async fn sample(&self, ip: &str) -> Option<Sample> {
        let bytes = self.page(ip, "metrics").await?;
        Some(figures::sample(std::str::from_utf8(&bytes).ok()?))
    }

    async fn page(&self, ip: &str, path: &str) -> Option<Vec<u8>> {
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
            Limited::new(answer.into_body(), PAGE_BYTES)
                .collect()
                .await
                .ok()
        };
        Some(timeout(PATIENCE, page).await.ok()??.to_bytes().to_vec())
    }
}
