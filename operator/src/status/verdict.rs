//! One function for each condition. Pure.

use k8s_openapi::jiff::Timestamp;

use crate::apply::{Applied, Error, Outcome};
use crate::observe::figures::Origin;
use crate::observe::pod::{Cause, PodState, Trouble};
use crate::status::Facts;
use crate::status::rollout::{Rollout, overdue};

/// Pods named in one message; more would be a page.
const NAMED: usize = 3;
/// A node that lives confirms the end of a pod within this after its grace.
const CONFIRMATION_SECONDS: i64 = 10;

/// A condition without its name and time.
pub(super) struct Verdict {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn verdict(status: &'static str, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict {
        status,
        reason,
        message: message.into(),
    }
}

impl Verdict {
    fn is(&self, status: &str) -> bool {
        self.status == status
    }
}

/// Something is wrong that won't get right by waiting.
pub(super) fn degraded(facts: &Facts<'_>, rollout: &Rollout) -> Verdict {
    if let Err(mistake) = facts.plan {
        return verdict("True", "InvalidSpec", mistake.to_string());
    }
    if let Err(error) = facts.outcome {
        return verdict("True", failure(error), describe(error));
    }
    let troubled = troubles(facts);
    let Some(worst) = troubled
        .iter()
        .map(|(_, trouble)| trouble.cause)
        .min()
        .filter(|_| !rollout.complete())
    else {
        return verdict("False", "AsExpected", "nothing is wrong");
    };
    let mut texts: Vec<String> = troubled
        .iter()
        .take(NAMED)
        .map(|(pod, trouble)| format!("pod {pod}: {}", trouble.message))
        .collect();
    if troubled.len() > NAMED {
        texts.push(format!("and {} more", troubled.len() - NAMED));
    }
    verdict("True", worst.reason(), texts.join("; "))
}

/// What keeps pods from serving: first those that can't be created, then those that exist.
fn troubles(facts: &Facts<'_>) -> Vec<(String, Trouble)> {
    let missing = facts
        .refusals
        .iter()
        .map(|refusal| (refusal.pod.clone(), refusal.trouble.clone()));
    let leaving = facts
        .pods
        .iter()
        .filter_map(|pod| Some((pod.name.clone(), lingering(pod, facts.now)?)));
    let present = facts
        .pods
        .iter()
        .filter(|pod| !pod.leaves())
        .filter_map(|pod| Some((pod, pod.trouble.as_ref()?)))
        .filter(|(pod, trouble)| {
            trouble.cause != Cause::NotAnswering || pod.silent || overdue(pod, facts.now)
        })
        .map(|(pod, trouble)| (pod.name.clone(), trouble.clone()));
    missing.chain(leaving).chain(present).collect()
}

/// A pod whose grace is over and which is still there: its node does not say that it ended.
fn lingering(pod: &PodState, now: Timestamp) -> Option<Trouble> {
    let over = now.as_second() - pod.leaves_at?.as_second();
    (over >= CONFIRMATION_SECONDS).then(|| Trouble {
        cause: Cause::DeletionNotConfirmed,
        message: format!(
            "its node {} does not confirm that it ended: if that node is gone, delete it (kubectl delete node), or the pod with --force",
            pod.node.as_deref().unwrap_or("(unknown)")
        ),
    })
}

fn failure(error: &Error) -> &'static str {
    match error {
        Error::Taken { .. } => "NameTaken",
        Error::RingTaken { .. } => "DiscoveryIdTaken",
        Error::Refused { .. } => "ApplyRefused",
        Error::Forbidden { message, .. } if message.contains("exceeded quota") => "QuotaExceeded",
        Error::Forbidden { .. } => "ApplyForbidden",
        Error::Api { .. } | Error::Random(_) | Error::Fenced => "ApplyFailed",
    }
}

/// The error and its causes, without what changes from try to try.
fn describe(error: &Error) -> String {
    match error {
        Error::Api { source, .. } => match &**source {
            kube::Error::Api(status) => format!("{error}: {}", status.message),
            _ => format!("{error}: the API server does not answer"),
        },
        other => other.to_string(),
    }
}

/// The cluster is on its way to the newest form.
pub(super) fn progressing(facts: &Facts<'_>, rollout: &Rollout, degraded: &Verdict) -> Verdict {
    if facts.plan.is_err() || facts.outcome.is_err() {
        return verdict("False", "Blocked", degraded.message.clone());
    }
    if let Ok(Outcome::Waiting { message }) = facts.outcome {
        return verdict("True", "Replacing", message.clone());
    }
    if rollout.complete() {
        return verdict("False", "Settled", "every pod is as it should be");
    }
    let Rollout {
        desired,
        existing,
        ready,
        updated,
        ..
    } = *rollout;
    if !rollout.exists || (!rollout.was_ready && ready == 0) {
        verdict(
            "True",
            "Creating",
            format!("{existing} of {desired} pods exist, {ready} answer"),
        )
    } else if existing != desired {
        verdict(
            "True",
            "Scaling",
            format!("from {existing} to {desired} pods"),
        )
    } else if updated < desired || !rollout.observed {
        verdict(
            "True",
            "RollingOut",
            format!("{updated} of {desired} pods are of the newest form"),
        )
    } else {
        verdict(
            "True",
            "PodsStarting",
            format!("{ready} of {desired} pods answer"),
        )
    }
}

