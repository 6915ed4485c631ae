//! Observing a cache's pods, and why some of them can't be created.

use k8s_openapi::jiff::Timestamp;

use crate::apply::{Applied, Outcome};
use crate::controller::context::{Context, Error};
use crate::controller::findings::Findings;
use crate::observe::Observation;
use crate::observe::pod::PodState;
use crate::observe::pod_events::CreationFailure;
use crate::status::is_true;

/// Observes the pods of a cache.
pub(super) async fn observe(
    context: &Context,
    findings: &Findings<'_>,
) -> Result<Observation, Error> {
    let now = Timestamp::now();
    let pods = context
        .observer
        .pods(findings.identity, now)
        .await
        .map_err(|source| Error::Api {
            doing: "failed to list the pods",
            source,
        })?;
    let creation_failures = match findings.outcome {
        Ok(Outcome::Done(applied)) => creation_failures(context, findings, applied, &pods).await?,
        _ => Vec::new(),
    };
    Ok(Observation {
        now,
        pods,
        creation_failures,
    })
}

/// Why pods can't be created. Right after a pod was deleted, an old Event may be the newest, so Events are not read of
/// a cache that was complete at the last reconcile.
async fn creation_failures(
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
            doing: "failed to list the Events of the pods",
            source,
        })
}
