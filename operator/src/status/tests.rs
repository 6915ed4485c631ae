//! What is said about a cache, by what is known of it.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::*;
use crate::observe::pod::{Cause, Trouble};
use crate::plan::Defaults;
use crate::status::rollout::{stuck, tokenless};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn planned(spec: &Value) -> Result<Plan, plan::Error> {
    let mut whole = json!({"origin": {"buckets": ["media"]}});
    whole
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    let cache = serde_json::from_value(json!({
        "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
        "metadata": {"name": "media", "namespace": "prod", "uid": "u1", "generation": 4}, "spec": whole
    }))
    .unwrap();
    plan::plan(
        &cache,
        &Defaults {
            image: "r/falcon-cache:0.1.0".to_owned(),
        },
    )
}

fn set(replicas: i32, ready: i32, updated: i32) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "media", "generation": 2},
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"observedGeneration": 2, "replicas": replicas, "readyReplicas": ready, "updatedReplicas": updated, "updateRevision": "new", "currentRevision": "old"}
    }))
    .unwrap()
}

fn pod(name: &str, trouble: Option<(Cause, &str)>) -> PodState {
    PodState {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        ready: trouble.is_none(),
        revision: "old".to_owned(),
        trouble: trouble.map(|(cause, message)| Trouble {
            cause,
            message: message.to_owned(),
        }),
        unready_since: trouble.map(|_| at(-300)),
        ..PodState::default()
    }
}

/// A cache whose set is as given.
struct Case {
    plan: Result<Plan, plan::Error>,
    outcome: Result<Outcome, Error>,
    pods: Vec<PodState>,
    refusals: Vec<Refusal>,
    figures: Option<Figures>,
    previous: Option<FalconCacheStatus>,
}

impl Case {
    fn of(spec: &Value, set: Option<StatefulSet>) -> Self {
        let ready = set.as_ref().map_or(0, |set| {
            let status = set.status.as_ref().unwrap();
            status.ready_replicas.unwrap_or(0)
        });
        let applied = Applied {
            stateful_set: set.map(Box::new),
            replicas_taken: false,
        };
        Self {
            plan: planned(spec),
            outcome: Ok(Outcome::Done(applied)),
            pods: (0..ready)
                .map(|number| pod(&format!("media-{number}"), None))
                .collect(),
            refusals: Vec::new(),
            figures: None,
            previous: None,
        }
    }

    fn at(&self, now: Timestamp) -> FalconCacheStatus {
        let identity = Identity {
            name: "media".to_owned(),
            namespace: "prod".to_owned(),
            uid: "u1".to_owned(),
            generation: 4,
        };
        status(&Facts {
            identity: &identity,
            operator: "ops/falcon-operator",
            plan: self.plan.as_ref(),
            outcome: self.outcome.as_ref(),
            pods: &self.pods,
            refusals: &self.refusals,
            figures: self.figures.as_ref(),
            previous: self.previous.as_ref(),
            now,
        })
    }

    fn word(&self, kind: &str) -> (String, String) {
        let status = self.at(at(0));
        let found = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap();
        (found.status.clone(), found.reason.clone())
    }

