//! Size and freshness of the cache, discovery, rollout, disruption budget and logging.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema;

/// Size of the cache and freshness of its objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "quantity(self.memory).compareTo(quantity('64Mi')) >= 0",
     "message": "memory must be at least 64Mi"},
    {"rule": "quantity(self.blockSize).asInteger() in [65536, 131072, 262144, 524288, 1048576, 2097152, 4194304, 8388608, 16777216]",
     "message": "blockSize must be a power of two from 64Ki to 16Mi"},
    {"rule": "quantity(self.memory).asInteger() >= 16 * quantity(self.blockSize).asInteger()",
     "message": "memory must hold at least 16 blocks of blockSize"},
    {"rule": "!(self.readOnly && self.cacheOnWrite)",
     "message": "readOnly and cacheOnWrite exclude each other: nothing is uploaded through a read-only cache"}
]))]
pub struct Cache {
    /// Memory for cached objects in each pod. Default `1Gi`, at least `64Mi`. The pod's memory request and limit are
    /// derived from it: memory × 1.25 + 128Mi, for requests in flight, connections and the process itself. Example:
    /// `8Gi` gives pods of 10368Mi.
    #[schemars(schema_with = "schema::size")]
    pub memory: String,

    /// Size of the blocks in which objects are read and cached. Default `1Mi`; a power of two from `64Ki` to `16Mi`.
    /// Use smaller blocks for many small ranges, larger ones for streaming.
    #[schemars(schema_with = "schema::size")]
    pub block_size: String,

    /// Largest object that is cached; larger ones are served uncached. Default `128Mi`, in whole MiB. Example: `1Gi`.
    #[schemars(schema_with = "schema::size")]
    pub max_blob_size: String,

    /// Time to live: how long an object is served before it is revalidated with S3. Default `1h`, in whole minutes.
    /// `0s`: never revalidated.
    #[schemars(schema_with = "schema::minutes")]
    pub ttl: String,

    /// How long past its ttl an object may still be served while S3 is unavailable. Default `1h`, in whole minutes.
    /// `0s` disables this.
    #[schemars(schema_with = "schema::minutes")]
    pub stale_if_error: String,

    /// How long it is cached that an object does not exist. Default `2s`, at most `1h`. `0s` disables this.
    #[schemars(schema_with = "schema::duration")]
    pub negative_ttl: String,

    /// Timeout for the first byte of a response from S3. Default `5s`, at most `1h`. Example: `800ms`.
    #[schemars(schema_with = "schema::duration")]
    pub timeout: String,

    /// Settings that become flags of the cache as they are.
    #[serde(flatten)]
    pub flags: CacheFlags,
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
            flags: CacheFlags::default(),
        }
    }
}

/// Settings that become flags of the cache as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheFlags {
    /// Parallel reads from S3 for one large object. Default 16. More may use a fast network better; each takes memory
    /// while it runs.
    #[schemars(range(min = 1, max = 256))]
    pub parts_in_flight: i32,

    /// Share of the memory, in percent, reserved for replicas: copies of blocks that other pods own. Default 12.
    /// Replicas use more while memory is free. Raise it if all pods read the same few objects.
    #[schemars(range(min = 0, max = 90))]
    pub replica_share: i32,

    /// Refuse uploads and deletions. Default false.
    pub read_only: bool,

    /// Cache objects when they are uploaded through the cache, and not only when they are read. Default false.
    pub cache_on_write: bool,

    /// Maximum open connections of a pod, at each of its ports; further ones get 503 and are closed. Default 10000.
    #[schemars(range(min = 1))]
    pub max_connections: i32,
}

impl Default for CacheFlags {
    fn default() -> Self {
        Self {
            parts_in_flight: 16,
            replica_share: 12,
            read_only: false,
            cache_on_write: false,
            max_connections: 10_000,
        }
    }
}

/// How the pods discover each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)",
     "message": "discovery.id is immutable: create a new cache"}
]))]
pub struct Discovery {
    /// Value of the label `falcon-discovery-id`, by which the pods discover each other. Default: the name of the cache.
    /// Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
         "message": "an id has letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"}
    ]))]
    pub id: Option<String>,

    /// Kubernetes API used for discovery. Default `EndpointSlices`. `Endpoints` is deprecated by Kubernetes; use it
    /// only in clusters without EndpointSlices.
    pub api: DiscoveryApi,
}

/// Kubernetes API used for discovery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DiscoveryApi {
    /// `discovery.k8s.io/v1` EndpointSlices.
    #[default]
    EndpointSlices,
    /// `v1` Endpoints.
    Endpoints,
}

/// How a change is rolled out to the pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// How many pods may be unavailable during a rollout, as a number or a percentage. Default 1. More than 1 requires
    /// Kubernetes 1.35.
    #[schemars(schema_with = "schema::pods_or_percent")]
    pub max_unavailable: IntOrString,

    /// How long a terminating pod may take to finish requests in flight. Default `30s`. The pod's termination grace
    /// period is this plus 15 s.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Disruption {
    /// Whether to create a PodDisruptionBudget. Default true.
    pub enabled: bool,

    /// How many pods voluntary disruptions, such as node drains, may evict at once, as a number or a percentage.
    /// Default 1.
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

/// Logging of the pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// Log level: `error`, `warn`, `info`, `debug` or `trace`. Default `info`.
    pub level: LogLevel,
    /// Log format: `json` or `text`. Default `json`.
    pub format: LogFormat,
}

/// Log level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And details for debugging.
    Debug,
    /// Everything.
    Trace,
}

/// Log format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Human-readable text.
    Text,
}
