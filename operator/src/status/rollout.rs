//! How far the pods are from what is wanted, and which of them keep the rest from getting there. Pure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::apply::Applied;
use crate::crd::status::FalconCacheStatus;
use crate::observe::pod::{Cause, PodState, Trouble};
use crate::plan::Plan;

/// A pod that does not answer for less than this may just be starting.
const STARTING: Duration = Duration::from_secs(90);

/// Counts of pods.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rollout {
    /// Pods wanted.
    pub desired: i32,
    /// Pods that exist.
    pub existing: i32,
    /// Pods that answer.
    pub ready: i32,
    /// Pods made from the newest template.
    pub updated: i32,
    /// Pods that must answer for the cache to be available.
    pub least: i32,
    /// The set's controller has seen its newest form.
    pub observed: bool,
    /// There is a set.
    pub exists: bool,
    /// The cache was ready at least once.
    pub was_ready: bool,
}

impl Rollout {
    /// Counts.
    pub(super) fn of(
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
            Some(plan) if !applied.replicas_taken && !plan.paused => plan.replicas,
            plan => in_set.or(plan.map(|plan| plan.replicas)).unwrap_or(0),
        };
        let count = |test: fn(&PodState) -> bool| {
            i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
        };
        Self {
            desired,
            existing: status.map_or_else(|| count(|_| true), |status| status.replicas),
            // The set counts by conditions, which may be older than the death of a node.
            ready: count(PodState::answers)
                .min(status.map_or(i32::MAX, |status| status.ready_replicas.unwrap_or(0))),
            updated: status
                .and_then(|status| status.updated_replicas)
                .unwrap_or(0),
            least: least(desired, plan.map(|plan| &plan.max_unavailable)),
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

    /// Every pod that is wanted answers and is of the newest template, and there is no other.
    pub(super) fn complete(&self) -> bool {
        self.exists
            && self.observed
            && self.existing == self.desired
            && self.ready == self.desired
            && self.updated == self.desired
    }
}

fn least(desired: i32, max_unavailable: Option<&IntOrString>) -> i32 {
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

/// Whether a pod has been without an answer for longer than starting takes.
pub(super) fn overdue(pod: &PodState, now: Timestamp) -> bool {
    pod.unready_since.is_some_and(|since| {
        now.as_second().saturating_sub(since.as_second())
            >= i64::try_from(STARTING.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The pods that a rollout waits for in vain: made from an older template, and by it in a trouble that the new one may cure. Kubernetes waits for them for
/// ever; deleted, they come back from the new template.
///
/// A pod that merely does not answer is given time, and only one such is named at once: it may be the node or the network.
pub fn stuck<'a>(set: &StatefulSet, pods: &'a [PodState], now: Timestamp) -> Vec<&'a PodState> {
    let Some(status) = &set.status else {
        return Vec::new();
    };
    let Some(newest) = &status.update_revision else {
        return Vec::new();
    };
    if status.observed_generation < set.metadata.generation {
        return Vec::new();
    }
    let mut silent = 0;
    pods.iter()
        .filter(|pod| {
            !pod.ready && !pod.leaves() && !pod.revision.is_empty() && pod.revision != *newest
        })
        .filter(|pod| match &pod.trouble {
            Some(trouble) if trouble.cause == Cause::NotAnswering => {
                let due = overdue(pod, now) && silent == 0;
                silent += i32::from(due);
                due
            }
            Some(trouble) => trouble.cause.is_of_the_template(),
            None => false,
        })
        .collect()
}

/// Whether pods wait for the Secret of this name, or so long that they may: the operator can't look whether it is there, but may create it.
pub fn tokenless(pods: &[PodState], secret: &str, now: Timestamp) -> bool {
    let misses = |trouble: &Trouble| {
        trouble.cause == Cause::SecretMissing && trouble.message.contains(&format!("{secret:?}"))
    };
    pods.iter()
        .any(|pod| pod.creating && (overdue(pod, now) || pod.trouble.as_ref().is_some_and(misses)))
}
