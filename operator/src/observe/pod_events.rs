//! Why pods can't be created or started, from the Events of their StatefulSet and of the pods. Pure.
//!
//! The StatefulSet's status counts pods but gives no cause; the API server's response to creating a pod is in Events
//! alone.

use std::collections::BTreeMap;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;

use crate::observe::pod::{Cause, PodProblem, PodState};

/// How long a start may fail for a reason that is often transient: a volume that is slow to attach, a kubelet that has
/// not synchronised yet.
const TRANSIENT_SECONDS: i64 = 15;
/// Longer messages are cut off in a condition.
const MESSAGE_CHARS: usize = 400;

/// A pod that can't be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreationFailure {
    /// Name of the pod.
    pub pod: String,
    /// Why.
    pub problem: PodProblem,
}

/// The pods that the StatefulSet failed to create in its last attempt. `pods` are those that exist.
pub fn creation_failures(
    events: &[Event],
    set_uid: &str,
    pods: &[PodState],
) -> Vec<CreationFailure> {
    let mut last: BTreeMap<&str, (Timestamp, Option<&str>)> = BTreeMap::new();
    for event in events.iter().filter(|event| is_about(event, set_uid)) {
        let note = event.note.as_deref().unwrap_or_default();
        let failed = match event.reason.as_deref() {
            Some("FailedCreate") => true,
            Some("SuccessfulCreate") => false,
            _ => continue,
        };
        let (Some(pod), Some(at)) = (pod_of(note), time(event)) else {
            continue;
        };
        let newer = last.get(pod).is_none_or(|(known, why)| {
            // In the same second: the failure is the later one.
            at > *known || (at == *known && why.is_some())
        });
        if newer {
            last.insert(pod, (at, failed.then_some(note)));
        }
    }
    last.into_iter()
        .filter(|(name, _)| pods.iter().all(|pod| pod.name != *name))
        .filter_map(|(name, (_, note))| {
            Some(CreationFailure {
                pod: name.to_owned(),
                problem: creation_problem(note?),
            })
        })
        .collect()
}

/// `Create Pod media-1 in StatefulSet media failed error: …`; before 1.35 in lower case, and with a prefix where Events
/// were combined.
fn pod_of(note: &str) -> Option<&str> {
    let (_, rest) = note.split_once("reate Pod ")?;
    rest.split(' ').next()
}

fn is_about(event: &Event, uid: &str) -> bool {
    event
        .regarding
        .as_ref()
        .is_some_and(|regarding| regarding.uid.as_deref() == Some(uid))
}

