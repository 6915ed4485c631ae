//! Which pods answer, between two looks of Kubernetes. Pure; asking is the observer's.
//!
//! When a node dies, its pods stay ready until the node's grace is over, for most of a minute, and longer while they are being deleted. Their admin port is
//! silent at once. Silence alone proves nothing, since the operator may be the one that is cut off: a pod counts as silent when it answered before, has missed
//! two questions in a row, and another pod of its cache answers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::observe::pod::{Cause, PodState, Trouble};

/// Pause between two questions to a pod.
pub const EVERY: Duration = Duration::from_secs(3);
/// One answer may be late.
const MISSES: u8 = 2;

/// What is known of each cache's pods, by uid.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<HashMap<String, HashMap<String, Beat>>>);

#[derive(Clone, Debug, Default)]
struct Beat {
    ip: String,
    /// It has answered at least once.
    known: bool,
    /// Questions in a row without an answer.
    misses: u8,
}

/// A pod to ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    cache: String,
    uid: String,
    /// Where.
    pub ip: String,
}

impl Pulse {
    /// Takes the pods that serve as those to ask from now on, and marks those that are silent.
    pub(super) fn follow(&self, cache: &str, pods: &mut [PodState]) {
        let mut all = self.lock();
        let mut before = all.remove(cache).unwrap_or_default();
        let mut beats = HashMap::new();
        for pod in pods.iter().filter(|pod| pod.ready && !pod.leaves()) {
            if let Some(ip) = &pod.ip {
                let beat = before.remove(&pod.uid).filter(|beat| beat.ip == *ip);
                let beat = beat.unwrap_or_else(|| Beat {
                    ip: ip.clone(),
                    ..Beat::default()
                });
                beats.insert(pod.uid.clone(), beat);
            }
        }
        for pod in pods {
            pod.silent = is_silent(&beats, &pod.uid);
            if pod.silent {
                let node = pod.node.as_deref().unwrap_or("(unknown)");
                pod.trouble = Some(Trouble {
                    cause: Cause::NotAnswering,
                    message: format!(
                        "is ready for Kubernetes and does not answer at its admin port: check its node {node}"
                    ),
                });
            }
        }
        if !beats.is_empty() {
            all.insert(cache.to_owned(), beats);
        }
    }

    /// The pods to ask.
    pub(super) fn pods(&self) -> Vec<Asked> {
        let all = self.lock();
        all.iter()
            .flat_map(|(cache, beats)| {
                beats.iter().map(|(uid, beat)| Asked {
                    cache: cache.clone(),
                    uid: uid.clone(),
                    ip: beat.ip.clone(),
                })
            })
            .collect()
    }

    /// Notes who answered; returns whether others are silent than before.
    pub(super) fn note(&self, heard: Vec<(Asked, bool)>) -> bool {
        let mut all = self.lock();
        let before = silent(&all);
        for (pod, answers) in heard {
            let beat = all
                .get_mut(&pod.cache)
                .and_then(|beats| beats.get_mut(&pod.uid));
            match beat {
                Some(beat) if answers => (beat.known, beat.misses) = (true, 0),
                Some(beat) => beat.misses = beat.misses.saturating_add(1),
                None => {}
            }
        }
        silent(&all) != before
    }

    /// Forgets a cache that is gone.
    pub(super) fn forget(&self, cache: &str) {
        self.lock().remove(cache);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Beat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silent(all: &HashMap<String, HashMap<String, Beat>>) -> Vec<String> {
    let mut silent: Vec<String> = all
        .values()
        .flat_map(|beats| beats.keys().filter(|uid| is_silent(beats, uid)))
        .cloned()
        .collect();
    silent.sort();
    silent
}

fn is_silent(beats: &HashMap<String, Beat>, uid: &str) -> bool {
    let silent = beats
        .get(uid)
        .is_some_and(|beat| beat.known && beat.misses >= MISSES);
    silent && beats.values().any(|beat| beat.known && beat.misses == 0)
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

    /// The pods that count as silent after these have answered and the others have not.
    fn after(pulse: &Pulse, answering: &[&str]) -> Vec<String> {
        let asked = pulse.pods();
        let heard = asked.into_iter().map(|pod| {
            let answers = answering.contains(&pod.uid.as_str());
            (pod, answers)
        });
        pulse.note(heard.collect());
        let mut pods = [pod("a"), pod("b")];
        pulse.follow("cache", &mut pods);
        pods.iter()
            .filter(|pod| pod.silent && !pod.answers() && pod.trouble.is_some())
            .map(|pod| pod.uid.clone())
            .collect()
    }

    #[test]
    fn a_pod_is_silent_when_it_answered_before_and_others_still_do() {
        let pulse = Pulse::default();
        pulse.follow("cache", &mut [pod("a"), pod("b")]);
        let nobody: [String; 0] = [];
        // It never answered: the operator may have no way to it.
        assert_eq!(after(&pulse, &["a"]), nobody);
        assert_eq!(after(&pulse, &["a"]), nobody);
        assert_eq!(after(&pulse, &["a", "b"]), nobody);
        assert_eq!(after(&pulse, &["a"]), nobody, "one answer may be late");
        assert_eq!(after(&pulse, &["a"]), ["b"]);
        assert_eq!(after(&pulse, &["a", "b"]), nobody, "it is back");
        // Where no pod answers, it may be the operator that is cut off.
        assert_eq!(after(&pulse, &[]), nobody);
        assert_eq!(after(&pulse, &[]), nobody);
    }

    #[test]
    fn only_a_change_is_news() {
        let pulse = Pulse::default();
        pulse.follow("cache", &mut [pod("a"), pod("b")]);
        let round = |answering: &[&str]| {
            let asked = pulse.pods();
            let heard = asked.into_iter().map(|pod| {
                let answers = answering.contains(&pod.uid.as_str());
                (pod, answers)
            });
            pulse.note(heard.collect())
        };
        let news: Vec<bool> = [&["a", "b"][..], &["a"], &["a"], &["a"], &["a", "b"]]
            .map(round)
            .to_vec();
        assert_eq!(news, [false, false, true, false, true]);
        pulse.forget("cache");
        assert_eq!(pulse.pods(), []);
    }
}