    fn message(&self, kind: &str) -> String {
        self.at(at(0))
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap()
            .message
            .clone()
    }
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_whole_cache_is_ready() {
    let case = Case::of(&json!({}), Some(set(3, 3, 3)));
    assert_eq!(case.word("Ready"), is("True", "Ready"));
    assert_eq!(case.word("Available"), is("True", "MinimumPodsReady"));
    assert_eq!(case.word("Progressing"), is("False", "Settled"));
    assert_eq!(case.word("Degraded"), is("False", "AsExpected"));
    assert_eq!(case.word("OriginReachable"), is("Unknown", "NotKnown"));
    let status = case.at(at(0));
    assert_eq!(status.ready.as_deref(), Some("3/3"));
    assert_eq!(
        status.endpoint.as_deref(),
        Some("http://media.prod.svc:8080")
    );
    assert_eq!(status.version.as_deref(), Some("0.1.0"));
    assert_eq!(
        status.selector.as_deref(),
        Some("app.kubernetes.io/instance=media,app.kubernetes.io/name=falcon-cache")
    );
    assert_eq!(status.observed_generation, Some(4));
}

#[test]
fn a_cache_on_its_way_says_where_it_is() {
    assert_eq!(
        Case::of(&json!({}), None).word("Ready"),
        is("False", "Creating")
    );
    assert_eq!(
        Case::of(&json!({}), Some(set(3, 0, 3))).word("Ready"),
        is("False", "Creating")
    );
    assert_eq!(
        Case::of(&json!({"replicas": 5}), Some(set(3, 3, 3))).word("Ready"),
        is("False", "Scaling")
    );
    assert_eq!(
        Case::of(&json!({}), Some(set(3, 2, 1))).word("Ready"),
        is("False", "RollingOut")
    );
    assert_eq!(
        Case::of(&json!({}), Some(set(3, 2, 1))).word("Available"),
        is("True", "MinimumPodsReady")
    );
    assert_eq!(
        Case::of(&json!({}), Some(set(3, 1, 3))).word("Available"),
        is("False", "TooFewPodsReady")
    );
    assert_eq!(
        Case::of(&json!({}), Some(set(3, 2, 3))).word("Ready"),
        is("False", "PodsStarting")
    );
    assert_eq!(
        Case::of(&json!({"replicas": 0}), Some(set(0, 0, 0))).word("Ready"),
        is("False", "ScaledToZero")
    );
}

#[test]
fn a_set_whose_newest_form_was_not_seen_yet_is_not_whole() {
    let mut unseen = set(3, 3, 3);
    unseen.metadata.generation = Some(3);
    assert_eq!(
        Case::of(&json!({}), Some(unseen)).word("Ready"),
        is("False", "RollingOut")
    );
}

#[test]
fn the_pod_and_the_cause_are_named() {
    let mut case = Case::of(&json!({}), Some(set(3, 1, 3)));
    case.pods = vec![
        pod("media-0", None),
        pod(
            "media-1",
            Some((
                Cause::CrashLooping,
                "container cache ended with exit code 2",
            )),
        ),
        pod(
            "media-2",
            Some((Cause::ImagePullFailed, "image x can't be pulled")),
        ),
    ];
    assert_eq!(case.word("Ready"), is("False", "ImagePullFailed"));
    assert_eq!(case.word("Degraded"), is("True", "ImagePullFailed"));
    assert_eq!(
        case.message("Ready"),
        "pod media-1: container cache ended with exit code 2; pod media-2: image x can't be pulled"
    );
}

#[test]
fn a_pod_that_is_just_starting_is_no_trouble() {
    let mut case = Case::of(&json!({}), Some(set(3, 2, 3)));
    case.pods = vec![pod(
        "media-0",
        Some((Cause::NotAnswering, "runs and is not ready")),
    )];
    assert_eq!(case.word("Degraded"), is("True", "NotAnswering"));
    case.pods[0].unready_since = Some(at(-5));
    assert_eq!(case.word("Degraded"), is("False", "AsExpected"));
}

#[test]
fn mistakes_and_failures_are_told_apart() {
    let mut case = Case::of(&json!({"cache": {"memory": "1Mi"}}), Some(set(3, 3, 3)));
    assert_eq!(case.word("Ready"), is("False", "InvalidSpec"));
    assert_eq!(
        case.message("Ready"),
        "spec.cache.memory: must be at least 64Mi"
    );
    // What runs goes on running, and is said to.
    assert_eq!(case.word("Available"), is("True", "MinimumPodsReady"));
    case = Case::of(&json!({}), None);
    case.outcome = Err(Error::Taken {
        kind: "Service".to_owned(),
        name: "media".to_owned(),
        owner: "Deployment shop".to_owned(),
    });
    assert_eq!(case.word("Ready"), is("False", "NameTaken"));
    assert_eq!(case.word("Progressing"), is("False", "Blocked"));
    case.outcome = Ok(Outcome::Waiting {
        message: "StatefulSet media is being deleted".to_owned(),
    });
    assert_eq!(case.word("Ready"), is("False", "Replacing"));
}

#[test]
fn the_origin_is_said_to_be_wrong_in_the_users_words() {
    for (code, reason) in [
        ("AccessDenied", "OriginAccessDenied"),
        ("NoSuchBucket", "OriginBucketNotFound"),
        ("OriginUnreachable", "OriginUnreachable"),
        ("SlowDown", "OriginFails"),
    ] {
        let mut case = Case::of(&json!({}), Some(set(3, 3, 3)));
        let page = format!("falcon_origin_requests_total{{op=\"get\",code=\"{code}\"}} 2\n");
        case.figures = Some(Figures::of(&[crate::observe::figures::sample(&page)], None));
        assert_eq!(case.word("OriginReachable"), is("False", reason));
        assert_eq!(case.word("Ready"), is("False", reason));
        assert!(
            case.message("Ready").contains("media"),
            "{}",
            case.message("Ready")
        );
        // When nobody can be asked any more, what was known stays.
        case.previous = Some(case.at(at(0)));
        case.figures = None;
        assert_eq!(case.word("OriginReachable"), is("False", reason));
    }
}

#[test]
fn looking_again_changes_nothing() {
    let mut case = Case::of(&json!({}), Some(set(3, 3, 3)));
    let first = case.at(at(0));
    case.previous = Some(first.clone());
    assert_eq!(case.at(at(3600)), first);
    // And a time moves only when its condition does.
    case.outcome = Ok(Outcome::Done(Applied {
        stateful_set: Some(Box::new(set(3, 2, 3))),
        replicas_taken: false,
    }));
    let second = case.at(at(7200));
    let time = |status: &FalconCacheStatus, kind: &str| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap()
            .last_transition_time
            .0
    };
    assert_eq!(time(&second, "Ready"), at(7200));
    assert_eq!(time(&second, "Paused"), at(0));
}