/// The summary.
pub(super) fn ready(
    rollout: &Rollout,
    degraded: &Verdict,
    progressing: &Verdict,
    origin: &Verdict,
) -> Verdict {
    let because = |verdict: &Verdict| Verdict {
        status: "False",
        reason: verdict.reason,
        message: verdict.message.clone(),
    };
    if degraded.is("True") {
        because(degraded)
    } else if progressing.is("True") {
        because(progressing)
    } else if rollout.desired == 0 {
        verdict("False", "ScaledToZero", "spec.replicas is 0")
    } else if origin.is("False") || origin.reason == "NotAsked" {
        because(origin)
    } else {
        verdict(
            "True",
            "Ready",
            format!("{} of {} pods answer", rollout.ready, rollout.desired),
        )
    }
}

/// Enough pods answer.
pub(super) fn available(rollout: &Rollout) -> Verdict {
    let text = format!("{} of {} pods answer", rollout.ready, rollout.desired);
    if rollout.desired == 0 && rollout.ready == 0 {
        verdict("False", "ScaledToZero", text)
    } else if rollout.ready >= rollout.least {
        verdict("True", "MinimumPodsReady", text)
    } else {
        verdict(
            "False",
            "TooFewPodsReady",
            format!("{text}, {} are needed", rollout.least),
        )
    }
}

/// S3 answers the pods.
pub(super) fn origin(facts: &Facts<'_>) -> Verdict {
    let Some(figures) = facts.figures else {
        // Nobody could be asked: what was known stays.
        let before = facts.previous.and_then(|status| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == "OriginReachable")
        });
        return match before {
            Some(condition) if condition.status == "True" => {
                verdict("True", "OriginAnswers", condition.message.clone())
            }
            Some(condition) if condition.status == "False" => {
                verdict("False", known(&condition.reason), condition.message.clone())
            }
            _ => verdict("Unknown", "NotKnown", "no pod tells how the origin answers"),
        };
    };
    match &figures.origin {
        Origin::NotAsked => verdict("Unknown", "NotAsked", "no pod has asked the origin yet"),
        Origin::Answers => verdict("True", "OriginAnswers", "the origin answers"),
        Origin::Fails(code) => {
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
            verdict(
                "False",
                reason,
                format!("{place} answers {code} for {buckets}: {hint}"),
            )
        }
    }
}

fn explain(code: &str) -> (&'static str, &'static str) {
    match code {
        "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" => (
            "OriginAccessDenied",
            "check the keys, or the rights of the service account",
        ),
        "RequestTimeTooSkewed" => ("OriginAccessDenied", "a clock is wrong"),
        "NoSuchBucket" => (
            "OriginBucketNotFound",
            "check spec.origin.buckets, region and endpoint",
        ),
        "OriginUnreachable" | "OriginTimeout" | "Unreachable" | "Timeout" | "RequestTimeout" => (
            "OriginUnreachable",
            "check spec.origin.endpoint and the way to it",
        ),
        _ => ("OriginFails", "the origin itself is in trouble"),
    }
}

fn known(reason: &str) -> &'static str {
    [
        "OriginAccessDenied",
        "OriginBucketNotFound",
        "OriginUnreachable",
    ]
    .into_iter()
    .find(|known| *known == reason)
    .unwrap_or("OriginFails")
}

/// Allowed, but perhaps not meant.
pub(super) fn warning(facts: &Facts<'_>, applied: &Applied) -> Verdict {
    let Ok(plan) = facts.plan else {
        return verdict("Unknown", "InvalidSpec", "the spec can't be read");
    };
    let mut warnings = plan.warnings.clone();
    if applied.replicas_taken {
        warnings.push(format!(
            "an autoscaler sets the replicas of StatefulSet {0} and spec.replicas is not applied: let it target the FalconCache, \
             then hand them back with kubectl scale statefulset {0}",
            facts.identity.name
        ));
    }
    if warnings.is_empty() {
        verdict("False", "NoWarnings", "nothing unusual")
    } else {
        verdict("True", "RiskyValues", warnings.join("; "))
    }
}

/// The user has asked for no changes.
pub(super) fn paused(facts: &Facts<'_>) -> Verdict {
    if facts.plan.is_ok_and(|plan| plan.paused) {
        verdict(
            "True",
            "PausedByUser",
            "spec.paused is true: nothing is changed",
        )
    } else {
        verdict(
            "False",
            "NotPaused",
            "the operator keeps the cache as it is described",
        )
    }
}
