//! `spec.pod`: metadata, scheduling and resources of the pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvVar, PodSecurityContext, Toleration};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crd::schema;

/// Metadata, scheduling and resources of the pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Additional labels of the pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "!self.exists(k, k.startsWith('app.kubernetes.io/') || k == 'falcon-discovery-id')",
         "message": "the labels app.kubernetes.io/... and falcon-discovery-id are reserved for the operator"}
    ]))]
    pub labels: BTreeMap<String, String>,

    /// Additional annotations of the pods.
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

    /// Tolerations of the pods. As in `pod.spec.tolerations`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::plain::<Vec<Toleration>>")]
    pub tolerations: Vec<Toleration>,

    /// Topology spread of the pods over zones and nodes.
    pub topology_spread: TopologySpread,

    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// CPU of the cache container. Its memory is derived from `cache.memory`.
    pub resources: CpuResources,

    /// Environment variables of the cache container. As in `pod.spec.containers.env`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::plain::<Vec<EnvVar>>")]
    pub env: Vec<EnvVar>,

    /// Security context of the pods, merged over the default (user and group 65532, non-root, seccomp
    /// `RuntimeDefault`). As in `pod.spec.securityContext`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<Option<PodSecurityContext>>")]
    pub security_context: Option<PodSecurityContext>,

    /// Partial pod template (`{metadata: …, spec: …}`), merged over the one that the operator generates. List entries
    /// such as containers and volumes are matched by name (the cache's container is `cache`). An unknown field is
    /// reported by the condition `Degraded`. Example: `{spec: {hostNetwork: true}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub overrides: Option<Value>,
}

/// Topology spread of the pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologySpread {
    /// Over zones: `Disabled`, `Preferred` or `Required`. Default `Preferred`.
    pub zone: Spread,
    /// Over nodes: `Disabled`, `Preferred` or `Required`. Default `Preferred`.
    pub node: Spread,
}

/// How strictly pods are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Spread {
    /// No constraint.
    Disabled,
    /// If possible (`ScheduleAnyway`).
    #[default]
    Preferred,
    /// Always (`DoNotSchedule`).
    Required,
}

/// CPU of the cache container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuResources {
    /// CPU request of the container. Default `100m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpu")]
    pub cpu_request: Option<IntOrString>,
    /// CPU limit of the container. Default: none, since throttling slows down all clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cpu")]
    pub cpu_limit: Option<IntOrString>,
}

impl Default for CpuResources {
    fn default() -> Self {
        Self {
            cpu_request: Some(IntOrString::String("100m".to_owned())),
            cpu_limit: None,
        }
    }
}

/// Pull policy of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Whenever a container starts.
    Always,
    /// If it is not on the node.
    IfNotPresent,
    /// Never.
    Never,
}

/// A Secret with registry credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImagePullSecret {
    /// Name of a Secret in the namespace of the cache.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
