//! Progress of a rollout, and the pods that block it. Pure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::apply::Applied;
use crate::crd::status::FalconCacheStatus;
use crate::observe::pod::{Cause, PodProblem, PodState};
use crate::plan::Plan;

/// A pod that is not ready for less than this may just be starting.
const STARTUP_GRACE: Duration = Duration::from_secs(90);

/// Counts of pods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RolloutProgress {
    /// Desired pods.
    pub desired: i32,
    /// Existing pods.
    pub existing: i32,
    /// Ready pods.
    pub ready: i32,
    /// Pods of the newest template.
    pub updated: i32,
    /// Pods that must be ready for the cache to be available.
    pub min_available: i32,
    /// The StatefulSet's controller has observed its newest generation.
    pub observed: bool,
    /// The StatefulSet exists.
    pub exists: bool,
    /// The cache was ready at least once.
    pub was_ready: bool,
}

impl RolloutProgress {
    /// Counts the pods.
    pub(super) fn count(
        plan: Option<&Plan>,
        applied: &Applied,
        pods: &[PodState],
        previous: Option<&FalconCacheStatus>,
    ) -> Self {
        let set = applied.stateful_set.as_ref();
        let spec = set.and_then(|set| set.spec.as_ref());
        let status = set.and_then(|set| set.status.as_ref());
        let in_set = spec.and_then(|spec| spec.replicas);
        let desired = match plan {
            Some(plan) if !applied.replicas_autoscaled && !plan.paused => plan.replicas,
            plan => in_set.or(plan.map(|plan| plan.replicas)).unwrap_or(0),
        };
        let count = |test: fn(&PodState) -> bool| {
            i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
        };
        Self {
            desired,
            existing: status.map_or_else(|| count(|_| true), |status| status.replicas),
            // The StatefulSet counts by conditions, which may be older than the death of a node.
            ready: count(PodState::is_serving)
                .min(status.map_or(i32::MAX, |status| status.ready_replicas.unwrap_or(0))),
            updated: status
                .and_then(|status| status.updated_replicas)
                .unwrap_or(0),
            min_available: min_available(desired, plan.map(|plan| &plan.max_unavailable)),
            observed: set.is_some_and(|set| {
                status.and_then(|status| status.observed_generation) >= set.metadata.generation
            }),
            exists: set.is_some(),
            was_ready: previous.is_some_and(|status| {
                status
                    .conditions
                    .iter()
                    .any(|condition| condition.type_ == "Available" && condition.status == "True")
            }),
        }
    }

    /// All desired pods are ready and of the newest template, and there are no others.
    pub(super) fn is_complete(&self) -> bool {
        self.exists
            && self.observed
            && self.existing == self.desired
            && self.ready == self.desired
            && self.updated == self.desired
    }
}

fn min_available(desired: i32, max_unavailable: Option<&IntOrString>) -> i32 {
    let away = match max_unavailable {
        Some(IntOrString::Int(pods)) => *pods,
        Some(IntOrString::String(percent)) => percent
            .trim_end_matches('%')
            .parse::<i32>()
            .map_or(1, |percent| (desired.saturating_mul(percent) / 100).max(1)),
        None => 1,
    };
    desired.saturating_sub(away).max(1)
}

/// Whether a pod has not been ready for longer than a start takes.
pub(super) fn is_overdue(pod: &PodState, now: Timestamp) -> bool {
    pod.unready_since.is_some_and(|since| {
        now.as_second().saturating_sub(since.as_second())
            >= i64::try_from(STARTUP_GRACE.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The pods that block a rollout: they are of an older template, and have a problem that the new one may fix.
/// Kubernetes waits for them for ever; deleted, they are recreated from the new template.
///
/// A pod that merely does not respond is given time, and only one such pod is returned at once: the cause may be the
/// node or the network.
pub fn stuck_pods<'a>(
    set: &StatefulSet,
    pods: &'a [PodState],
    now: Timestamp,
) -> Vec<&'a PodState> {
    let Some(status) = &set.status else {
        return Vec::new();
    };
    let Some(newest) = &status.update_revision else {
        return Vec::new();
    };
    if status.observed_generation < set.metadata.generation {
        return Vec::new();
    }
    let mut unresponsive = 0;
    pods.iter()
        .filter(|pod| {
            !pod.ready
                && !pod.is_terminating()
                && !pod.revision.is_empty()
                && pod.revision != *newest
        })
        .filter(|pod| match &pod.problem {
            Some(problem) if problem.cause == Cause::NotResponding => {
                let due = is_overdue(pod, now) && unresponsive == 0;
                unresponsive += i32::from(due);
                due
            }
            Some(problem) => problem.cause.may_be_fixed_by_template(),
            None => false,
        })
        .collect()
}

/// Whether pods wait for the peer Secret of this name, or have been waiting so long that they may be: the operator
/// can't read whether it exists, but can create it.
pub fn missing_peer_secret(pods: &[PodState], secret: &str, now: Timestamp) -> bool {
    let misses = |problem: &PodProblem| {
        problem.cause == Cause::SecretMissing && problem.message.contains(&format!("{secret:?}"))
    };
    pods.iter().any(|pod| {
        pod.creating && (is_overdue(pod, now) || pod.problem.as_ref().is_some_and(misses))
    })
}
