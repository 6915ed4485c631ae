//! Outcome → status. Takes the time as a value; no client, no clock.
//!
//! | condition | True | False | Unknown |
//! |---|---|---|---|
//! | `Ready` | `Ready` | the first of the causes below | |
//! | `Available` | `MinimumPodsReady` | `TooFewPodsReady`, `ScaledToZero` | |
//! | `Progressing` | `Creating`, `Scaling`, `RollingOut`, `PodsStarting`, `Replacing` | `Complete`, `Blocked` | |
//! | `Degraded` | a mistake, a failure to apply, or a pod's problem | `AsExpected` | |
//! | `OriginReachable` | `OriginResponding` | a failure of the origin | `OriginNotContacted`, `OriginUnknown` |
//! | `ConfigurationWarning` | `RiskyValues` | `NoWarnings` | `InvalidSpec` |
//! | `Paused` | `PausedByUser` | `NotPaused` | |
//!
//! The causes of an unready cache, in their order:
//! - a mistake: `InvalidSpec`;
//! - a failure to apply: `NameTaken`, `DiscoveryIdTaken`, `QuotaExceeded`, `ApplyRejected`, `ApplyForbidden`,
//!   `ApplyFailed`;
//! - a pod's problem, see below;
//! - progress: `Replacing`, `Creating`, `Scaling`, `RollingOut`, `PodsStarting`; then `ScaledToZero`;
//! - a failure of the origin: `OriginAccessDenied`, `OriginBucketNotFound`, `OriginUnreachable`, `OriginFailing`; then
//!   `OriginNotContacted`.
//!
//! A pod's problem is one of
//! - before it exists: `QuotaExceeded`, `PriorityClassMissing`, `RuntimeClassMissing`, `ServiceAccountMissing`,
//!   `PodSecurityViolation`, `PodCreationFailed`;
//! - before it runs: `SecretMissing`, `ConfigMapMissing`, `MountFailed`, `SandboxFailed`, `ImagePullFailed`,
//!   `ConfigurationMissing`, `Unschedulable`;
//! - later: `OutOfMemory`, `CrashLooping`, `Evicted`, `DeletionNotConfirmed`, `NotResponding`.

mod conditions;
pub mod rollout_progress;
mod usage;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::apply::{Applied, Error, Outcome};
use crate::crd::status::FalconCacheStatus;
use crate::observe::Observation;
use crate::observe::pod_metrics::CacheMetrics;
use crate::plan::{self, Identity, Plan};
use crate::resources::meta;
use crate::status::conditions::ConditionState;
use crate::status::rollout_progress::RolloutProgress;

/// All that is known about a cache at one moment.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Which cache.
    pub identity: &'a Identity,
    /// Name of this operator.
    pub operator: &'a str,
    /// Its plan, or why the spec is invalid.
    pub plan: Result<&'a Plan, &'a plan::Error>,
    /// Result of applying it.
    pub outcome: Result<&'a Outcome, &'a Error>,
    /// Its pods, and the time.
    pub observed: &'a Observation,
    /// Their metrics.
    pub metrics: Option<&'a CacheMetrics>,
    /// The previous status.
    pub previous: Option<&'a FalconCacheStatus>,
}

/// The new status.
pub fn status(facts: &Facts<'_>) -> FalconCacheStatus {
    let none = Applied::default();
    let applied = match facts.outcome {
        Ok(Outcome::Done(applied)) => applied,
        _ => &none,
    };
    // If applying failed, the pods are counted all the same.
    let rollout = RolloutProgress::count(
        facts.plan.ok(),
        applied,
        &facts.observed.pods,
        facts.previous,
    );
    let mut status = FalconCacheStatus {
        observed_generation: Some(facts.identity.generation),
        replicas: rollout.existing,
        ready_replicas: rollout.ready,
        ready: Some(format!("{}/{}", rollout.ready, rollout.desired)),
        selector: Some(meta::selector_text(facts.identity)),
        operator: Some(facts.operator.to_owned()),
        conditions: conditions(facts, &rollout, applied),
        ..facts.previous.cloned().unwrap_or_default()
    };
    if let (Ok(plan), Ok(Outcome::Done(_))) = (facts.plan, facts.outcome)
        && !plan.paused
    {
        status.discovery_id = Some(plan.discovery_id.clone());
    }
    if let Ok(plan) = facts.plan {
        status.endpoint = Some(meta::endpoint(plan));
        status.version = Some(plan.image.version().to_owned());
    }
    usage::update(&mut status, facts.metrics, rollout.desired);
    status
}

/// Whether the condition of this type is true.
pub fn is_true(status: &FalconCacheStatus, kind: &str) -> bool {
    since(status, kind).is_some()
}

/// Since when the condition of this type is true.
pub fn since(status: &FalconCacheStatus, kind: &str) -> Option<Timestamp> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == "True")
        .map(|condition| condition.last_transition_time.0)
}

fn conditions(facts: &Facts<'_>, rollout: &RolloutProgress, applied: &Applied) -> Vec<Condition> {
    let degraded = conditions::degraded(facts, rollout);
    let progressing = conditions::progressing(facts, rollout, &degraded);
    let origin = conditions::origin(facts);
    let states = [
        (
            "Ready",
            conditions::ready(rollout, &degraded, &progressing, &origin),
        ),
        ("Available", conditions::available(rollout)),
        ("Progressing", progressing),
        ("Degraded", degraded),
        ("OriginReachable", origin),
        ("ConfigurationWarning", conditions::warning(facts, applied)),
        ("Paused", conditions::paused(facts)),
    ];
    states
        .into_iter()
        .map(|(kind, state)| with_time(kind, state, facts))
        .collect()
}

/// The time of a condition is that of its last change of status, so that another reconcile changes nothing.
fn with_time(kind: &str, state: ConditionState, facts: &Facts<'_>) -> Condition {
    let before = facts.previous.and_then(|status| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
    });
    let since = before
        .filter(|condition| condition.status == state.status)
        .map(|condition| condition.last_transition_time.clone());
    Condition {
        type_: kind.to_owned(),
        status: state.status.to_owned(),
        reason: state.reason.to_owned(),
        message: state.message,
        observed_generation: Some(facts.identity.generation),
        // Without fractions, as the API server formats it.
        last_transition_time: since.unwrap_or_else(|| {
            Time(
                Timestamp::from_second(facts.observed.now.as_second())
                    .unwrap_or(facts.observed.now),
            )
        }),
    }
}

#[cfg(test)]
mod tests;