/// When it was last seen.
fn time(event: &Event) -> Option<Timestamp> {
    let last = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let series = event
        .series
        .as_ref()
        .map(|series| series.last_observed_time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    let made = event
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    series.max(last).or(first).or(made)
}

fn creation_problem(note: &str) -> PodProblem {
    let said = note
        .split_once("failed error: ")
        .map_or(note, |(_, said)| said);
    let has = |text: &str| said.contains(text);
    let (cause, hint) = if has("exceeded quota") {
        (
            Cause::QuotaExceeded,
            "raise the ResourceQuota, or lower spec.replicas or spec.cache.memory",
        )
    } else if has("failed quota") {
        (
            Cause::QuotaExceeded,
            "set what the ResourceQuota requires, such as spec.pod.resources.cpuLimit, or add a LimitRange with defaults",
        )
    } else if has("no PriorityClass") {
        (
            Cause::PriorityClassMissing,
            "create it, or change spec.pod.priorityClassName",
        )
    } else if has("RuntimeClass") && has("not found") {
        (
            Cause::RuntimeClassMissing,
            "create it, or change runtimeClassName in spec.pod.overrides",
        )
    } else if has("serviceaccount") && has("not found") {
        (
            Cause::ServiceAccountMissing,
            "create it, or change spec.origin.serviceAccountName",
        )
    } else if has("violates PodSecurity") {
        (
            Cause::PodSecurityViolation,
            "change spec.pod, or the label pod-security.kubernetes.io/enforce of the namespace",
        )
    } else {
        (Cause::PodCreationFailed, "the API server rejects the pod")
    };
    PodProblem {
        cause,
        message: format!("can't be created: {}: {hint}", short(said)),
    }
}

/// Why a pod does not start, if its Events say so. `now` is for the time limit of transient causes.
pub fn start_problem(pod: &PodState, events: &[Event], now: Timestamp) -> Option<PodProblem> {
    let newest = events
        .iter()
        .filter(|event| is_about(event, &pod.uid))
        .filter(|event| {
            matches!(
                event.reason.as_deref(),
                Some(
                    "FailedMount"
                        | "FailedAttachVolume"
                        | "FailedCreatePodSandBox"
                        | "FailedCreatePodContainer"
                )
            )
        })
        .max_by_key(|event| (time(event), names_missing_object(event)))?;
    let said = newest.note.as_deref().unwrap_or_default();
    let has = |text: &str| said.contains(text);
    let missing = has("not found") || has("non-existent");
    let (cause, hint) = if missing && has("secret") {
        (
            Cause::SecretMissing,
            "create it with that key, or change the reference in the spec; the kubelet retries within two minutes",
        )
    } else if missing && has("configmap") {
        (
            Cause::ConfigMapMissing,
            "create it with that key, or change the reference in the spec; the kubelet retries within two minutes",
        )
    } else {
        let since = pod.unready_since.map_or(0, Timestamp::as_second);
        if now.as_second() - since < TRANSIENT_SECONDS {
            return None;
        }
        match newest.reason.as_deref() {
            Some("FailedMount" | "FailedAttachVolume") => (Cause::MountFailed, "check the volume"),
            _ => (
                Cause::SandboxFailed,
                "check the node, its container runtime and its network",
            ),
        }
    };
    Some(PodProblem {
        cause,
        message: format!("can't be started: {}: {hint}", short(said)),
    })
}

/// Of several Events at one time, the one that names what is missing is preferred.
fn names_missing_object(event: &Event) -> bool {
    let said = event.note.as_deref().unwrap_or_default();
    said.contains("not found") || said.contains("non-existent")
}

fn short(said: &str) -> String {
    said.trim().chars().take(MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> String {
        Timestamp::from_second(1_800_000_000 + second)
            .unwrap()
            .to_string()
    }

    fn event(reason: &str, uid: &str, second: i64, note: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{reason}-{second}"), "namespace": "prod"}, "eventTime": null, "reason": reason, "note": note,
            "regarding": {"uid": uid}, "deprecatedLastTimestamp": at(second), "type": "Warning"
        }))
        .unwrap()
    }

    fn failed(pod: &str, second: i64, why: &str) -> Event {
        event(
            "FailedCreate",
            "set",
            second,
            &format!("Create Pod {pod} in StatefulSet media failed error: {why}"),
        )
    }

    fn pod(name: &str) -> PodState {
        PodState {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            creating: true,
            unready_since: Timestamp::from_second(1_800_000_000).ok(),
            ..PodState::default()
        }
    }

    /// Messages of Kubernetes 1.35.
    const REJECTED: [(&str, Cause); 7] = [
        (
            r#"pods "media-1" is forbidden: exceeded quota: one-pod, requested: pods=1, used: pods=1, limited: pods=1"#,
            Cause::QuotaExceeded,
        ),
        (
            r#"pods "media-1" is forbidden: failed quota: cpu: must specify limits.cpu for: cache"#,
            Cause::QuotaExceeded,
        ),
        (
            r#"pods "media-1" is forbidden: no PriorityClass with name nope was found"#,
            Cause::PriorityClassMissing,
        ),
        (
            r#"pods "media-1" is forbidden: pod rejected: RuntimeClass "nope" not found"#,
            Cause::RuntimeClassMissing,
        ),
        (
            r#"pods "media-1" is forbidden: error looking up service account prod/nope: serviceaccount "nope" not found"#,
            Cause::ServiceAccountMissing,
        ),
        (
            r#"pods "media-1" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)"#,
            Cause::PodSecurityViolation,
        ),
        (
            r#"admission webhook "policy.example" denied the request: no"#,
            Cause::PodCreationFailed,
        ),
    ];

    #[test]
    fn a_rejected_pod_is_reported_with_the_api_servers_message() {
        for (why, cause) in REJECTED {
            let found = creation_failures(&[failed("media-1", 5, why)], "set", &[pod("media-0")]);
            assert_eq!(found.len(), 1, "{why}");
            assert_eq!(
                (found[0].pod.as_str(), found[0].problem.cause),
                ("media-1", cause),
                "{why}"
            );
            assert!(
                found[0].problem.message.contains(why),
                "{}",
                found[0].problem.message
            );
        }
    }

    #[test]
    fn a_failure_counts_until_the_pod_exists_or_was_created_since() {
        let failed_event = failed("media-1", 5, "no");
        let created = |second| {
            event(
                "SuccessfulCreate",
                "set",
                second,
                "Create Pod media-1 in StatefulSet media successful",
            )
        };
        let count =
            |events: &[Event], pods: &[PodState]| creation_failures(events, "set", pods).len();
        assert_eq!(count(std::slice::from_ref(&failed_event), &[]), 1);
        assert_eq!(
            count(std::slice::from_ref(&failed_event), &[pod("media-1")]),
            0,
            "it exists"
        );
        assert_eq!(
            count(&[failed_event.clone(), created(6)], &[]),
            0,
            "it was created since"
        );
        assert_eq!(
            count(&[created(5), failed_event.clone()], &[]),
            0,
            "tried again in that second"
        );
        assert_eq!(
            count(&[created(4), failed_event.clone()], &[]),
            1,
            "it was created before"
        );
        assert_eq!(
            creation_failures(&[failed_event], "a set of earlier", &[]),
            []
        );
    }

    #[test]
    fn a_combined_event_is_parsed_too() {
        let note = "(combined from similar events): create Pod media-1 in StatefulSet media failed error: exceeded quota";
        let found = creation_failures(&[event("FailedCreate", "set", 1, note)], "set", &[]);
        assert_eq!(found[0].problem.cause, Cause::QuotaExceeded);
    }

    #[test]
    fn a_missing_secret_and_a_missing_key_are_reported_at_once() {
        let now = Timestamp::from_second(1_800_000_001).unwrap();
        for (note, cause) in [
            (
                r#"MountVolume.SetUp failed for volume "origin-keys" : secret "s3-keys" not found"#,
                Some(Cause::SecretMissing),
            ),
            (
                r#"MountVolume.SetUp failed for volume "origin-keys" : references non-existent secret key: secret-access-key"#,
                Some(Cause::SecretMissing),
            ),
            (
                r#"MountVolume.SetUp failed for volume "origin-ca" : configmap "ca" not found"#,
                Some(Cause::ConfigMapMissing),
            ),
            (
                r#"MountVolume.SetUp failed for volume "x" : failed to sync secret cache: timed out waiting for the condition"#,
                None,
            ),
        ] {
            let events = [event("FailedMount", "uid-of-media-0", 0, note)];
            let found = start_problem(&pod("media-0"), &events, now);
            assert_eq!(found.map(|problem| problem.cause), cause, "{note}");
        }
        let late = Timestamp::from_second(1_800_000_030).unwrap();
        let events = [event(
            "FailedMount",
            "uid-of-media-0",
            0,
            "timed out waiting for the condition",
        )];
        assert_eq!(
            start_problem(&pod("media-0"), &events, late).unwrap().cause,
            Cause::MountFailed
        );
    }
}
