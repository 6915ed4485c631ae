//! The end of the pipeline: what is written to the status and published as Events.

use kube::Resource;

use crate::apply::Write;
use crate::controller::context::{Context, Error};
use crate::controller::findings::Findings;
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::events;
use crate::observe::Observation;
use crate::plan::Identity;
use crate::status::{Facts, status};

/// Writes the status if it has changed, and returns it.
pub(super) async fn report(
    context: &Context,
    findings: &Findings<'_>,
    observed: &Observation,
    changes: &mut Vec<Write>,
) -> Result<FalconCacheStatus, Error> {
    let Findings {
        identity, previous, ..
    } = *findings;
    let metrics = context
        .observer
        .cache_metrics(identity, &observed.pods)
        .await;
    let report = status(&Facts {
        identity,
        operator: &context.settings.operator,
        plan: findings.plan.as_ref(),
        outcome: findings.outcome.as_ref(),
        observed,
        metrics: metrics.as_ref(),
        previous,
    });
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
    Ok(report)
}

/// Publishes Events for what has changed and for what was repaired. A failure to publish is only logged: it is no
/// reason to retry the reconcile.
pub(super) async fn publish(
    context: &Context,
    findings: &Findings<'_>,
    report: &FalconCacheStatus,
    changes: &[Write],
) {
    let about = object_reference(findings.identity);
    for event in events::events_for(findings.previous, report, changes) {
        if let Err(error) = context.recorder.publish(&event, &about).await {
            tracing::debug!(cache = findings.identity.name, %error, "failed to publish an Event");
        }
    }
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
