//! How much is kept and for how long, how the ring is found, how pods are replaced and what they log.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema;

/// How much is kept and for how long.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "quantity(self.memory).compareTo(quantity('64Mi')) >= 0",
     "message": "memory must be at least 64Mi"},
    {"rule": "quantity(self.blockSize).asInteger() in [65536, 131072, 262144, 524288, 1048576, 2097152, 4194304, 8388608, 16777216]",
     "message": "blockSize must be a power of two from 64Ki to 16Mi"},
    {"rule": "quantity(self.memory).asInteger() >= 16 * quantity(self.blockSize).asInteger()",
     "message": "memory must hold at least 16 blocks of blockSize"}
]))]
pub struct Cache {
    /// Memory for cached objects in each pod. Default `1Gi`, at least `64Mi`. The pod's memory request and limit follow from it:
    /// memory × 1.25 + 128Mi, for what is in flight, for connections and for the program itself. Example: `8Gi` gives pods of 10368Mi.
    #[schemars(schema_with = "schema::size")]
    pub memory: String,

    /// Size of the pieces in which objects are read and kept. Default `1Mi`; a power of two from `64Ki` to `16Mi`. Smaller for many small ranges,
    /// larger for streaming.
    #[schemars(schema_with = "schema::size")]
    pub block_size: String,

    /// Objects larger than this are served and not kept. Default `128Mi`, in whole MiB. Example: `1Gi`.
    #[schemars(schema_with = "schema::size")]
    pub max_blob_size: String,

    /// How long an object is served before S3 is asked whether it changed. Default `1h`, in whole minutes. `0s`: never asked.
    #[schemars(schema_with = "schema::minutes")]
    pub ttl: String,

    /// How long after its ttl an object may be served while S3 fails. Default `1h`, in whole minutes. `0s`: not at all.
    #[schemars(schema_with = "schema::minutes")]
    pub stale_if_error: String,

    /// How long it is remembered that an object does not exist. Default `2s`, at most `1h`. `0s`: not remembered.
    #[schemars(schema_with = "schema::duration")]
    pub negative_ttl: String,

    /// How long S3 may take to its first byte. Default `5s`. At most `1h`. Example: `800ms`.
    #[schemars(schema_with = "schema::duration")]
    pub timeout: String,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            memory: "1Gi".to_owned(),
            block_size: "1Mi".to_owned(),
            max_blob_size: "128Mi".to_owned(),
            ttl: "1h".to_owned(),
            stale_if_error: "1h".to_owned(),
            negative_ttl: "2s".to_owned(),
            timeout: "5s".to_owned(),
        }
    }
}

/// How the pods find each other.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)",
     "message": "discovery.id can't be changed: make a new cache"}
]))]
pub struct Discovery {
    /// Value of the label `falcon-discovery-id` by which pods find each other. Default: the name of the cache. Can't be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
         "message": "an id has letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"}
    ]))]
    pub id: Option<String>,

    /// What is watched for it. Default `EndpointSlices`; `Endpoints` is for clusters without them and deprecated by Kubernetes.
    pub api: DiscoveryApi,
}

/// What the pods watch to find each other.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum DiscoveryApi {
    /// `discovery.k8s.io/v1` EndpointSlices.
    #[default]
    EndpointSlices,
    /// `v1` Endpoints.
    Endpoints,
}

/// How pods are replaced.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// How many pods may be away at once while a change is rolled out, as a number or a percentage. Default 1. More than 1 needs Kubernetes 1.35.
    #[schemars(schema_with = "schema::pods_or_percent")]
    pub max_unavailable: IntOrString,

    /// How long a leaving pod may take to finish what is in flight. Default `30s`. The pod's termination grace period is this plus 10 s.
    #[schemars(schema_with = "schema::seconds")]
    pub drain_timeout: String,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_unavailable: IntOrString::Int(1),
            drain_timeout: "30s".to_owned(),
        }
    }
}

/// The PodDisruptionBudget.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Disruption {
    /// Whether there is one. Default true.
    pub enabled: bool,

    /// How many pods a drain of nodes may take away at once, as a number or a percentage. Default 1.
    #[schemars(schema_with = "schema::pods_or_percent")]
    pub max_unavailable: IntOrString,
}

impl Default for Disruption {
    fn default() -> Self {
        Self {
            enabled: true,
            max_unavailable: IntOrString::Int(1),
        }
    }
}

/// The pods' logs.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub level: LogLevel,
    /// How it is written: `json` or `text`. Default `json`.
    pub format: LogFormat,
}

/// Least important message that is logged.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what may become one.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

/// Shape of a log line.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For human eyes.
    Text,
}
