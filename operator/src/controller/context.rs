//! What every reconcile shares: the settings, the connections, and what is remembered between two looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::client::Client;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::apply::{self, Fence, Served, Writer};
use crate::controller::backoff::Backoff;
use crate::controller::retries::Retries;
use crate::controller::rivals::Rivals;
use crate::controller::siblings::Siblings;
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::plan::{Defaults, Identity, Plan};
use crate::resources::meta::OPERATOR;
use crate::resources::{CacheRole, monitoring};

/// A reconcile that takes longer is given up and tried again.
pub(super) const DEADLINE: Duration = Duration::from_mins(1);
/// For how long it is believed which monitors are served.
const SERVED_FOR: Duration = Duration::from_mins(5);
/// A failure that passes by itself is not reported before it has lasted for so many tries.
const PATIENCE: u32 = 3;

/// A cache as it comes from the watch: one that can't be read is told so, and hides no other.
pub type Watched = DeserializeGuard<FalconCache>;

/// What the operator was told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// What specs leave open.
    pub defaults: Defaults,
    /// What pods are bound to.
    pub role: CacheRole,
    /// Caches worked on at once.
    pub concurrency: u16,
    /// Pause between two looks at a cache.
    pub resync: Duration,
    /// Name of this process.
    pub me: String,
    /// Name of this installation of the operator, the same for all its processes: namespace and name of its Lease, as `falcon-system/falcon-operator`.
    pub operator: String,
}

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write or its reading.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// Another request to the API server.
    #[error("{doing}")]
    Api {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: kube::Error,
    },
    /// It took too long.
    #[error("no end after {} s", DEADLINE.as_secs())]
    TooSlow,
}

/// What every reconcile shares.
pub struct Context {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) writer: Writer,
    pub(super) observer: Observer,
    pub(super) recorder: Recorder,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoff: Backoff,
    pub(super) permits: Semaphore,
    pub(super) siblings: Siblings,
    pub(super) rivals: Rivals,
    pub(super) retries: Retries,
    served: Mutex<Option<(Instant, Served)>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// With nothing remembered.
    pub fn new(client: Client, settings: Settings, fence: Fence, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter {
            controller: OPERATOR.to_owned(),
            instance: Some(settings.me.clone()),
        };
        Self {
            writer: Writer::new(client.clone(), fence),
            observer: Observer::new(client.clone(), settings.resync),
            recorder: Recorder::new(client.clone(), reporter),
            backoff: Backoff::default(),
            permits: Semaphore::new(usize::from(settings.concurrency)),
            siblings: Siblings::default(),
            rivals: Rivals::default(),
            retries: Retries::default(),
            served: Mutex::default(),
            client,
            settings,
            metrics,
        }
    }

    pub(super) fn forget(&self, identity: &Identity) {
        self.rivals.forget(identity);
        self.retries.forget(identity);
        self.writer.forget(identity);
        self.observer.forget(identity);
        self.backoff.forget(identity);
        self.metrics.backing_off(self.backoff.len());
    }

    /// The other operator that looks after the cache, if there is one and it lives.
    pub(super) async fn rival(
        &self,
        identity: &Identity,
        status: Option<&FalconCacheStatus>,
    ) -> Option<String> {
        self.rivals
            .rival(&self.client, &self.settings.operator, identity, status)
            .await
    }

    /// That the cache's discovery id belongs to another one, if so.
    pub(super) async fn ring_taken(&self, plan: &Plan) -> Result<Option<apply::Error>, Error> {
        self.siblings
            .ring_taken(&self.client, plan)
            .await
            .map_err(|source| Error::Api {
                doing: "the caches of the namespace can't be listed",
                source,
            })
    }

    /// Which monitors the cluster serves; as before if it can't be asked.
    pub(super) async fn served(&self) -> Served {
        let known = *self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, served)) = known
            && asked.elapsed() < SERVED_FOR
        {
            return served;
        }
        let served = match self
            .client
            .list_api_group_resources(monitoring::GROUP_VERSION)
            .await
        {
            Ok(api) => Served {
                pod_monitor: api
                    .resources
                    .iter()
                    .any(|resource| resource.kind == "PodMonitor"),
                service_monitor: api
                    .resources
                    .iter()
                    .any(|resource| resource.kind == "ServiceMonitor"),
            },
            Err(kube::Error::Api(status)) if status.is_not_found() => Served::default(),
            Err(_) => known.map(|(_, served)| served).unwrap_or_default(),
        };
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), served));
        served
    }

    /// Whether a failure is worth a few more tries before anybody hears of it.
    pub(super) fn passes_by_itself(&self, identity: &Identity, error: &apply::Error) -> bool {
        match error {
            apply::Error::Fenced => true,
            apply::Error::Api { .. } | apply::Error::Random(_) => {
                self.backoff.failures(identity) + 1 < PATIENCE
            }
            apply::Error::Taken { .. }
            | apply::Error::RingTaken { .. }
            | apply::Error::Refused { .. }
            | apply::Error::Forbidden { .. } => false,
        }
    }
}
