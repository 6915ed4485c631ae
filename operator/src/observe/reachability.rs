//! Which pods are reachable, sooner than Kubernetes knows. Pure; the observer sends the probes.
//!
//! When a node dies, its pods stay ready until the node's grace period is over, for most of a minute, and longer while
//! they are being deleted. Their admin port is unreachable at once. That alone proves nothing, since the operator may
//! be partitioned: a pod counts as unreachable if it responded before, has failed two probes in a row, and another pod
//! of its cache responds.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::observe::pod::{Cause, PodProblem, PodState};

/// Interval of the probes.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// Failed probes in a row until a pod counts as unreachable.
const FAILURE_THRESHOLD: u8 = 2;

/// Probe results of each cache's pods, by uid.
#[derive(Debug, Default)]
pub struct Reachability(Mutex<HashMap<String, HashMap<String, ProbeState>>>);

#[derive(Debug, Clone, Default)]
struct ProbeState {
    ip: String,
    /// It has responded at least once.
    was_reachable: bool,
    /// Failed probes in a row.
    failures: u8,
}

/// A pod to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    cache: String,
    uid: String,
    /// Its address.
    pub ip: String,
}

impl Reachability {
    /// Makes the ready pods the targets of the next probes, and marks those that are unreachable.
    pub(super) fn track(&self, cache: &str, pods: &mut [PodState]) {
        let mut all = self.lock();
        let mut before = all.remove(cache).unwrap_or_default();
        let mut states = HashMap::new();
        for pod in pods.iter().filter(|pod| pod.ready && !pod.is_terminating()) {
            if let Some(ip) = &pod.ip {
                let state = before.remove(&pod.uid).filter(|state| state.ip == *ip);
                let state = state.unwrap_or_else(|| ProbeState {
                    ip: ip.clone(),
                    ..ProbeState::default()
                });
                states.insert(pod.uid.clone(), state);
            }
        }
        for pod in pods {
            pod.unreachable = is_unreachable(&states, &pod.uid);
            if pod.unreachable {
                let node = pod.node.as_deref().unwrap_or("(unknown)");
                pod.problem = Some(PodProblem {
                    cause: Cause::NotResponding,
                    message: format!(
                        "Kubernetes reports it as ready, but its admin port does not respond: check its node {node}"
                    ),
                });
            }
        }
        if !states.is_empty() {
            all.insert(cache.to_owned(), states);
        }
    }

    /// The pods to probe.
    pub(super) fn targets(&self) -> Vec<ProbeTarget> {
        let all = self.lock();
        all.iter()
            .flat_map(|(cache, states)| {
                states.iter().map(|(uid, state)| ProbeTarget {
                    cache: cache.clone(),
                    uid: uid.clone(),
                    ip: state.ip.clone(),
                })
            })
            .collect()
    }

    /// Records the results; returns whether other pods are unreachable than before.
    pub(super) fn record(&self, results: Vec<(ProbeTarget, bool)>) -> bool {
        let mut all = self.lock();
        let before = unreachable(&all);
        for (pod, reachable) in results {
            let state = all
                .get_mut(&pod.cache)
                .and_then(|states| states.get_mut(&pod.uid));
            match state {
                Some(state) if reachable => (state.was_reachable, state.failures) = (true, 0),
                Some(state) => state.failures = state.failures.saturating_add(1),
                None => {}
            }
        }
        unreachable(&all) != before
    }

    /// Removes a deleted cache.
    pub(super) fn forget(&self, cache: &str) {
        self.lock().remove(cache);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, ProbeState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreachable(all: &HashMap<String, HashMap<String, ProbeState>>) -> Vec<String> {
    let mut unreachable: Vec<String> = all
        .values()
        .flat_map(|states| states.keys().filter(|uid| is_unreachable(states, uid)))
        .cloned()
        .collect();
    unreachable.sort();
    unreachable
}

fn is_unreachable(states: &HashMap<String, ProbeState>, uid: &str) -> bool {
    let unreachable = states
        .get(uid)
        .is_some_and(|state| state.was_reachable && state.failures >= FAILURE_THRESHOLD);
    unreachable
        && states
            .values()
            .any(|state| state.was_reachable && state.failures == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodState {
        PodState {
            uid: name.to_owned(),
            ip: Some(format!("ip of {name}")),
            ready: true,
            ..PodState::default()
        }
    }

    /// The pods that count as unreachable after these have responded and the others have not.
    fn after(reachability: &Reachability, answering: &[&str]) -> Vec<String> {
        let targets = reachability.targets();
        let results = targets.into_iter().map(|pod| {
            let reachable = answering.contains(&pod.uid.as_str());
            (pod, reachable)
        });
        reachability.record(results.collect());
        let mut pods = [pod("a"), pod("b")];
        reachability.track("cache", &mut pods);
        pods.iter()
            .filter(|pod| pod.unreachable && !pod.is_serving() && pod.problem.is_some())
            .map(|pod| pod.uid.clone())
            .collect()
    }

    #[test]
    fn a_pod_is_unreachable_when_it_responded_before_and_others_still_do() {
        let reachability = Reachability::default();
        reachability.track("cache", &mut [pod("a"), pod("b")]);
        let nobody: [String; 0] = [];
        // It never responded: the operator may not be able to reach it.
        assert_eq!(after(&reachability, &["a"]), nobody);
        assert_eq!(after(&reachability, &["a"]), nobody);
        assert_eq!(after(&reachability, &["a", "b"]), nobody);
        assert_eq!(
            after(&reachability, &["a"]),
            nobody,
            "one response may be late"
        );
        assert_eq!(after(&reachability, &["a"]), ["b"]);
        assert_eq!(after(&reachability, &["a", "b"]), nobody, "it is back");
        // If no pod responds, the operator may be partitioned.
        assert_eq!(after(&reachability, &[]), nobody);
        assert_eq!(after(&reachability, &[]), nobody);
    }

    #[test]
    fn only_a_change_is_returned() {
        let reachability = Reachability::default();
        reachability.track("cache", &mut [pod("a"), pod("b")]);
        let round = |answering: &[&str]| {
            let targets = reachability.targets();
            let results = targets.into_iter().map(|pod| {
                let reachable = answering.contains(&pod.uid.as_str());
                (pod, reachable)
            });
            reachability.record(results.collect())
        };
        let changed: Vec<bool> = [&["a", "b"][..], &["a"], &["a"], &["a"], &["a", "b"]]
            .map(round)
            .to_vec();
        assert_eq!(changed, [false, false, true, false, true]);
        reachability.forget("cache");
        assert_eq!(reachability.targets(), []);
    }
}
