//! The end of the line: looks at the pods, helps those that are stuck, and reports.

use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use crate::apply::{self, Applied, Outcome, Write};
use crate::controller::context::{Context, Error};
use crate::crd::FalconCache;
use crate::crd::status::FalconCacheStatus;
use crate::events;
use crate::observe::pod::PodState;
use crate::observe::warnings::Refusal;
use crate::plan::{self, Identity, Plan};
use crate::resources::resources;
use crate::status::rollout::{stuck, tokenless};
use crate::status::{Facts, is_true, status};

/// What a pass has found out before it looks at the pods.
pub(super) struct Findings<'a> {
    pub(super) identity: &'a Identity,
    /// Version of the cache that was read.
    pub(super) version: Option<&'a str>,
    pub(super) previous: Option<&'a FalconCacheStatus>,
    pub(super) plan: &'a Result<Plan, plan::Error>,
    pub(super) outcome: &'a Result<Outcome, apply::Error>,
}

/// Looks at the pods, helps those that are stuck, and reports; what was reported.
pub(super) async fn conclude(
    context: &Context,
    findings: &Findings<'_>,
    journal: &mut Vec<Write>,
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
    let mut refusals = Vec::new();
    if let Ok(Outcome::Done(applied)) = findings.outcome {
        refusals = refused(context, findings, applied, &pods).await?;
        if let Ok(plan) = findings.plan
            && !plan.paused
        {
            help(context, plan, applied, &pods, now, journal).await?;
            if refusals.is_empty() {
                context.retries.forget(identity);
            } else if context.retries.is_due(identity) {
                context.writer.retry_creation(identity, journal).await?;
            }
        }
    }
    let figures = context.observer.figures(identity, &pods).await;
    let report = status(&Facts {
        identity,
        operator: &context.settings.operator,
        plan: findings.plan.as_ref(),
        outcome: findings.outcome.as_ref(),
        pods: &pods,
        refusals: &refusals,
        figures: figures.as_ref(),
        previous,
        now,
    });
    let events = events::news(previous, &report, journal);
    if previous != Some(&report) {
        // Taking a cache over is left to one: whoever reads it first.
        let takes_over =
            previous.and_then(|status| status.operator.as_ref()) != report.operator.as_ref();
        let version = findings.version.filter(|_| takes_over);
        context
            .writer
            .report(identity, &report, version, journal)
            .await?;
    }
    context.rivals.holds(identity);
    let about = object_reference(identity);
    for event in events {
        // An event that can't be told is no reason to do the work again.
        if let Err(error) = context.recorder.publish(&event, &about).await {
            tracing::debug!(cache = identity.name, %error, "an event is not published");
        }
    }
    Ok(report)
}

/// Pods that can't be created. In the moment after one is gone, an old Event may be the newest: what was whole at the last look is not asked about.
async fn refused(
    context: &Context,
    findings: &Findings<'_>,
    applied: &Applied,
    pods: &[PodState],
) -> Result<Vec<Refusal>, Error> {
    let Some(set) = &applied.stateful_set else {
        return Ok(Vec::new());
    };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
    let missing = i32::try_from(pods.len()).is_ok_and(|count| Some(count) < wanted);
    let was_whole = findings
        .previous
        .is_some_and(|status| !is_true(status, "Progressing") && !is_true(status, "Degraded"));
    if !missing || was_whole {
        return Ok(Vec::new());
    }
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    context
        .observer
        .refusals(findings.identity, uid, pods)
        .await
        .map_err(|source| Error::Api {
            doing: "the events of the pods can't be listed",
            source,
        })
}

async fn help(
    context: &Context,
    plan: &Plan,
    applied: &Applied,
    pods: &[PodState],
    now: Timestamp,
    journal: &mut Vec<Write>,
) -> Result<(), Error> {
    let identity = &plan.identity;
    for pod in applied
        .stateful_set
        .iter()
        .flat_map(|set| stuck(set, pods, now))
    {
        context
            .writer
            .delete_pod(identity, &pod.name, &pod.uid, journal)
            .await?;
    }
    let secret = resources(plan, &context.settings.role).peer_secret;
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    if tokenless(pods, name, now) {
        context.writer.ensure_token(&secret, journal).await?;
    }
    Ok(())
}

/// The cache, as Events name it.
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
