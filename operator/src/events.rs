//! Kubernetes Events for changes of the conditions `Ready`, `OriginReachable` and `Paused`, and for repairs. Pure; the
//! controller publishes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::apply::{Verb, Write};
use crate::crd::status::FalconCacheStatus;

/// The API server's limit for a note, with some margin.
const NOTE_BYTES: usize = 1000;

/// Events for changed conditions and for repairs.
pub fn events_for(
    before: Option<&FalconCacheStatus>,
    now: &FalconCacheStatus,
    changes: &[Write],
) -> Vec<Event> {
    let mut events: Vec<Event> = changes.iter().filter_map(event_for).collect();
    for (kind, action) in [
        ("Ready", "Reconcile"),
        ("OriginReachable", "Observe"),
        ("Paused", "Pause"),
    ] {
        let (Some(now), before) = (find(Some(now), kind), find(before, kind)) else {
            continue;
        };
        // A new cache has Events only for the summary.
        let differs = match before {
            Some(before) => {
                before.status != now.status || (kind == "Ready" && before.reason != now.reason)
            }
            None => kind == "Ready" || (kind == "Paused" && now.status == "True"),
        };
        if differs && now.status != "Unknown" {
            events.push(event(
                severity(kind, now),
                &now.reason,
                action,
                &now.message,
            ));
        }
    }
    events
}

/// That another operator, `other`, manages a cache, and `me` does not touch it.
pub fn other_operator(other: &str, me: &str) -> Event {
    let note = format!(
        "operator {other} manages this cache: operator {me} does not touch it until that one is uninstalled; two operators need different namespaces (chart value watchNamespaces)"
    );
    event(EventType::Warning, "OtherOperator", "Reconcile", &note)
}

fn event_for(write: &Write) -> Option<Event> {
    let (kind, name) = (write.kind.as_str(), write.name.as_str());
    match (write.verb, kind) {
        (Verb::Delete, "Pod") => Some(event(
            EventType::Warning,
            "StuckPodDeleted",
            "Repair",
            &format!(
                "deleted pod {name}, which was stuck on an older template; it is recreated from the newest one"
            ),
        )),
        (Verb::Delete, "StatefulSet") => Some(event(
            EventType::Normal,
            "StatefulSetReplaced",
            "Replace",
            &format!("StatefulSet {name} is recreated; its pods keep running"),
        )),
        _ => None,
    }
}

fn severity(kind: &str, condition: &Condition) -> EventType {
    let expected = [
        "Creating",
        "Scaling",
        "RollingOut",
        "PodsStarting",
        "Replacing",
        "ScaledToZero",
    ];
    let is_normal = kind == "Paused"
        || condition.status == "True"
        || expected.contains(&condition.reason.as_str());
    if is_normal {
        EventType::Normal
    } else {
        EventType::Warning
    }
}

fn find<'a>(status: Option<&'a FalconCacheStatus>, kind: &str) -> Option<&'a Condition> {
    status?
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
}

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    let end = note.floor_char_boundary(NOTE_BYTES);
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note[..end].to_owned()),
        action: action.to_owned(),
        secondary: None,
    }
}
