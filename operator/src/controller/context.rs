//! What all reconciles share: the settings, the clients, and what is cached between reconciles.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::client::Client;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::apply::{self, AvailableApis, Fence, Writer};
use crate::controller::backoff::Backoff;
use crate::controller::discovery_ids::DiscoveryIds;
use crate::controller::other_operators::OtherOperators;
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::plan::{Defaults, Identity, Plan};
use crate::repair::Repairer;
use crate::resources::meta::OPERATOR;
use crate::resources::{CacheRole, monitoring};

/// A reconcile that takes longer is aborted and retried.
pub(super) const DEADLINE: Duration = Duration::from_mins(1);
/// For how long it is cached which monitors are available.
const APIS_TTL: Duration = Duration::from_mins(5);
/// A transient failure is not reported before this many tries have failed.
const TRIES_BEFORE_REPORT: u32 = 3;

/// A cache as it comes from the watch: one that can't be parsed is an error of its own, and hides no other.
pub type Watched = DeserializeGuard<FalconCache>;

/// Settings from the operator's flags.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// Defaults of specs.
    pub defaults: Defaults,
    /// The role that pods are bound to.
    pub role: CacheRole,
    /// Maximum number of concurrent reconciles.
    pub concurrency: u16,
    /// Resync interval.
    pub resync: Duration,
    /// Name of this process.
    pub process: String,
    /// Name of this installation of the operator, the same for all its processes: namespace and name of its Lease, as
    /// `falcon-system/falcon-operator`.
    pub operator: String,
}

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Applying failed.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// Another request to the API server.
    #[error("{doing}")]
    Api {
        /// What failed.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// It took too long.
    #[error("not finished after {} s", DEADLINE.as_secs())]
    TooSlow,
}

/// What all reconciles share.
pub struct Context {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) writer: Writer,
    pub(super) observer: Observer,
    pub(super) recorder: Recorder,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoff: Backoff,
    pub(super) permits: Semaphore,
    pub(super) discovery_ids: DiscoveryIds,
    pub(super) other_operators: OtherOperators,
    pub(super) repairer: Repairer,
    available_apis: Mutex<Option<(Instant, AvailableApis)>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// With empty caches.
    pub fn new(client: Client, settings: Settings, fence: Fence, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter {
            controller: OPERATOR.to_owned(),
            instance: Some(settings.process.clone()),
        };
        let writer = Writer::new(client.clone(), fence);
        Self {
            repairer: Repairer::new(writer.actions().clone()),
            writer,
            observer: Observer::new(client.clone(), settings.resync),
            recorder: Recorder::new(client.clone(), reporter),
            backoff: Backoff::default(),
            permits: Semaphore::new(usize::from(settings.concurrency)),
            discovery_ids: DiscoveryIds::default(),
            other_operators: OtherOperators::default(),
            available_apis: Mutex::default(),
            client,
            settings,
            metrics,
        }
    }

    pub(super) fn forget(&self, identity: &Identity) {
        self.other_operators.forget(identity);
        self.repairer.forget(identity);
        self.writer.forget(identity);
        self.observer.forget(identity);
        self.backoff.forget(identity);
        self.metrics.set_backing_off(self.backoff.len());
    }

    /// The other operator that manages the cache, if there is one and it is alive.
    pub(super) async fn other_operator(
        &self,
        identity: &Identity,
        status: Option<&FalconCacheStatus>,
    ) -> Option<String> {
        self.other_operators
            .other_operator(&self.client, &self.settings.operator, identity, status)
            .await
    }

    /// An error if the cache's discovery id belongs to another cache.
    pub(super) async fn discovery_id_conflict(
        &self,
        plan: &Plan,
    ) -> Result<Option<apply::Error>, Error> {
        self.discovery_ids
            .discovery_id_conflict(&self.client, plan)
            .await
            .map_err(|source| Error::Api {
                doing: "failed to list the caches of the namespace",
                source,
            })
    }

    /// Which monitors are available; as before if the API server does not respond.
    pub(super) async fn available_apis(&self) -> AvailableApis {
        let known = *self
            .available_apis
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((read_at, available_apis)) = known
            && read_at.elapsed() < APIS_TTL
        {
            return available_apis;
        }
        let available_apis = match self
            .client
            .list_api_group_resources(monitoring::GROUP_VERSION)
            .await
        {
            Ok(api) => AvailableApis {
                pod_monitor: api
                    .resources
                    .iter()
                    .any(|resource| resource.kind == "PodMonitor"),
                service_monitor: api
                    .resources
                    .iter()
                    .any(|resource| resource.kind == "ServiceMonitor"),
            },
            Err(kube::Error::Api(status)) if status.is_not_found() => AvailableApis::default(),
            Err(_) => known
                .map(|(_, available_apis)| available_apis)
                .unwrap_or_default(),
        };
        *self
            .available_apis
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), available_apis));
        available_apis
    }

    /// Whether a failure is retried a few times before it is reported.
    pub(super) fn is_transient(&self, identity: &Identity, error: &apply::Error) -> bool {
        match error {
            apply::Error::Fenced => true,
            apply::Error::Api { .. } | apply::Error::Random(_) => {
                self.backoff.failures(identity) + 1 < TRIES_BEFORE_REPORT
            }
            apply::Error::NameTaken { .. }
            | apply::Error::DiscoveryIdTaken { .. }
            | apply::Error::Rejected { .. }
            | apply::Error::Forbidden { .. } => false,
        }
    }
}
