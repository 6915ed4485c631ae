//! Compares a live object with the desired one. Pure.
//!
//! The API server adds defaults, so "the same" means that all desired fields are there, and that we own no field that
//! is no longer desired.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};

use crate::resources::meta::OPERATOR;

/// Whether `live` contains all fields of `wanted`.
pub(super) fn contains(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().all(|(key, value)| match live.get(key) {
                Some(found) => contains(value, found),
                // The API server omits empty values.
                None => is_unset(value),
            })
        }
        (Value::Array(wanted), Value::Array(live)) => match names(wanted) {
            // Lists with names as keys may have entries of other managers.
            Some(_) => wanted.iter().all(|item| {
                live.iter()
                    .any(|found| found["name"] == item["name"] && contains(item, found))
            }),
            None => {
                wanted.len() == live.len()
                    && wanted
                        .iter()
                        .zip(live)
                        .all(|(item, found)| contains(item, found))
            }
        },
        (wanted, live) => wanted == live,
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_unset),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) => false,
    }
}

fn names(items: &[Value]) -> Option<Vec<&str>> {
    if items.is_empty() {
        None
    } else {
        items.iter().map(|item| item["name"].as_str()).collect()
    }
}

/// Whether `manager` owns applied fields that are no longer wanted; applying again removes them.
pub(super) fn owns_unwanted_fields(
    fields: &[ManagedFieldsEntry],
    manager: &str,
    wanted: &Value,
) -> bool {
    fields
        .iter()
        .filter(|entry| {
            entry.manager.as_deref() == Some(manager)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.is_none()
        })
        .filter_map(|entry| entry.fields_v1.as_ref())
        .any(|owned| !covers(wanted, &owned.0))
}

/// Whether `wanted` has every field of a set in the notation of `managedFields`.
fn covers(wanted: &Value, owned: &Value) -> bool {
    let Some(owned) = owned.as_object() else {
        return true;
    };
    owned.iter().all(|(key, below)| match key.split_once(':') {
        Some(("f", name)) => wanted.get(name).is_some_and(|value| covers(value, below)),
        Some(("k", keys)) => match serde_json::from_str::<Map<String, Value>>(keys) {
            Ok(keys) => items(wanted).iter().any(|item| {
                keys.iter().all(|(name, value)| same_key(item, name, value)) && covers(item, below)
            }),
            Err(_) => true,
        },
        Some(("v", value)) => match serde_json::from_str::<Value>(value) {
            Ok(value) => items(wanted).contains(&value),
            Err(_) => true,
        },
        _ => true,
    })
}

/// An omitted key with a default, such as a port's protocol, is no difference.
fn same_key(item: &Value, name: &str, value: &Value) -> bool {
    item.get(name).is_none_or(|found| found == value)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The first immutable field that differs.
pub(super) fn changed_immutable_field(
    kind: &str,
    wanted: &Value,
    live: &Value,
) -> Option<&'static str> {
    let fields: &[(&str, &str)] = match kind {
        "StatefulSet" => &[
            ("/spec/serviceName", "serviceName"),
            ("/spec/selector", "selector"),
            ("/spec/podManagementPolicy", "podManagementPolicy"),
        ],
        "RoleBinding" => &[("/roleRef", "roleRef")],
        "Service" => &[("/spec/clusterIP", "clusterIP")],
        _ => &[],
    };
    let differs = |path: &str| match (wanted.pointer(path), live.pointer(path)) {
        (Some(wanted), Some(live)) => wanted != live,
        _ => false,
    };
    fields
        .iter()
        .find(|(path, _)| differs(path))
        .map(|(_, name)| *name)
}

/// Whether a HorizontalPodAutoscaler has set the replicas. It writes through the scale subresource, from the controller
/// manager; changes by anyone else are reverted.
pub(super) fn autoscaler_owns_replicas(fields: &[ManagedFieldsEntry]) -> bool {
    fields.iter().any(|entry| {
        entry.manager.as_deref() != Some(OPERATOR)
            && entry.manager.as_deref() == Some("kube-controller-manager")
            && entry.subresource.as_deref() == Some("scale")
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|owned| owned.0.pointer("/f:spec/f:replicas").is_some())
    })
}

