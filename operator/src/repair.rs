//! What Kubernetes leaves stuck although everything is applied. Decides what to repair, and has it written:
//!
//! - a pod of an older template that blocks a rollout is deleted;
//! - a peer token that pods wait for is created;
//! - the StatefulSet's controller is made to retry when it can't create pods.

mod creation_retries;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;

use crate::apply::actions::Actions;
use crate::apply::{Error, Write};
use crate::observe::Observation;
use crate::observe::pod::{Cause, PodProblem, PodState};
use crate::plan::Identity;
use crate::repair::creation_retries::CreationRetries;

/// Repairs caches.
#[derive(Debug)]
pub struct Repairer {
    actions: Actions,
    creation_retries: CreationRetries,
}

impl Repairer {
    /// Repairs by these actions.
    pub fn new(actions: Actions) -> Self {
        Self {
            actions,
            creation_retries: CreationRetries::default(),
        }
    }

    /// Repairs what is stuck of a cache whose resources are applied. Completed writes are added to `changes`.
    pub async fn repair(
        &self,
        identity: &Identity,
        set: Option<&StatefulSet>,
        peer_secret: &Secret,
        observed: &Observation,
        changes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        let Observation { now, pods, .. } = observed;
        for pod in set.into_iter().flat_map(|set| stuck_pods(set, pods, *now)) {
            self.actions
                .delete_pod(identity, &pod.name, &pod.uid, changes)
                .await?;
        }
        let secret = peer_secret.metadata.name.as_deref().unwrap_or_default();
        if is_peer_secret_missing(pods, secret, *now) {
            self.actions.ensure_token(peer_secret, changes).await?;
        }
        if observed.creation_failures.is_empty() {
            self.creation_retries.forget(identity);
        } else if self.creation_retries.take_due(identity) {
            self.actions.retry_creation(identity, changes).await?;
        }
        Ok(())
    }

    /// Forgets a cache that is gone.
    pub fn forget(&self, identity: &Identity) {
        self.creation_retries.forget(identity);
    }
}

/// The pods that block a rollout: they are of an older template, and have a problem that the new one may fix.
/// Kubernetes waits for them for ever; deleted, they are recreated from the new template.
///
/// A pod that merely does not respond is given time, and only one such pod is returned at once: the cause may be the
/// node or the network.
fn stuck_pods<'a>(set: &StatefulSet, pods: &'a [PodState], now: Timestamp) -> Vec<&'a PodState> {
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
                let due = pod.is_overdue(now) && unresponsive == 0;
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
fn is_peer_secret_missing(pods: &[PodState], secret: &str, now: Timestamp) -> bool {
    let misses = |problem: &PodProblem| {
        problem.cause == Cause::SecretMissing && problem.message.contains(&format!("{secret:?}"))
    };
    pods.iter().any(|pod| {
        pod.creating && (pod.is_overdue(now) || pod.problem.as_ref().is_some_and(misses))
    })
}

#[cfg(test)]
mod tests;
