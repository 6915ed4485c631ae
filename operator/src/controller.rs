//! Watches, the reconcile line, and when to try again.

mod backoff;
pub mod watches;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::client::Client;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::apply::{self, Fence, Outcome, Served, Write, Writer};
use crate::controller::backoff::Backoff;
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::events;
use crate::metrics::Metrics;
use crate::observe::{self, Observer};
use crate::plan::{self, Defaults, Identity, Plan};
use crate::resources::meta::OPERATOR;
use crate::resources::{CacheRole, monitoring, resources};
use crate::status::rollout::{stuck, tokenless};
use crate::status::{Facts, status};

/// A reconcile that takes longer is given up and tried again.
const DEADLINE: Duration = Duration::from_mins(1);
/// When something has to go before the next step.
const SOON: Duration = Duration::from_secs(2);
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
    client: Client,
    settings: Settings,
    writer: Writer,
    observer: Observer,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    backoff: Backoff,
    permits: Semaphore,
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
            served: Mutex::default(),
            client,
            settings,
            metrics,
        }
    }

    fn forget(&self, identity: &Identity) {
        self.writer.forget(identity);
        self.observer.forget(identity);
        self.backoff.forget(identity);
        self.metrics.backing_off(self.backoff.len());
    }

    /// Which monitors the cluster serves; as before if it can't be asked.
    async fn served(&self) -> Served {
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
}

/// The door of the runtime: bounds the number at work and the time of each, and counts.
pub async fn reconcile(seen: Arc<Watched>, context: Arc<Context>) -> Result<Action, Error> {
    let waits = context.metrics.waiting();
    let Ok(_permit) = context.permits.acquire().await else {
        return Ok(Action::await_change());
    };
    drop(waits);
    let _runs = context.metrics.running();
    let begin = Instant::now();
    let identity = Identity::of(&*seen);
    let mut journal = Vec::new();
    // Boxed: a thousand caches may wait for their turn, and a future that waits should be small.
    let result = timeout(DEADLINE, Box::pin(pass(&identity, &context, &mut journal)))
        .await
        .unwrap_or(Err(Error::TooSlow));
    context.metrics.wrote(&journal);
    for write in &journal {
        tracing::info!(namespace = identity.namespace, cache = identity.name, verb = ?write.verb, kind = write.kind, name = write.name, "written");
    }
    let word = match &result {
        Ok(Next::Waiting) => "waiting",
        Ok(Next::Refused) => "refused",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    context.metrics.reconciled(word, begin.elapsed());
    let next = result?;
    context.backoff.forget(&identity);
    context.metrics.backing_off(context.backoff.len());
    Ok(match next {
        Next::Gone => {
            context.forget(&identity);
            Action::await_change()
        }
        Next::Waiting => Action::requeue(SOON),
        Next::Unsure => Action::requeue(backoff::around(observe::UNSURE)),
        Next::Done | Next::Refused => Action::requeue(backoff::around(context.settings.resync)),
    })
}

/// When to try a failed one again: later each time, on its own, with jitter.
pub fn try_again(seen: &Watched, error: &Error, context: &Context) -> Action {
    let identity = Identity::of(seen);
    let after = context.backoff.next(&identity);
    context.metrics.backing_off(context.backoff.len());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(namespace = identity.namespace, cache = identity.name, %error, cause, again_in_seconds = after.as_secs(), "reconcile failed");
    Action::requeue(after)
}

enum Next {
    Done,
    /// As `Done`, but what S3 says is not known, or not good.
    Unsure,
    Waiting,
    Refused,
    Gone,
}

/// The line: FalconCache ─► plan ─► resources ─► apply ─► status.
async fn pass(
    identity: &Identity,
    context: &Context,
    journal: &mut Vec<Write>,
) -> Result<Next, Error> {
    // Read again: what the watch showed may be older than what this process wrote.
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &identity.namespace,
        &ApiResource::erase::<FalconCache>(&()),
    );
    let fresh = api
        .get_opt(&identity.name)
        .await
        .map_err(|source| Error::Api {
            doing: "the cache can't be read",
            source,
        })?;
    let Some(fresh) = fresh.filter(|fresh| fresh.meta().deletion_timestamp.is_none()) else {
        return Ok(Next::Gone);
    };
    let identity = Identity::of(&fresh);
    // On its own: what was reported is known even of a spec that can't be read.
    let previous: Option<FalconCacheStatus> = fresh
        .data
        .get("status")
        .and_then(|status| serde_json::from_value(status.clone()).ok());
    let plan = match fresh.try_parse::<FalconCache>() {
        Ok(cache) => plan::plan(&cache, &context.settings.defaults),
        Err(error) => Err(plan::Error {
            field: "spec".to_owned(),
            problem: error.to_string(),
        }),
    };
    let outcome = match &plan {
        Ok(plan) if !plan.paused => {
            let wanted = resources(plan, &context.settings.role);
            context
                .writer
                .apply(&wanted, context.served().await, journal)
                .await
        }
        _ => context.writer.look(&identity).await.map(Outcome::Done),
    };
    if let Err(error) = &outcome
        && context.passes_by_itself(&identity, error)
    {
        return Err(outcome.err().map_or(Error::TooSlow, Error::Apply));
    }
    conclude(
        context,
        &identity,
        previous.as_ref(),
        &plan,
        &outcome,
        journal,
    )
    .await?;
    match (outcome?, &plan) {
        (_, Err(_)) => Ok(Next::Refused),
        (Outcome::Waiting { .. }, _) => Ok(Next::Waiting),
        (Outcome::Done(_), _) if context.observer.is_unsure(&identity) => Ok(Next::Unsure),
        (Outcome::Done(_), _) => Ok(Next::Done),
    }
}

