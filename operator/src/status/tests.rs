//! The status of a cache, by the facts about it.

use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::*;
use crate::observe::pod::{Cause, PodProblem, PodState};
use crate::observe::pod_events::CreationFailure;
use crate::plan::Defaults;

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

/// A cache with this StatefulSet.
struct Case {
    plan: Result<Plan, plan::Error>,
    outcome: Result<Outcome, Error>,
    pods: Vec<PodState>,
    creation_failures: Vec<CreationFailure>,
    metrics: Option<CacheMetrics>,
    previous: Option<FalconCacheStatus>,
}

impl Case {
    fn new(spec: &Value, set: Option<StatefulSet>) -> Self {
        let ready = set.as_ref().map_or(0, |set| {
            let status = set.status.as_ref().unwrap();
            status.ready_replicas.unwrap_or(0)
        });
        let applied = Applied {
            stateful_set: set.map(Box::new),
            replicas_autoscaled: false,
        };
        Self {
            plan: planned(spec),
            outcome: Ok(Outcome::Done(applied)),
            pods: (0..ready)
                .map(|number| pod(&format!("media-{number}"), None))
                .collect(),
            creation_failures: Vec::new(),
            metrics: None,
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
            observed: &Observation {
                now,
                pods: self.pods.clone(),
                creation_failures: self.creation_failures.clone(),
            },
            metrics: self.metrics.as_ref(),
            previous: self.previous.as_ref(),
        })
    }

    fn condition(&self, kind: &str) -> (String, String) {
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
fn a_complete_cache_is_ready() {
    let case = Case::new(&json!({}), Some(set(3, 3, 3)));
    assert_eq!(case.condition("Ready"), is("True", "Ready"));
    assert_eq!(case.condition("Available"), is("True", "MinimumPodsReady"));
    assert_eq!(case.condition("Progressing"), is("False", "Complete"));
    assert_eq!(case.condition("Degraded"), is("False", "AsExpected"));
    assert_eq!(
        case.condition("OriginReachable"),
        is("Unknown", "OriginUnknown")
    );
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
fn a_cache_in_progress_says_how_far_it_is() {
    assert_eq!(
        Case::new(&json!({}), None).condition("Ready"),
        is("False", "Creating")
    );
    assert_eq!(
        Case::new(&json!({}), Some(set(3, 0, 3))).condition("Ready"),
        is("False", "Creating")
    );
    assert_eq!(
        Case::new(&json!({"replicas": 5}), Some(set(3, 3, 3))).condition("Ready"),
        is("False", "Scaling")
    );
    assert_eq!(
        Case::new(&json!({}), Some(set(3, 2, 1))).condition("Ready"),
        is("False", "RollingOut")
    );
    assert_eq!(
        Case::new(&json!({}), Some(set(3, 2, 1))).condition("Available"),
        is("True", "MinimumPodsReady")
    );
    assert_eq!(
        Case::new(&json!({}), Some(set(3, 1, 3))).condition("Available"),
        is("False", "TooFewPodsReady")
    );
    assert_eq!(
        Case::new(&json!({}), Some(set(3, 2, 3))).condition("Ready"),
        is("False", "PodsStarting")
    );
    assert_eq!(
        Case::new(&json!({"replicas": 0}), Some(set(0, 0, 0))).condition("Ready"),
        is("False", "ScaledToZero")
    );
}

#[test]
fn a_stateful_set_is_not_complete_before_its_generation_is_observed() {
    let mut unseen = set(3, 3, 3);
    unseen.metadata.generation = Some(3);
    assert_eq!(
        Case::new(&json!({}), Some(unseen)).condition("Ready"),
        is("False", "RollingOut")
    );
}

#[test]
fn the_pod_and_the_cause_are_named() {
    let mut case = Case::new(&json!({}), Some(set(3, 1, 3)));
    case.pods = vec![
        pod("media-0", None),
        pod(
            "media-1",
            Some((Cause::CrashLooping, "container cache exited with code 2")),
        ),
        pod(
            "media-2",
            Some((Cause::ImagePullFailed, "image x can't be pulled")),
        ),
    ];
    assert_eq!(case.condition("Ready"), is("False", "ImagePullFailed"));
    assert_eq!(case.condition("Degraded"), is("True", "ImagePullFailed"));
    assert_eq!(
        case.message("Ready"),
        "pod media-1: container cache exited with code 2; pod media-2: image x can't be pulled"
    );
}

#[test]
fn a_pod_that_is_just_starting_is_no_problem() {
    let mut case = Case::new(&json!({}), Some(set(3, 2, 3)));
    case.pods = vec![pod(
        "media-0",
        Some((Cause::NotResponding, "is running and not ready")),
    )];
    assert_eq!(case.condition("Degraded"), is("True", "NotResponding"));
    case.pods[0].unready_since = Some(at(-5));
    assert_eq!(case.condition("Degraded"), is("False", "AsExpected"));
}

#[test]
fn mistakes_and_failures_are_distinguished() {
    let mut case = Case::new(&json!({"cache": {"memory": "1Mi"}}), Some(set(3, 3, 3)));
    assert_eq!(case.condition("Ready"), is("False", "InvalidSpec"));
    assert_eq!(
        case.message("Ready"),
        "spec.cache.memory: must be at least 64Mi"
    );
    // What is running keeps running, and is reported so.
    assert_eq!(case.condition("Available"), is("True", "MinimumPodsReady"));
    case = Case::new(&json!({}), None);
    case.outcome = Err(Error::NameTaken {
        kind: "Service".to_owned(),
        name: "media".to_owned(),
        owner: "Deployment shop".to_owned(),
    });
    assert_eq!(case.condition("Ready"), is("False", "NameTaken"));
    assert_eq!(case.condition("Progressing"), is("False", "Blocked"));
    case.outcome = Ok(Outcome::Waiting {
        message: "StatefulSet media is being deleted".to_owned(),
    });
    assert_eq!(case.condition("Ready"), is("False", "Replacing"));
}

#[test]
fn an_origin_that_fails_is_reported_with_its_cause() {
    for (code, reason) in [
        ("AccessDenied", "OriginAccessDenied"),
        ("NoSuchBucket", "OriginBucketNotFound"),
        ("OriginUnreachable", "OriginUnreachable"),
        ("SlowDown", "OriginFailing"),
    ] {
        let mut case = Case::new(&json!({}), Some(set(3, 3, 3)));
        let page = format!("falcon_origin_requests_total{{op=\"get\",code=\"{code}\"}} 2\n");
        case.metrics = Some(CacheMetrics::sum(
            &[crate::observe::pod_metrics::parse(&page)],
            None,
        ));
        assert_eq!(case.condition("OriginReachable"), is("False", reason));
        assert_eq!(case.condition("Ready"), is("False", reason));
        assert!(
            case.message("Ready").contains("media"),
            "{}",
            case.message("Ready")
        );
        // When no pod can be read any more, the previous state stays.
        case.previous = Some(case.at(at(0)));
        case.metrics = None;
        assert_eq!(case.condition("OriginReachable"), is("False", reason));
    }
}

#[test]
fn another_reconcile_changes_nothing() {
    let mut case = Case::new(&json!({}), Some(set(3, 3, 3)));
    let first = case.at(at(0));
    case.previous = Some(first.clone());
    assert_eq!(case.at(at(3600)), first);
    // And a time moves only when its condition does.
    case.outcome = Ok(Outcome::Done(Applied {
        stateful_set: Some(Box::new(set(3, 2, 3))),
        replicas_autoscaled: false,
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
fn an_autoscaler_on_the_stateful_set_is_respected_and_reported() {
    let mut case = Case::new(&json!({}), Some(set(7, 7, 7)));
    case.outcome = Ok(Outcome::Done(Applied {
        stateful_set: Some(Box::new(set(7, 7, 7))),
        replicas_autoscaled: true,
    }));
    assert_eq!(case.condition("Ready"), is("True", "Ready"));
    assert_eq!(
        case.condition("ConfigurationWarning"),
        is("True", "RiskyValues")
    );
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("7/7"));
}

#[test]
fn a_paused_cache_says_so_and_counts_its_pods() {
    let case = Case::new(&json!({"paused": true, "replicas": 9}), Some(set(3, 3, 3)));
    assert_eq!(case.condition("Paused"), is("True", "PausedByUser"));
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("3/3"));
}

#[test]
fn small_changes_of_usage_are_ignored() {
    let mut case = Case::new(&json!({}), Some(set(3, 3, 3)));
    let page = |used: i64| {
        let text = format!(
            "falcon_cached_bytes{{pool=\"owned\"}} {used}\nfalcon_memory_budget_bytes 1073741824\nfalcon_ring_members{{state=\"serving\"}} 3\n"
        );
        Some(CacheMetrics::sum(
            &[crate::observe::pod_metrics::parse(&text)],
            None,
        ))
    };
    case.metrics = page(500 << 20);
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
    case.metrics = page(505 << 20);
    assert_eq!(case.at(at(60)), first);
    case.metrics = page(600 << 20);
    assert_eq!(case.at(at(60)).used.as_deref(), Some("600Mi/1Gi"));
}

#[test]
fn pods_that_can_t_be_created_are_named_before_those_that_fail() {
    let mut case = Case::new(&json!({}), Some(set(1, 0, 1)));
    case.pods = vec![pod(
        "media-0",
        Some((Cause::ImagePullFailed, "image x can't be pulled")),
    )];
    case.creation_failures = vec![CreationFailure {
        pod: "media-1".to_owned(),
        problem: PodProblem {
            cause: Cause::QuotaExceeded,
            message: "can't be created: exceeded quota: one-pod".to_owned(),
        },
    }];
    assert_eq!(case.condition("Ready"), is("False", "QuotaExceeded"));
    assert_eq!(
        case.message("Degraded"),
        "pod media-1: can't be created: exceeded quota: one-pod; pod media-0: image x can't be pulled"
    );
}

#[test]
fn a_terminating_or_unreachable_pod_does_not_count_even_if_it_is_ready() {
    let mut case = Case::new(&json!({}), Some(set(3, 3, 3)));
    case.pods[2].terminates_at = Some(at(5));
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("2/3"));
    assert_eq!(case.condition("Ready"), is("False", "PodsStarting"));
    assert_eq!(
        case.condition("Degraded"),
        is("False", "AsExpected"),
        "its grace period is not over"
    );
    case.pods[2].terminates_at = Some(at(-20));
    case.pods[2].node = Some("node-7".to_owned());
    assert_eq!(case.condition("Ready"), is("False", "DeletionNotConfirmed"));
    assert!(
        case.message("Ready").contains("node-7"),
        "{}",
        case.message("Ready")
    );

    let mut case = Case::new(&json!({}), Some(set(3, 3, 3)));
    case.pods[1] = pod("media-1", Some((Cause::NotResponding, "does not respond")));
    (
        case.pods[1].ready,
        case.pods[1].unreachable,
        case.pods[1].unready_since,
    ) = (true, true, None);
    assert_eq!(case.at(at(0)).ready.as_deref(), Some("2/3"));
    assert_eq!(case.condition("Ready"), is("False", "NotResponding"));
}
