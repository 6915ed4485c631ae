//! Watches, the reconcile line, and when to try again.

mod backoff;
mod context;
mod report;
mod retries;
mod rivals;
mod siblings;
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
use crate::controller::report::{Findings, conclude, object_reference};
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::events;
use crate::observe;
use crate::plan::{self, Identity, Plan};
use crate::resources::resources;
use crate::status::since;

/// When something has to go before the next step.
const SOON: Duration = Duration::from_secs(2);
/// Pause between two looks at what somebody else has: a name, a ring, the whole cache.
const TAKEN: Duration = Duration::from_secs(10);
/// For how long a cache that is not whole is looked at often. After that, whatever is wrong stays wrong for longer.
const ATTENTIVE: i64 = 600;

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
        Ok(Next::Foreign) => "foreign",
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
        Next::Unsure => {
            let pause = observe::UNSURE.min(context.settings.resync);
            Action::requeue(backoff::around(pause))
        }
        Next::Foreign => Action::requeue(backoff::around(TAKEN)),
        Next::Done | Next::Refused => Action::requeue(backoff::around(context.settings.resync)),
    })
}

/// When to try a failed one again: later each time, on its own, with jitter.
pub fn try_again(seen: &Watched, error: &Error, context: &Context) -> Action {
    let identity = Identity::of(seen);
    let mut after = context.backoff.next(&identity);
    if let Error::Apply(apply::Error::Taken { .. } | apply::Error::RingTaken { .. }) = error {
        // No watch tells when a name is free again.
        after = after.min(TAKEN);
    }
    context.metrics.backing_off(context.backoff.len());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(namespace = identity.namespace, cache = identity.name, %error, cause, again_in_seconds = after.as_secs(), "reconcile failed");
    Action::requeue(after)
}

enum Next {
    Done,
    /// As `Done`, but pods are missing or S3 does not answer: look again soon.
    Unsure,
    Waiting,
    Refused,
    /// Another operator looks after it.
    Foreign,
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
    if let Some(other) = context.rival(&identity, previous.as_ref()).await {
        leave_to(&other, &identity, context).await;
        return Ok(Next::Foreign);
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
        Ok(plan) if !plan.paused => carry_out(plan, context, journal).await?,
        _ => context.writer.look(&identity).await.map(Outcome::Done),
    };
    if let Err(error) = &outcome
        && context.passes_by_itself(&identity, error)
    {
        return Err(outcome.err().map_or(Error::TooSlow, Error::Apply));
    }
    let findings = Findings {
        identity: &identity,
        version: version.as_deref(),
        previous: previous.as_ref(),
        plan: &plan,
        outcome: &outcome,
    };
    let report = conclude(context, &findings, journal).await?;
    match (outcome?, &plan) {
        (_, Err(_)) => Ok(Next::Refused),
        (Outcome::Waiting { .. }, _) => Ok(Next::Waiting),
        (Outcome::Done(_), _)
            if context.observer.is_unsure(&identity) || is_recent(&report, Timestamp::now()) =>
        {
            Ok(Next::Unsure)
        }
        (Outcome::Done(_), _) => Ok(Next::Done),
    }
}

/// Applies all that the plan asks for, unless its ring belongs to another cache.
async fn carry_out(
    plan: &Plan,
    context: &Context,
    journal: &mut Vec<Write>,
) -> Result<Result<Outcome, apply::Error>, Error> {
    if let Some(taken) = context.ring_taken(plan).await? {
        return Ok(Err(taken));
    }
    let wanted = resources(plan, &context.settings.role);
    let served = context.served().await;
    Ok(context.writer.apply(&wanted, served, journal).await)
}

/// Says, once, that another operator looks after the cache.
async fn leave_to(other: &str, identity: &Identity, context: &Context) {
    if !context.rivals.is_news(identity, other) {
        return;
    }
    tracing::warn!(
        namespace = identity.namespace,
        cache = identity.name,
        operator = other,
        "another operator looks after this cache: it is left alone"
    );
    let event = events::foreign(other, &context.settings.operator);
    let about = object_reference(identity);
    if let Err(error) = context.recorder.publish(&event, &about).await {
        tracing::debug!(cache = identity.name, %error, "an event is not published");
    }
}

/// Whether something began to move or to be wrong a short time ago, and still does.
fn is_recent(report: &FalconCacheStatus, now: Timestamp) -> bool {
    ["Progressing", "Degraded"]
        .into_iter()
        .filter_map(|kind| since(report, kind))
        .any(|begin| now.as_second() - begin.as_second() < ATTENTIVE)
}

#[cfg(test)]
mod tests;
