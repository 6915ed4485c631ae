//! `FalconCache.status`: what the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Observed state of the cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FalconCacheStatus {
    /// Generation of the spec that this status was computed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of pods.
    pub replicas: i32,
    /// Number of ready pods.
    pub ready_replicas: i32,
    /// Ready pods / desired pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Label selector of the pods, for autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Members of the ring as seen by the pods; the smallest number if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_members: Option<i32>,
    /// Percentage of reads since the pods' start that were served without S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<String>,
    /// Memory used by cached objects in all pods, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
    /// Memory available for cached objects in all pods, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<i64>,
    /// Memory used / available, human-readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// URL of the blob API for applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Discovery id of the pods. It is unique in the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_id: Option<String>,
    /// Operator that manages this cache, as namespace and name of its Lease. Other operators don't touch the cache
    /// while this one is alive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Tag of the cache's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `Ready` (the summary), `Available`, `Progressing`, `Degraded`, `OriginReachable`, `ConfigurationWarning`,
    /// `Paused`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
