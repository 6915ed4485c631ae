//! Watches, the reconcile pipeline, and retries.

mod backoff;
mod context;
mod discovery_ids;
mod findings;
mod observation;
mod other_operators;
mod report;
pub mod watches;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::controller::Action;
use tokio::time::{Instant, timeout};

use crate::apply::{self, Outcome, Write};
use crate::controller::context::DEADLINE;
pub use crate::controller::context::{Context, Error, Settings, Watched};
use crate::controller::findings::Findings;
use crate::controller::observation::observe;
use crate::controller::report::{object_reference, publish, report};
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::events;
use crate::observe::{self, Observation};
use crate::plan::{self, Identity, Plan};
use crate::resources::resources;
use crate::status::since;

/// Pause until the next reconcile when an object has to be deleted first.
const WAITING_PAUSE: Duration = Duration::from_secs(2);
/// Pause until the next reconcile when someone else owns a name, a discovery id or the cache.
const CONFLICT_PAUSE: Duration = Duration::from_secs(10);
/// For how long a cache that is not complete is reconciled often. After that, a problem is likely to last.
const RECHECK_SECONDS: i64 = 600;

/// Entry point for the runtime: limits concurrency and time, and counts.
pub async fn reconcile(seen: Arc<Watched>, context: Arc<Context>) -> Result<Action, Error> {
    let waits = context.metrics.enter_queue();
    let Ok(_permit) = context.permits.acquire().await else {
        return Ok(Action::await_change());
    };
    drop(waits);
    let _runs = context.metrics.start_reconcile();
    let begin = Instant::now();
    let identity = Identity::from_object(&*seen);
    let mut changes = Vec::new();
    // Boxed: a thousand caches may be waiting, and a waiting future should be small.
    let result = timeout(
        DEADLINE,
        Box::pin(reconcile_cache(&identity, &context, &mut changes)),
    )
    .await
    .unwrap_or(Err(Error::TooSlow));
    context.metrics.count_writes(&changes);
    for write in &changes {
        tracing::info!(namespace = identity.namespace, cache = identity.name, verb = ?write.verb, kind = write.kind, name = write.name, "wrote an object");
    }
    let label = match &result {
        Ok(Next::Waiting) => "waiting",
        Ok(Next::InvalidSpec) => "invalid_spec",
        Ok(Next::OtherOperator) => "other_operator",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    context.metrics.count_reconcile(label, begin.elapsed());
    let next = result?;
    context.backoff.forget(&identity);
    context.metrics.set_backing_off(context.backoff.len());
    Ok(match next {
        Next::Gone => {
            context.forget(&identity);
            Action::await_change()
        }
        Next::Waiting => Action::requeue(WAITING_PAUSE),
        Next::Recheck => {
            let pause = observe::RECHECK_INTERVAL.min(context.settings.resync);
            Action::requeue(backoff::with_jitter(pause))
        }
        Next::OtherOperator => Action::requeue(backoff::with_jitter(CONFLICT_PAUSE)),
        Next::Done | Next::InvalidSpec => {
            Action::requeue(backoff::with_jitter(context.settings.resync))
        }
    })
}

/// When to retry a failed reconcile: exponential back-off per cache, with jitter.
pub fn error_policy(seen: &Watched, error: &Error, context: &Context) -> Action {
    let identity = Identity::from_object(seen);
    let mut after = context.backoff.record_failure(&identity);
    if let Error::Apply(apply::Error::NameTaken { .. } | apply::Error::DiscoveryIdTaken { .. }) =
        error
    {
        // No watch notifies when a name is free again.
        after = after.min(CONFLICT_PAUSE);
    }
    context.metrics.set_backing_off(context.backoff.len());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(namespace = identity.namespace, cache = identity.name, %error, cause, retry_in_seconds = after.as_secs(), "failed to reconcile");
    Action::requeue(after)
}

enum Next {
    Done,
    /// As `Done`, but pods are missing or S3 does not respond: reconcile again soon.
    Recheck,
    Waiting,
    InvalidSpec,
    /// Another operator manages it.
    OtherOperator,
    Gone,
}

/// The pipeline: FalconCache ─► plan ─► resources ─► apply ─► repair ─► status.
async fn reconcile_cache(
    identity: &Identity,
    context: &Context,
    changes: &mut Vec<Write>,
) -> Result<Next, Error> {
    // Read again: the watch's cached object may be older than what this process wrote.
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        &identity.namespace,
        &ApiResource::erase::<FalconCache>(&()),
    );
    let fresh = api
        .get_opt(&identity.name)
        .await
        .map_err(|source| Error::Api {
            doing: "failed to read the cache",
            source,
        })?;
    let Some(fresh) = fresh.filter(|fresh| fresh.meta().deletion_timestamp.is_none()) else {
        return Ok(Next::Gone);
    };
    let identity = Identity::from_object(&fresh);
    // Parsed on its own: the previous status is known even if the spec is invalid.
    let previous: Option<FalconCacheStatus> = fresh
        .data
        .get("status")
        .and_then(|status| serde_json::from_value(status.clone()).ok());
    if let Some(other) = context.other_operator(&identity, previous.as_ref()).await {
        report_other_operator(&other, &identity, context).await;
        return Ok(Next::OtherOperator);
    }
    let version = fresh.metadata.resource_version.clone();
    let plan = match fresh.try_parse::<FalconCache>() {
        Ok(cache) => plan::plan(&cache, &context.settings.defaults),
        Err(error) => Err(plan::Error {
            field: "spec".to_owned(),
            problem: error.to_string(),
        }),
    };
    let outcome = match &plan {
        Ok(plan) if !plan.paused => apply_plan(plan, context, changes).await?,
        _ => context.writer.read_only(&identity).await.map(Outcome::Done),
    };
    let outcome = match outcome {
        Err(error) if context.is_transient(&identity, &error) => return Err(error.into()),
        outcome => outcome,
    };
    let findings = Findings {
        identity: &identity,
        version: version.as_deref(),
        previous: previous.as_ref(),
        plan: &plan,
        outcome: &outcome,
    };
    let observed = observe(context, &findings).await?;
    repair(context, &findings, &observed, changes).await?;
    let report = report(context, &findings, &observed, changes).await?;
    publish(context, &findings, &report, changes).await;
    match (outcome?, &plan) {
        (_, Err(_)) => Ok(Next::InvalidSpec),
        (Outcome::Waiting { .. }, _) => Ok(Next::Waiting),
        (Outcome::Done(_), _)
            if context.observer.needs_recheck(&identity)
                || changed_recently(&report, Timestamp::now()) =>
        {
            Ok(Next::Recheck)
        }
        (Outcome::Done(_), _) => Ok(Next::Done),
    }
}

