//! What is told as Events: changes of the summary, of the origin and of the pause, and repairs. Pure; publishing is the controller's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::apply::{Verb, Write};
use crate::crd::status::FalconCacheStatus;

/// The API server's bound for a note, less what it takes to say that it was cut.
const NOTE_BYTES: usize = 1000;

/// Events for what changed and for what was done.
pub fn news(
    before: Option<&FalconCacheStatus>,
    now: &FalconCacheStatus,
    journal: &[Write],
) -> Vec<Event> {
    let mut events: Vec<Event> = journal.iter().filter_map(deed).collect();
    for (kind, action) in [
        ("Ready", "Reconcile"),
        ("OriginReachable", "Observe"),
        ("Paused", "Pause"),
    ] {
        let (Some(now), before) = (find(Some(now), kind), find(before, kind)) else {
            continue;
        };
        // At first sight there is news only of the summary.
        let changed = match before {
            Some(before) => {
                before.status != now.status || (kind == "Ready" && before.reason != now.reason)
            }
            None => kind == "Ready" || (kind == "Paused" && now.status == "True"),
        };
        if changed && now.status != "Unknown" {
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

/// That another operator, `other`, looks after a cache, and `me` leaves it alone.
pub fn foreign(other: &str, me: &str) -> Event {
    let note = format!(
        "operator {other} looks after this cache: operator {me} leaves it alone until that one is uninstalled; two operators need different namespaces (chart value watchNamespaces)"
    );
    event(EventType::Warning, "OtherOperator", "Reconcile", &note)
}

fn deed(write: &Write) -> Option<Event> {
    let (kind, name) = (write.kind.as_str(), write.name.as_str());
    match (write.verb, kind) {
        (Verb::Delete, "Pod") => Some(event(
            EventType::Warning,
            "StuckPodDeleted",
            "Repair",
            &format!("pod {name} of an older form was stuck; it comes back from the newest one"),
        )),
        (Verb::Delete, "StatefulSet") => Some(event(
            EventType::Normal,
            "StatefulSetReplaced",
            "Replace",
            &format!("StatefulSet {name} is made anew; its pods stay"),
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
    let fine = kind == "Paused"
        || condition.status == "True"
        || expected.contains(&condition.reason.as_str());
    if fine {
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
