//! Names, labels, selectors and owner references.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;

use crate::crd::FalconCache;
use crate::plan::{Identity, Plan};

/// Label by which the pods discover each other: Kubernetes copies it from the headless Service to its EndpointSlices.
pub const DISCOVERY_ID: &str = "falcon-discovery-id";
/// Label of all objects that the operator creates, and the one that it watches by.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of `MANAGED_BY`, and the field manager of every write.
pub const OPERATOR: &str = "falcon-operator";
/// Annotation of a StatefulSet whose pods could not be created: how often its controller was made to retry.
pub const RETRIES: &str = "falconcache.io/retries";
/// Label that names the cache.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

const NAME: &str = "app.kubernetes.io/name";
const COMPONENT: &str = "app.kubernetes.io/component";
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Name of the headless Service.
pub fn headless_name(identity: &Identity) -> String {
    format!("{}-peers", identity.name)
}

/// Name of the Secret with the peer token.
pub fn peer_secret_name(identity: &Identity) -> String {
    format!("{}-peer-token", identity.name)
}

/// URL of the blob API.
pub fn endpoint(plan: &Plan) -> String {
    format!(
        "http://{}.{}.svc:{}",
        plan.identity.name, plan.identity.namespace, plan.service.port
    )
}

/// Labels of everything that belongs to a cache.
pub fn labels(identity: &Identity) -> BTreeMap<String, String> {
    let mut labels = selector_labels(identity);
    labels.extend(pairs([
        (MANAGED_BY, OPERATOR),
        (COMPONENT, "cache"),
        (PART_OF, "falcon"),
    ]));
    labels
}

/// The labels that pods are selected by. They never change: a StatefulSet's selector can't.
pub fn selector_labels(identity: &Identity) -> BTreeMap<String, String> {
    pairs([(NAME, "falcon-cache"), (INSTANCE, identity.name.as_str())])
}

/// The selector of the pods.
pub fn selector(identity: &Identity) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector_labels(identity)),
        match_expressions: None,
    }
}

/// The selector of the pods, as text.
pub fn selector_text(identity: &Identity) -> String {
    let parts: Vec<String> = selector_labels(identity)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    parts.join(",")
}

/// Labels of the pods: the user's, overridden by ours.
pub fn pod_labels(plan: &Plan) -> BTreeMap<String, String> {
    let mut all = plan.pod.labels.clone();
    all.extend(labels(&plan.identity));
    all.insert(DISCOVERY_ID.to_owned(), plan.discovery_id.clone());
    all
}

/// Metadata of an owned object: name, namespace, labels, and the cache as owner, so that Kubernetes deletes it with the
/// cache.
pub fn object(identity: &Identity, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(identity.namespace.clone()),
        labels: Some(labels(identity)),
        owner_references: Some(vec![owner(identity)]),
        ..ObjectMeta::default()
    }
}

/// The cache as owner. `blockOwnerDeletion` is not set: it would need a permission on finalizers.
pub fn owner(identity: &Identity) -> OwnerReference {
    OwnerReference {
        api_version: FalconCache::api_version(&()).into_owned(),
        kind: FalconCache::kind(&()).into_owned(),
        name: identity.name.clone(),
        uid: identity.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// A map of strings, such as labels.
pub fn pairs<const N: usize>(from: [(&str, &str); N]) -> BTreeMap<String, String> {
    from.into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
