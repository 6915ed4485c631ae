//! The state of each condition. Pure.

use k8s_openapi::jiff::Timestamp;

use crate::apply::{Applied, Error, Outcome};
use crate::observe::pod::{Cause, PodProblem, PodState};
use crate::observe::pod_metrics::OriginHealth;
use crate::status::Facts;
use crate::status::rollout_progress::RolloutProgress;

/// Maximum number of pods named in one message.
const MAX_NAMED_PODS: usize = 3;
/// A live node confirms the termination of a pod within this after its grace period.
const CONFIRMATION_SECONDS: i64 = 10;

/// A condition without its name and time.
pub(super) struct ConditionState {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn state(status: &'static str, reason: &'static str, message: impl Into<String>) -> ConditionState {
    ConditionState {
        status,
        reason,
        message: message.into(),
    }
}

impl ConditionState {
    fn is(&self, status: &str) -> bool {
        self.status == status
    }
}

/// Something is wrong that waiting won't fix.
pub(super) fn degraded(facts: &Facts<'_>, rollout: &RolloutProgress) -> ConditionState {
    if let Err(mistake) = facts.plan {
        return state("True", "InvalidSpec", mistake.to_string());
    }
    if let Err(error) = facts.outcome {
        return state("True", failure_reason(error), describe(error));
    }
    let problems = pod_problems(facts);
    let Some(worst) = problems
        .iter()
        .map(|(_, problem)| problem.cause)
        .min()
        .filter(|_| !rollout.is_complete())
    else {
        return state("False", "AsExpected", "no problem found");
    };
    let mut texts: Vec<String> = problems
        .iter()
        .take(MAX_NAMED_PODS)
        .map(|(pod, problem)| format!("pod {pod}: {}", problem.message))
        .collect();
    if problems.len() > MAX_NAMED_PODS {
        texts.push(format!("and {} more", problems.len() - MAX_NAMED_PODS));
    }
    state("True", worst.reason(), texts.join("; "))
}

/// Problems that keep pods from serving: first pods that can't be created, then those that exist.
fn pod_problems(facts: &Facts<'_>) -> Vec<(String, PodProblem)> {
    let missing = facts
        .observed
        .creation_failures
        .iter()
        .map(|failure| (failure.pod.clone(), failure.problem.clone()));
    let leaving = facts.observed.pods.iter().filter_map(|pod| {
        Some((
            pod.name.clone(),
            unconfirmed_deletion(pod, facts.observed.now)?,
        ))
    });
    let present = facts
        .observed
        .pods
        .iter()
        .filter(|pod| !pod.is_terminating())
        .filter_map(|pod| Some((pod, pod.problem.as_ref()?)))
        .filter(|(pod, problem)| {
            problem.cause != Cause::NotResponding
                || pod.unreachable
                || pod.is_overdue(facts.observed.now)
        })
        .map(|(pod, problem)| (pod.name.clone(), problem.clone()));
    missing.chain(leaving).chain(present).collect()
}

/// A pod that still exists after its grace period: its node does not confirm that it terminated.
fn unconfirmed_deletion(pod: &PodState, now: Timestamp) -> Option<PodProblem> {
    let over = now.as_second() - pod.terminates_at?.as_second();
    (over >= CONFIRMATION_SECONDS).then(|| PodProblem {
        cause: Cause::DeletionNotConfirmed,
        message: format!(
            "its node {} does not confirm that it terminated: if that node is gone, delete the node (kubectl delete node), or the pod with --force",
            pod.node.as_deref().unwrap_or("(unknown)")
        ),
    })
}

fn failure_reason(error: &Error) -> &'static str {
    match error {
        Error::NameTaken { .. } => "NameTaken",
        Error::DiscoveryIdTaken { .. } => "DiscoveryIdTaken",
        Error::Rejected { .. } => "ApplyRejected",
        Error::Forbidden { message, .. } if message.contains("exceeded quota") => "QuotaExceeded",
        Error::Forbidden { .. } => "ApplyForbidden",
        Error::Api { .. } | Error::Random(_) | Error::Fenced => "ApplyFailed",
    }
}

/// The error and its causes, without what differs between retries.
fn describe(error: &Error) -> String {
    match error {
        Error::Api { source, .. } => match &**source {
            kube::Error::Api(status) => format!("{error}: {}", status.message),
            _ => format!("{error}: the API server does not respond"),
        },
        other => other.to_string(),
    }
}

/// A rollout is in progress.
pub(super) fn progressing(
    facts: &Facts<'_>,
    rollout: &RolloutProgress,
    degraded: &ConditionState,
) -> ConditionState {
    if facts.plan.is_err() || facts.outcome.is_err() {
        return state("False", "Blocked", degraded.message.clone());
    }
    if let Ok(Outcome::Waiting { message }) = facts.outcome {
        return state("True", "Replacing", message.clone());
    }
    if rollout.is_complete() {
        return state("False", "Complete", "all pods are up to date and ready");
    }
    let RolloutProgress {
        desired,
        existing,
        ready,
        updated,
        ..
    } = *rollout;
    if !rollout.exists || (!rollout.was_ready && ready == 0) {
        state(
            "True",
            "Creating",
            format!("{existing} of {desired} pods exist, {ready} are ready"),
        )
    } else if existing != desired {
        state(
            "True",
            "Scaling",
            format!("scaling from {existing} to {desired} pods"),
        )
    } else if updated < desired || !rollout.observed {
        state(
            "True",
            "RollingOut",
            format!("{updated} of {desired} pods are updated"),
        )
    } else {
        state(
            "True",
            "PodsStarting",
            format!("{ready} of {desired} pods are ready"),
        )
    }
}

