//! Why pods are not created or not started, from the Events of their set and of themselves. Pure.
//!
//! The StatefulSet's status counts pods and tells no cause; what the API server answered when a pod was to be created is in Events alone.

use std::collections::BTreeMap;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;

use crate::observe::pod::{Cause, PodState, Trouble};

/// How long an attempt may fail for a reason that often passes by itself: a volume that is slow to attach, a kubelet that has not synchronized yet.
const PASSING_SECONDS: i64 = 15;
/// More than this of a message is left out of a condition.
const MESSAGE_CHARS: usize = 400;

/// A pod that is wanted and can't be created.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Name of the pod.
    pub pod: String,
    /// Why.
    pub trouble: Trouble,
}

/// The pods that the set could not create when it last tried. `pods` are those that exist.
pub fn refusals(events: &[Event], set_uid: &str, pods: &[PodState]) -> Vec<Refusal> {
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
            // Of one second: what failed was tried again.
            at > *known || (at == *known && why.is_some())
        });
        if newer {
            last.insert(pod, (at, failed.then_some(note)));
        }
    }
    last.into_iter()
        .filter(|(name, _)| pods.iter().all(|pod| pod.name != *name))
        .filter_map(|(name, (_, note))| {
            Some(Refusal {
                pod: name.to_owned(),
                trouble: not_created(note?),
            })
        })
        .collect()
}

/// `Create Pod media-1 in StatefulSet media failed error: …`; before 1.35 with a small letter, and with other words before it where Events were combined.
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

fn not_created(note: &str) -> Trouble {
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
            "set what the ResourceQuota demands, such as spec.pod.resources.cpuLimit, or add a LimitRange with defaults",
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
            Cause::PodSecurityRefused,
            "change what spec.pod asks for, or the label pod-security.kubernetes.io/enforce of the namespace",
        )
    } else {
        (Cause::PodsNotCreated, "the API server refuses the pod")
    };
    Trouble {
        cause,
        message: format!("can't be created: {}: {hint}", short(said)),
    }
}

/// Why a pod does not start, if its Events tell. `now` decides on what may pass by itself.
pub fn not_started(pod: &PodState, events: &[Event], now: Timestamp) -> Option<Trouble> {
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
        .max_by_key(|event| (time(event), weight(event)))?;
    let said = newest.note.as_deref().unwrap_or_default();
    let has = |text: &str| said.contains(text);
    let missing = has("not found") || has("non-existent");
    let (cause, hint) = if missing && has("secret") {
        (
            Cause::SecretMissing,
            "create it with that entry, or change the reference in the spec; the kubelet tries again within two minutes",
        )
    } else if missing && has("configmap") {
        (
            Cause::ConfigMapMissing,
            "create it with that entry, or change the reference in the spec; the kubelet tries again within two minutes",
        )
    } else {
        let since = pod.unready_since.map_or(0, Timestamp::as_second);
        if now.as_second() - since < PASSING_SECONDS {
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
    Some(Trouble {
        cause,
        message: format!("can't be started: {}: {hint}", short(said)),
    })
}

/// Of one moment, the Event that names what is missing.
fn weight(event: &Event) -> bool {
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

    /// In the words of Kubernetes 1.35.
    const REFUSED: [(&str, Cause); 7] = [
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
            Cause::PodSecurityRefused,
        ),
        (
            r#"admission webhook "policy.example" denied the request: no"#,
            Cause::PodsNotCreated,
        ),
    ];

    #[test]
    fn what_refuses_a_pod_is_named_with_the_api_servers_words() {
        for (why, cause) in REFUSED {
            let told = refusals(&[failed("media-1", 5, why)], "set", &[pod("media-0")]);
            assert_eq!(told.len(), 1, "{why}");
            assert_eq!(
                (told[0].pod.as_str(), told[0].trouble.cause),
                ("media-1", cause),
                "{why}"
            );
            assert!(
                told[0].trouble.message.contains(why),
                "{}",
                told[0].trouble.message
            );
        }
    }

    #[test]
    fn a_refusal_counts_until_the_pod_exists_or_was_created_since() {
        let refused = failed("media-1", 5, "no");
        let created = |second| {
            event(
                "SuccessfulCreate",
                "set",
                second,
                "Create Pod media-1 in StatefulSet media successful",
            )
        };
        let count = |events: &[Event], pods: &[PodState]| refusals(events, "set", pods).len();
        assert_eq!(count(std::slice::from_ref(&refused), &[]), 1);
        assert_eq!(
            count(std::slice::from_ref(&refused), &[pod("media-1")]),
            0,
            "it exists"
        );
        assert_eq!(
            count(&[refused.clone(), created(6)], &[]),
            0,
            "it was created since"
        );
        assert_eq!(
            count(&[created(5), refused.clone()], &[]),
            0,
            "tried again in that second"
        );
        assert_eq!(
            count(&[created(4), refused.clone()], &[]),
            1,
            "it was created before"
        );
        assert_eq!(refusals(&[refused], "a set of earlier", &[]), []);
    }

    #[test]
    fn a_combined_event_is_read_too() {
        let note = "(combined from similar events): create Pod media-1 in StatefulSet media failed error: exceeded quota";
        let told = refusals(&[event("FailedCreate", "set", 1, note)], "set", &[]);
        assert_eq!(told[0].trouble.cause, Cause::QuotaExceeded);
    }

    #[test]
    fn a_missing_secret_and_a_missing_entry_are_told_at_once() {
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
            let told = not_started(&pod("media-0"), &events, now);
            assert_eq!(told.map(|trouble| trouble.cause), cause, "{note}");
        }
        let late = Timestamp::from_second(1_800_000_030).unwrap();
        let events = [event(
            "FailedMount",
            "uid-of-media-0",
            0,
            "timed out waiting for the condition",
        )];
        assert_eq!(
            not_started(&pod("media-0"), &events, late).unwrap().cause,
            Cause::MountFailed
        );
    }
}
