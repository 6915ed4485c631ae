//! The end of the pipeline: observes the pods, repairs what is stuck, and updates the status.

use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use crate::apply::{self, Applied, Outcome, Write};
use crate::controller::context::{Context, Error};
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::events;
use crate::observe::pod::PodState;
use crate::observe::pod_events::CreationFailure;
use crate::plan::{self, Identity, Plan};
use crate::resources::resources;
use crate::status::rollout_progress::{missing_peer_secret, stuck_pods};
use crate::status::{Facts, is_true, status};

/// What a reconcile knows before it observes the pods.
pub(super) struct Findings<'a> {
    pub(super) identity: &'a Identity,
    /// Resource version of the cache that was read.
    pub(super) version: Option<&'a str>,
    pub(super) previous: Option<&'a FalconCacheStatus>,
    pub(super) plan: &'a Result<Plan, plan::Error>,
    pub(super) outcome: &'a Result<Outcome, apply::Error>,
}

/// Observes the pods, repairs what is stuck, and updates the status, which is returned.
pub(super) async fn update_status(
    context: &Context,
    findings: &Findings<'_>,
    changes: &mut Vec<Write>,
) -> Result<FalconCacheStatus, Error> {
    let Findings {
        identity, previous, ..
    } = *findings;
    let now = Timestamp::now();
    let pods = context
        .observer
        .pods(identity, now)
        .await
        .map_err(|source| Error::Api {
            doing: "the pods can't be listed",
            source,
        })?;
    let mut creation_failures = Vec::new();
    if let Ok(Outcome::Done(applied)) = findings.outcome {
        creation_failures = uncreated_pods(context, findings, applied, &pods).await?;
        if let Ok(plan) = findings.plan
            && !plan.paused
        {
            repair(context, plan, applied, &pods, now, changes).await?;
            if creation_failures.is_empty() {
                context.creation_retries.forget(identity);
            } else if context.creation_retries.take_due(identity) {
                context.writer.retry_creation(identity, changes).await?;
            }
        }
    }
    let metrics = context.observer.cache_metrics(identity, &pods).await;
    let report = status(&Facts {
        identity,
        operator: &context.settings.operator,
        plan: findings.plan.as_ref(),
        outcome: findings.outcome.as_ref(),
        pods: &pods,
        creation_failures: &creation_failures,
        metrics: metrics.as_ref(),
        previous,
        now,
    });
    let events = events::events_for(previous, &report, changes);
    if previous != Some(&report) {
        // With the resource version, only one of several operators can take a cache over.
        let takes_over =
            previous.and_then(|status| status.operator.as_ref()) != report.operator.as_ref();
        let version = findings.version.filter(|_| takes_over);
        context
            .writer
            .write_status(identity, &report, version, changes)
            .await?;
    }
    context.other_operators.record_owned(identity);
    let about = object_reference(identity);
    for event in events {
        // An event that can't be published is no reason to retry the reconcile.
        if let Err(error) = context.recorder.publish(&event, &about).await {
            tracing::debug!(cache = identity.name, %error, "an event can't be published");
        }
    }
    Ok(report)
}

/// Pods that can't be created. Right after a pod was deleted, an old Event may be the newest, so Events are not read of
/// a cache that was complete at the last reconcile.
async fn uncreated_pods(
    context: &Context,
    findings: &Findings<'_>,
    applied: &Applied,
    pods: &[PodState],
) -> Result<Vec<CreationFailure>, Error> {
    let Some(set) = &applied.stateful_set else {
        return Ok(Vec::new());
    };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
    let missing = i32::try_from(pods.len()).is_ok_and(|count| Some(count) < wanted);
    let was_complete = findings
        .previous
        .is_some_and(|status| !is_true(status, "Progressing") && !is_true(status, "Degraded"));
    if !missing || was_complete {
        return Ok(Vec::new());
    }
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    context
        .observer
        .creation_failures(findings.identity, uid, pods)
        .await
        .map_err(|source| Error::Api {
            doing: "the events of the pods can't be listed",
            source,
        })
}

async fn repair(
    context: &Context,
    plan: &Plan,
    applied: &Applied,
    pods: &[PodState],
    now: Timestamp,
    changes: &mut Vec<Write>,
) -> Result<(), Error> {
    let identity = &plan.identity;
    for pod in applied
        .stateful_set
        .iter()
        .flat_map(|set| stuck_pods(set, pods, now))
    {
        context
            .writer
            .delete_pod(identity, &pod.name, &pod.uid, changes)
            .await?;
    }
    let secret = resources(plan, &context.settings.role).peer_secret;
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    if missing_peer_secret(pods, name, now) {
        context.writer.ensure_token(&secret, changes).await?;
    }
    Ok(())
}

/// Reference to the cache, for Events.
pub(super) fn object_reference(identity: &Identity) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(FalconCache::api_version(&()).into_owned()),
        kind: Some(FalconCache::kind(&()).into_owned()),
        name: Some(identity.name.clone()),
        namespace: Some(identity.namespace.clone()),
        uid: Some(identity.uid.clone()),
        ..k8s_openapi::api::core::v1::ObjectReference::default()
    }
}