/// An object without the fields that the API server changes by itself.
pub(super) fn content(live: &Value) -> Value {
    let mut content = live.clone();
    if let Some(object) = content.as_object_mut() {
        object.remove("status");
    }
    if let Some(meta) = content["metadata"].as_object_mut() {
        for volatile in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(volatile);
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, subresource: Option<&str>, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(
                if subresource.is_some() {
                    "Update"
                } else {
                    "Apply"
                }
                .to_owned(),
            ),
            subresource: subresource.map(ToOwned::to_owned),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_difference() {
        let wanted = json!({"spec": {"a": 1, "env": [{"name": "x"}], "none": {}, "off": false}});
        let live = json!({"spec": {"a": 1, "b": 2, "env": [{"name": "y"}, {"name": "x", "value": ""}]}, "status": {}});
        assert!(contains(&wanted, &live));
    }

    #[test]
    fn what_somebody_changed_is_a_difference() {
        for (wanted, live) in [
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": [1, 2]}), json!({"a": [1]})),
            (
                json!({"a": [{"name": "x", "v": 1}]}),
                json!({"a": [{"name": "x", "v": 2}]}),
            ),
            (json!({"a": [{"name": "x"}]}), json!({"a": [{"name": "y"}]})),
            (json!({"a": "x"}), json!({})),
        ] {
            assert!(!contains(&wanted, &live), "{wanted} {live}");
        }
    }

    #[test]
    fn an_owned_field_that_is_no_longer_wanted_is_found() {
        let wanted = json!({"spec": {"containers": [{"name": "cache", "image": "a"}], "ports": [{"port": 1}], "set": ["x"]}});
        let owned = |extra: Value| {
            let mut fields = json!({"f:spec": {
                "f:containers": {"k:{\"name\":\"cache\"}": {".": {}, "f:image": {}}},
                "f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {"f:port": {}}}, "f:set": {"v:\"x\"": {}}
            }});
            fields["f:spec"]
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            vec![entry(OPERATOR, None, fields)]
        };
        assert!(!owns_unwanted_fields(&owned(json!({})), OPERATOR, &wanted));
        assert!(owns_unwanted_fields(
            &owned(json!({"f:nodeSelector": {}})),
            OPERATOR,
            &wanted
        ));
        assert!(owns_unwanted_fields(
            &owned(json!({"f:containers": {"k:{\"name\":\"old\"}": {}}})),
            OPERATOR,
            &wanted
        ));
        assert!(!owns_unwanted_fields(
            &[entry("kubectl", None, json!({"f:nodeSelector": {}}))],
            OPERATOR,
            &wanted
        ));
    }

    #[test]
    fn only_an_autoscaler_owns_the_replicas() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        assert!(autoscaler_owns_replicas(&[entry(
            "kube-controller-manager",
            Some("scale"),
            replicas.clone()
        )]));
        assert!(!autoscaler_owns_replicas(&[entry(
            "kubectl",
            Some("scale"),
            replicas.clone()
        )]));
        assert!(!autoscaler_owns_replicas(&[entry(
            "kube-controller-manager",
            Some("status"),
            replicas
        )]));
    }

    #[test]
    fn a_changed_selector_or_role_requires_recreation() {
        let set = |name: &str| json!({"spec": {"serviceName": name, "selector": {"matchLabels": {"a": "b"}}, "podManagementPolicy": "Parallel"}});
        assert_eq!(
            changed_immutable_field("StatefulSet", &set("a"), &set("a")),
            None
        );
        assert_eq!(
            changed_immutable_field("StatefulSet", &set("a"), &set("b")),
            Some("serviceName")
        );
        assert_eq!(
            changed_immutable_field(
                "RoleBinding",
                &json!({"roleRef": {"kind": "Role"}}),
                &json!({"roleRef": {"kind": "ClusterRole"}})
            ),
            Some("roleRef")
        );
        assert_eq!(
            changed_immutable_field("ConfigMap", &json!({"roleRef": 1}), &json!({"roleRef": 2})),
            None
        );
    }
}