/// Applies the plan, unless its discovery id belongs to another cache.
async fn apply_plan(
    plan: &Plan,
    context: &Context,
    changes: &mut Vec<Write>,
) -> Result<Result<Outcome, apply::Error>, Error> {
    if let Some(taken) = context.discovery_id_conflict(plan).await? {
        return Ok(Err(taken));
    }
    let wanted = resources(plan, &context.settings.role);
    let available_apis = context.available_apis().await;
    Ok(context.writer.apply(&wanted, available_apis, changes).await)
}

/// Repairs what is stuck, if the cache's resources are applied.
async fn repair(
    context: &Context,
    findings: &Findings<'_>,
    observed: &Observation,
    changes: &mut Vec<Write>,
) -> Result<(), Error> {
    let (Ok(plan), Ok(Outcome::Done(applied))) = (findings.plan, findings.outcome) else {
        return Ok(());
    };
    if plan.paused {
        return Ok(());
    }
    let set = applied.stateful_set.as_deref();
    let peer_secret = resources(plan, &context.settings.role).peer_secret;
    let repairer = &context.repairer;
    repairer
        .repair(&plan.identity, set, &peer_secret, observed, changes)
        .await?;
    Ok(())
}

/// Reports, once, that another operator manages the cache.
async fn report_other_operator(other: &str, identity: &Identity, context: &Context) {
    if !context.other_operators.record_other(identity, other) {
        return;
    }
    tracing::warn!(
        namespace = identity.namespace,
        cache = identity.name,
        operator = other,
        "another operator manages this cache; leaving it alone"
    );
    let event = events::other_operator(other, &context.settings.operator);
    let about = object_reference(identity);
    if let Err(error) = context.recorder.publish(&event, &about).await {
        tracing::debug!(cache = identity.name, %error, "failed to publish an Event");
    }
}

/// Whether a rollout or a problem began a short time ago, and still lasts.
fn changed_recently(report: &FalconCacheStatus, now: Timestamp) -> bool {
    ["Progressing", "Degraded"]
        .into_iter()
        .filter_map(|kind| since(report, kind))
        .any(|begin| now.as_second() - begin.as_second() < RECHECK_SECONDS)
}

#[cfg(test)]
mod tests;