/// The summary.
pub(super) fn ready(
    rollout: &RolloutProgress,
    degraded: &ConditionState,
    progressing: &ConditionState,
    origin: &ConditionState,
) -> ConditionState {
    let because = |state: &ConditionState| ConditionState {
        status: "False",
        reason: state.reason,
        message: state.message.clone(),
    };
    if degraded.is("True") {
        because(degraded)
    } else if progressing.is("True") {
        because(progressing)
    } else if rollout.desired == 0 {
        state("False", "ScaledToZero", "spec.replicas is 0")
    } else if origin.is("False") || origin.reason == "OriginNotContacted" {
        because(origin)
    } else {
        state(
            "True",
            "Ready",
            format!("{} of {} pods are ready", rollout.ready, rollout.desired),
        )
    }
}

/// Enough pods are ready.
pub(super) fn available(rollout: &RolloutProgress) -> ConditionState {
    let text = format!("{} of {} pods are ready", rollout.ready, rollout.desired);
    if rollout.desired == 0 && rollout.ready == 0 {
        state("False", "ScaledToZero", text)
    } else if rollout.ready >= rollout.min_available {
        state("True", "MinimumPodsReady", text)
    } else {
        state(
            "False",
            "TooFewPodsReady",
            format!("{text}, {} are required", rollout.min_available),
        )
    }
}

/// S3 responds to the pods.
pub(super) fn origin(facts: &Facts<'_>) -> ConditionState {
    let Some(metrics) = facts.metrics else {
        // No pod could be read: the previous state stays.
        let before = facts.previous.and_then(|status| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == "OriginReachable")
        });
        return match before {
            Some(condition) if condition.status == "True" => {
                state("True", "OriginResponding", condition.message.clone())
            }
            Some(condition) if condition.status == "False" => state(
                "False",
                known_reason(&condition.reason),
                condition.message.clone(),
            ),
            _ => state(
                "Unknown",
                "OriginUnknown",
                "no pod reports the state of the origin",
            ),
        };
    };
    match &metrics.origin {
        OriginHealth::NotContacted => state(
            "Unknown",
            "OriginNotContacted",
            "no pod has contacted the origin yet",
        ),
        OriginHealth::Responding => state("True", "OriginResponding", "the origin responds"),
        OriginHealth::Failing(code) => {
            let (reason, hint) = explain(code);
            let buckets = facts
                .plan
                .map(|plan| plan.origin.buckets.join(", "))
                .unwrap_or_default();
            let place = facts
                .plan
                .ok()
                .and_then(|plan| plan.origin.endpoint.clone())
                .unwrap_or_else(|| "Amazon S3".to_owned());
            state(
                "False",
                reason,
                format!("{place} returns {code} for {buckets}: {hint}"),
            )
        }
    }
}

fn explain(code: &str) -> (&'static str, &'static str) {
    match code {
        "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" => (
            "OriginAccessDenied",
            "check the credentials, or the permissions of the service account",
        ),
        "RequestTimeTooSkewed" => (
            "OriginAccessDenied",
            "check the clocks of the nodes and of S3",
        ),
        "NoSuchBucket" => (
            "OriginBucketNotFound",
            "check spec.origin.buckets, region and endpoint",
        ),
        "OriginUnreachable" | "OriginTimeout" | "Unreachable" | "Timeout" | "RequestTimeout" => (
            "OriginUnreachable",
            "check spec.origin.endpoint and the network",
        ),
        _ => ("OriginFailing", "the origin returns errors"),
    }
}

fn known_reason(reason: &str) -> &'static str {
    [
        "OriginAccessDenied",
        "OriginBucketNotFound",
        "OriginUnreachable",
    ]
    .into_iter()
    .find(|known| *known == reason)
    .unwrap_or("OriginFailing")
}

/// Values that are allowed but risky.
pub(super) fn warning(facts: &Facts<'_>, applied: &Applied) -> ConditionState {
    let Ok(plan) = facts.plan else {
        return state("Unknown", "InvalidSpec", "the spec is invalid");
    };
    let mut warnings = plan.warnings.clone();
    if applied.replicas_autoscaled {
        warnings.push(format!(
            "an autoscaler sets the replicas of StatefulSet {0}, so spec.replicas is not applied: let it target the FalconCache instead, \
             then reset the replicas with kubectl scale statefulset {0}",
            facts.identity.name
        ));
    }
    if warnings.is_empty() {
        state("False", "NoWarnings", "no risky values")
    } else {
        state("True", "RiskyValues", warnings.join("; "))
    }
}

/// The user has paused the cache.
pub(super) fn paused(facts: &Facts<'_>) -> ConditionState {
    if facts.plan.is_ok_and(|plan| plan.paused) {
        state(
            "True",
            "PausedByUser",
            "spec.paused is true: the cache is not reconciled",
        )
    } else {
        state("False", "NotPaused", "the cache is reconciled")
    }
}