#[test]
fn an_autoscaler_on_the_set_is_left_alone_and_reported() {
    let mut case = Case::of(&json!({}), Some(set(7, 7, 7)));
    case.outcome = Ok(Outcome::Done(Applied {
        stateful_set: Some(Box::new(set(7, 7, 7))),
        replicas_taken: true,
    }));
    assert_eq!(case.word("Ready"), is("True", "Ready"));
    assert_eq!(case.word("ConfigurationWarning"), is("True", "RiskyValues"));
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("7/7"));
}

#[test]
fn a_paused_cache_says_so_and_counts_its_pods() {
    let case = Case::of(&json!({"paused": true, "replicas": 9}), Some(set(3, 3, 3)));
    assert_eq!(case.word("Paused"), is("True", "PausedByUser"));
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("3/3"));
}

#[test]
fn breathing_is_no_news() {
    let mut case = Case::of(&json!({}), Some(set(3, 3, 3)));
    let page = |used: i64| {
        let text = format!(
            "falcon_cached_bytes{{pool=\"owned\"}} {used}\nfalcon_memory_budget_bytes 1073741824\nfalcon_ring_members{{state=\"serving\"}} 3\n"
        );
        Some(Figures::of(&[crate::observe::figures::sample(&text)], None))
    };
    case.figures = page(500 << 20);
    let first = case.at(at(0));
    assert_eq!(
        (
            first.used.as_deref(),
            first.ring_members,
            first.hit_ratio.as_deref()
        ),
        (Some("500Mi/1Gi"), Some(3), Some("-"))
    );
    case.previous = Some(first.clone());
    case.figures = page(505 << 20);
    assert_eq!(case.at(at(60)), first);
    case.figures = page(600 << 20);
    assert_eq!(case.at(at(60)).used.as_deref(), Some("600Mi/1Gi"));
}

#[test]
fn only_pods_that_a_rollout_waits_for_in_vain_are_stuck() {
    let mut pods = vec![
        pod("media-0", None),
        pod("media-1", Some((Cause::ImagePullFailed, "bad image"))),
        pod("media-2", Some((Cause::NotAnswering, "silent"))),
        pod("media-3", Some((Cause::NotAnswering, "silent"))),
        pod("media-4", Some((Cause::Evicted, "sent away"))),
    ];
    let names = |pods: &[PodState], set: &StatefulSet| -> Vec<String> {
        stuck(set, pods, at(0))
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
    // Not a pod of the newest template, nor one that leaves already.
    pods[1].revision = "new".to_owned();
    pods[2].leaves_at = Some(at(30));
    pods[3].unready_since = Some(at(-5));
    assert!(names(&pods, &rolling).is_empty());
}

#[test]
fn pods_that_can_t_be_created_are_named_before_those_that_fail() {
    let mut case = Case::of(&json!({}), Some(set(1, 0, 1)));
    case.pods = vec![pod(
        "media-0",
        Some((Cause::ImagePullFailed, "image x can't be pulled")),
    )];
    case.refusals = vec![Refusal {
        pod: "media-1".to_owned(),
        trouble: Trouble {
            cause: Cause::QuotaExceeded,
            message: "can't be created: exceeded quota: one-pod".to_owned(),
        },
    }];
    assert_eq!(case.word("Ready"), is("False", "QuotaExceeded"));
    assert_eq!(
        case.message("Degraded"),
        "pod media-1: can't be created: exceeded quota: one-pod; pod media-0: image x can't be pulled"
    );
}

#[test]
fn a_pod_that_leaves_or_is_silent_does_not_count_whatever_its_condition_says() {
    let mut case = Case::of(&json!({}), Some(set(3, 3, 3)));
    case.pods[2].leaves_at = Some(at(5));
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("2/3"));
    assert_eq!(case.word("Ready"), is("False", "PodsStarting"));
    assert_eq!(
        case.word("Degraded"),
        is("False", "AsExpected"),
        "its grace runs"
    );
    case.pods[2].leaves_at = Some(at(-20));
    case.pods[2].node = Some("node-7".to_owned());
    assert_eq!(case.word("Ready"), is("False", "DeletionNotConfirmed"));
    assert!(
        case.message("Ready").contains("node-7"),
        "{}",
        case.message("Ready")
    );

    let mut case = Case::of(&json!({}), Some(set(3, 3, 3)));
    case.pods[1] = pod("media-1", Some((Cause::NotAnswering, "is silent")));
    (
        case.pods[1].ready,
        case.pods[1].silent,
        case.pods[1].unready_since,
    ) = (true, true, None);
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("2/3"));
    assert_eq!(case.word("Ready"), is("False", "NotAnswering"));
}

#[test]
fn a_missing_token_is_known_by_the_pods_words() {
    let mut waiting = pod(
        "media-0",
        Some((
            Cause::SecretMissing,
            "secret \"media-peer-token\" not found",
        )),
    );
    (waiting.creating, waiting.unready_since) = (true, Some(at(-3)));
    assert!(tokenless(&[waiting.clone()], "media-peer-token", at(0)));
    assert!(!tokenless(&[waiting], "another", at(0)));
}
