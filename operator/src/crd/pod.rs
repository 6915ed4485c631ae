//! `spec.pod`: how the pods look and where they run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvVar, PodSecurityContext, Toleration};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crd::schema;

/// How the pods look and where they run.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Labels added to the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "!self.exists(k, k.startsWith('app.kubernetes.io/') || k == 'falcon-discovery-id')",
         "message": "the labels app.kubernetes.io/... and falcon-discovery-id are the operator's"}
    ]))]
    pub labels: BTreeMap<String, String>,

    /// Annotations added to the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,

    /// Labels that a node must have. Example: `{kubernetes.io/arch: arm64}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,

    /// Affinity of the pods. As in `pod.spec.affinity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<Option<Affinity>>")]
    pub affinity: Option<Affinity>,

    /// Taints that the pods tolerate. As in `pod.spec.tolerations`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::plain::<Vec<Toleration>>")]
    pub tolerations: Vec<Toleration>,

    /// How pods are spread over zones and nodes.
    pub topology_spread: TopologySpread,

    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// CPU of the cache container. Memory follows from `cache.memory`.
    pub resources: Resources,

    /// Environment variables of the cache container. As in `pod.spec.containers.env`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::plain::<Vec<EnvVar>>")]
    pub env: Vec<EnvVar>,

    /// Security context of the pods, laid over the default (user and group 65532, not root, seccomp `RuntimeDefault`). As in `pod.spec.securityContext`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<Option<PodSecurityContext>>")]
    pub security_context: Option<PodSecurityContext>,

    /// Anything else of a pod: a partial pod template (`{metadata: …, spec: …}`) laid over the one that the operator makes; containers, volumes and
    /// the like are matched by name (the cache's container is `cache`). A field that no pod has is reported by the condition `Degraded`.
    /// Example: `{spec: {hostNetwork: true}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub overrides: Option<Value>,
}

/// How pods are spread.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologySpread {
    /// Over zones: `Disabled`, `Preferred` or `Required`. Default `Preferred`.
    pub zone: Spread,
    /// Over nodes: `Disabled`, `Preferred` or `Required`. Default `Preferred`.
    pub node: Spread,
}

/// How strictly pods are spread.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Spread {
    /// Not at all.
    Disabled,
    /// Where it can be done.
    #[default]
    Preferred,
    /// Or a pod waits.
    Required,
}

/// CPU of the cache container.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// CPU that is kept for the container. Default `100m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpu")]
    pub cpu_request: Option<IntOrString>,
    /// CPU that the container may use at most. Default: no limit, as a throttled cache is slow for everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpu")]
    pub cpu_limit: Option<IntOrString>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: Some(IntOrString::String("100m".to_owned())),
            cpu_limit: None,
        }
    }
}

/// When the kubelet pulls an image.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ImagePullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// A Secret with registry credentials.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImagePullSecret {
    /// Name of a Secret in the namespace of the cache.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