impl Context {
    fn passes_by_itself(&self, identity: &Identity, error: &apply::Error) -> bool {
        match error {
            apply::Error::Fenced => true,
            apply::Error::Api { .. } | apply::Error::Random(_) => {
                self.backoff.failures(identity) + 1 < PATIENCE
            }
            apply::Error::Taken { .. }
            | apply::Error::Refused { .. }
            | apply::Error::Forbidden { .. } => false,
        }
    }
}

/// Looks at the pods, helps those that are stuck, and reports.
async fn conclude(
    context: &Context,
    identity: &Identity,
    previous: Option<&FalconCacheStatus>,
    plan: &Result<Plan, plan::Error>,
    outcome: &Result<Outcome, apply::Error>,
    journal: &mut Vec<Write>,
) -> Result<(), Error> {
    let pods = context
        .observer
        .pods(identity)
        .await
        .map_err(|source| Error::Api {
            doing: "the pods can't be listed",
            source,
        })?;
    let now = Timestamp::now();
    if let (Ok(plan), Ok(Outcome::Done(applied))) = (plan, outcome)
        && !plan.paused
    {
        for pod in applied
            .stateful_set
            .iter()
            .flat_map(|set| stuck(set, &pods, now))
        {
            context
                .writer
                .delete_pod(identity, &pod.name, &pod.uid, journal)
                .await?;
        }
        if tokenless(&pods, now) {
            context
                .writer
                .ensure_token(
                    &resources(plan, &context.settings.role).peer_secret,
                    journal,
                )
                .await?;
        }
    }
    let figures = context.observer.figures(identity, &pods).await;
    let (plan, outcome) = (plan.as_ref(), outcome.as_ref());
    let report = status(&Facts {
        identity,
        plan,
        outcome,
        pods: &pods,
        figures: figures.as_ref(),
        previous,
        now,
    });
    let events = events::news(previous, &report, journal);
    if previous != Some(&report) {
        context.writer.report(identity, &report, journal).await?;
    }
    let about = object_reference(identity);
    for event in events {
        // An event that can't be told is no reason to do the work again.
        if let Err(error) = context.recorder.publish(&event, &about).await {
            tracing::debug!(cache = identity.name, %error, "an event is not published");
        }
    }
    Ok(())
}

fn object_reference(identity: &Identity) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(FalconCache::api_version(&()).into_owned()),
        kind: Some(FalconCache::kind(&()).into_owned()),
        name: Some(identity.name.clone()),
        namespace: Some(identity.namespace.clone()),
        uid: Some(identity.uid.clone()),
        ..k8s_openapi::api::core::v1::ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
