//! Progress of a rollout, in pods. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::apply::Applied;
use crate::crd::status::FalconCacheStatus;
use crate::observe::pod::PodState;
use crate::plan::Plan;

/// Counts of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
