//! Which pods are repaired.

use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn set(replicas: i32, ready: i32, updated: i32) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "media", "generation": 2},
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"observedGeneration": 2, "replicas": replicas, "readyReplicas": ready, "updatedReplicas": updated, "updateRevision": "new", "currentRevision": "old"}
    }))
    .unwrap()
}

fn pod(name: &str, problem: Option<(Cause, &str)>) -> PodState {
    PodState {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        ready: problem.is_none(),
        revision: "old".to_owned(),
        problem: problem.map(|(cause, message)| PodProblem {
            cause,
            message: message.to_owned(),
        }),
        unready_since: problem.map(|_| at(-300)),
        ..PodState::default()
    }
}

#[test]
fn only_pods_that_block_a_rollout_are_stuck() {
    let mut pods = vec![
        pod("media-0", None),
        pod("media-1", Some((Cause::ImagePullFailed, "bad image"))),
        pod("media-2", Some((Cause::NotResponding, "does not respond"))),
        pod("media-3", Some((Cause::NotResponding, "does not respond"))),
        pod("media-4", Some((Cause::Evicted, "evicted"))),
    ];
    let names = |pods: &[PodState], set: &StatefulSet| -> Vec<String> {
        stuck_pods(set, pods, at(0))
            .iter()
            .map(|pod| pod.name.clone())
            .collect()
    };
    let rolling = set(5, 1, 0);
    assert_eq!(names(&pods, &rolling), ["media-1", "media-2"]);
    // Not before the controller has seen the new template.
    let mut unseen = rolling.clone();
    unseen.metadata.generation = Some(9);
    assert!(names(&pods, &unseen).is_empty());
    // Not a pod of the newest template, nor one that is terminating.
    pods[1].revision = "new".to_owned();
    pods[2].terminates_at = Some(at(30));
    pods[3].unready_since = Some(at(-5));
    assert!(names(&pods, &rolling).is_empty());
}

#[test]
fn a_missing_peer_secret_is_recognised_by_the_pods_message() {
    let mut waiting = pod(
        "media-0",
        Some((
            Cause::SecretMissing,
            "secret \"media-peer-token\" not found",
        )),
    );
    (waiting.creating, waiting.unready_since) = (true, Some(at(-3)));
    assert!(is_peer_secret_missing(
        &[waiting.clone()],
        "media-peer-token",
        at(0)
    ));
    assert!(!is_peer_secret_missing(&[waiting], "another", at(0)));
}
