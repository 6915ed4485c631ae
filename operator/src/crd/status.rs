//! `FalconCache.status`: what the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the cache is.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FalconCacheStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that exist.
    pub replicas: i32,
    /// Pods that answer.
    pub ready_replicas: i32,
    /// Pods that answer / pods asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Label selector of the pods, for autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Members of the ring, as the pods see it; the smallest number if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_members: Option<i32>,
    /// Share of reads since the pods' start that needed no S3, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<String>,
    /// Memory in use by cached objects, over all pods, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
    /// Memory for cached objects, over all pods, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<i64>,
    /// Memory in use / memory of the ring, to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Where applications read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Discovery id under which the pods find each other; no other cache of the namespace may have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_id: Option<String>,
    /// The operator that looks after this cache, by namespace and name of its Lease. Another one leaves the cache alone as long as this one lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Tag of the image that the pods are made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `Ready` (the summary), `Available`, `Progressing`, `Degraded`, `OriginReachable`, `ConfigurationWarning`, `Paused`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
