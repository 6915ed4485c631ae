//! Outcome → status. Takes the time as a value; no client, no clock.
//!
//! | condition | True | False | Unknown |
//! |---|---|---|---|
//! | `Ready` | `Ready` | the first cause: `InvalidSpec`, `NameTaken`, `DiscoveryIdTaken`, `QuotaExceeded`, `ApplyRefused`, `ApplyForbidden`, `ApplyFailed`, `Replacing`, a pod's trouble, `Creating`, `Scaling`, `RollingOut`, `PodsStarting`, `ScaledToZero`, an origin's failure, `NotAsked` | |
//! | `Available` | `MinimumPodsReady` | `TooFewPodsReady`, `ScaledToZero` | |
//! | `Progressing` | `Creating`, `Scaling`, `RollingOut`, `PodsStarting`, `Replacing` | `Settled`, `Blocked` | |
//! | `Degraded` | as `Ready`'s mistakes, failures and pods' troubles | `AsExpected` | |
//! | `OriginReachable` | `OriginAnswers` | `OriginAccessDenied`, `OriginBucketNotFound`, `OriginUnreachable`, `OriginFails` | `NotAsked`, `NotKnown` |
//! | `ConfigurationWarning` | `RiskyValues` | `NoWarnings` | `InvalidSpec` |
//! | `Paused` | `PausedByUser` | `NotPaused` | |
//!
//! A pod's trouble is one of
//! - before it exists: `QuotaExceeded`, `PriorityClassMissing`, `RuntimeClassMissing`, `ServiceAccountMissing`, `PodSecurityRefused`, `PodsNotCreated`;
//! - before it runs: `SecretMissing`, `ConfigMapMissing`, `MountFailed`, `SandboxFailed`, `ImagePullFailed`, `ConfigurationMissing`, `Unschedulable`;
//! - later: `OutOfMemory`, `CrashLooping`, `Evicted`, `DeletionNotConfirmed`, `NotAnswering`.

mod figures;
pub mod rollout;
mod verdict;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::apply::{Applied, Error, Outcome};
use crate::crd::status::FalconCacheStatus;
use crate::observe::figures::Figures;
use crate::observe::pod::PodState;
use crate::observe::warnings::Refusal;
use crate::plan::{self, Identity, Plan};
use crate::resources::meta;
use crate::status::rollout::Rollout;
use crate::status::verdict::Verdict;

/// All that is known about a cache at one moment.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Which cache.
    pub identity: &'a Identity,
    /// Name of the operator that reports.
    pub operator: &'a str,
    /// What it should be, or why that makes no sense.
    pub plan: Result<&'a Plan, &'a plan::Error>,
    /// How far the last run came.
    pub outcome: Result<&'a Outcome, &'a Error>,
    /// Its pods.
    pub pods: &'a [PodState],
    /// Pods that could not be created.
    pub refusals: &'a [Refusal],
    /// Their figures.
    pub figures: Option<&'a Figures>,
    /// What was reported before.
    pub previous: Option<&'a FalconCacheStatus>,
    /// The time.
    pub now: Timestamp,
}

/// What is to be reported.
pub fn status(facts: &Facts<'_>) -> FalconCacheStatus {
    let none = Applied::default();
    let applied = match facts.outcome {
        Ok(Outcome::Done(applied)) => applied,
        _ => &none,
    };
    // A run that failed says nothing about the pods: they are counted all the same.
    let rollout = Rollout::of(facts.plan.ok(), applied, facts.pods, facts.previous);
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
    figures::report(&mut status, facts.figures, rollout.desired);
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

fn conditions(facts: &Facts<'_>, rollout: &Rollout, applied: &Applied) -> Vec<Condition> {
    let degraded = verdict::degraded(facts, rollout);
    let progressing = verdict::progressing(facts, rollout, &degraded);
    let origin = verdict::origin(facts);
    let verdicts = [
        (
            "Ready",
            verdict::ready(rollout, &degraded, &progressing, &origin),
        ),
        ("Available", verdict::available(rollout)),
        ("Progressing", progressing),
        ("Degraded", degraded),
        ("OriginReachable", origin),
        ("ConfigurationWarning", verdict::warning(facts, applied)),
        ("Paused", verdict::paused(facts)),
    ];
    verdicts
        .into_iter()
        .map(|(kind, verdict)| stamp(kind, verdict, facts))
        .collect()
}

/// The time of a condition is that of its last change of status, so that looking again changes nothing.
fn stamp(kind: &str, verdict: Verdict, facts: &Facts<'_>) -> Condition {
    let before = facts.previous.and_then(|status| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
    });
    let since = before
        .filter(|condition| condition.status == verdict.status)
        .map(|condition| condition.last_transition_time.clone());
    Condition {
        type_: kind.to_owned(),
        status: verdict.status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message,
        observed_generation: Some(facts.identity.generation),
        // Without fractions, as the API server prints it.
        last_transition_time: since.unwrap_or_else(|| {
            Time(Timestamp::from_second(facts.now.as_second()).unwrap_or(facts.now))
        }),
    }
}

#[cfg(test)]
mod tests;
