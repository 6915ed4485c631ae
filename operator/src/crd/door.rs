//! How a cache is reached: its Service, its S3 door, who may connect, and who watches it.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema;

/// The Service that applications read from.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.port != self.s3Port",
     "message": "port and s3Port must differ"}
]))]
pub struct Service {
    /// `ClusterIP`, `NodePort` or `LoadBalancer`. Default `ClusterIP`.
    pub r#type: ServiceType,

    /// Annotations of the Service, for load balancers and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,

    /// Prefer pods near the client: `PreferSameZone` or `PreferSameNode` (Kubernetes 1.35), `PreferClose` (the older name of the first). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<TrafficDistribution>,

    /// Port of the blob API. Default 8080.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// Port of the S3 door, when that is enabled. Default 9000.
    #[schemars(range(min = 1, max = 65535))]
    pub s3_port: i32,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            r#type: ServiceType::default(),
            annotations: BTreeMap::new(),
            traffic_distribution: None,
            port: 8080,
            s3_port: 9000,
        }
    }
}

/// How the Service is published.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum ServiceType {
    /// Inside the cluster only.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// And at a port of every node.
    NodePort,
    /// And behind the cloud's load balancer.
    LoadBalancer,
}

/// Which pods a client's connection goes to first.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TrafficDistribution {
    /// Those of the client's zone, by the older name.
    PreferClose,
    /// Those of the client's zone.
    PreferSameZone,
    /// Those of the client's node.
    PreferSameNode,
}

/// The S3 door.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.auth != 'Keys' || has(self.accessSecretRef)",
     "message": "auth: Keys needs accessSecretRef"},
    {"rule": "self.auth == 'Keys' || !has(self.accessSecretRef)",
     "message": "accessSecretRef is for auth: Keys"}
]))]
pub struct S3 {
    /// Whether the door is open. Default false.
    pub enabled: bool,

    /// Who may enter: `Keys` lets in whoever signs with a key of the access file, `None` everybody that can reach the port. Default `None`.
    pub auth: S3Auth,

    /// Secret whose entry `access.yaml` says who may do what, at the S3 door with a key and at the blob API with a token: a list of
    /// `{name, accessKeyId, secretAccessKey, token, buckets, prefixes, verbs}`. Read again when it changes. They are not the origin's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_secret_ref: Option<AccessSecretRef>,
}

/// Who may enter through the S3 door.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum S3Auth {
    /// Everybody that can reach the port.
    #[default]
    None,
    /// Whoever signs with a key of the access file.
    Keys,
}

/// A Secret, by name.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AccessSecretRef {
    /// Name of a Secret in the namespace of the cache.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The NetworkPolicy.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Whether there is one. Default true. It lets the cache's pods talk to each other, `allowFrom` read, and the cluster's pods scrape metrics.
    pub enabled: bool,

    /// Who may read through the cache. Default: all pods of the cache's namespace. As in `networkpolicy.spec.ingress.from`.
    /// Example, every namespace: `[{namespaceSelector: {}}]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::plain::<Vec<NetworkPolicyPeer>>")]
    pub allow_from: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            allow_from: Vec::new(),
        }
    }
}

/// Objects for the Prometheus operator.
#[derive(JsonSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Monitoring {
    /// Whether one is made, where the API `monitoring.coreos.com/v1` is served. Default true.
    pub enabled: bool,

    /// Which: `PodMonitor` or `ServiceMonitor`. Default `PodMonitor`.
    pub kind: MonitorKind,

    /// How often Prometheus reads. Default `30s`.
    #[schemars(schema_with = "schema::seconds")]
    pub interval: String,

    /// Labels by which your Prometheus picks its monitors. Example: `{release: prometheus}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            enabled: true,
            kind: MonitorKind::default(),
            interval: "30s".to_owned(),
            labels: BTreeMap::new(),
        }
    }
}

/// Kind of the object that tells Prometheus where to read.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum MonitorKind {
    /// Finds the pods themselves.
    #[default]
    PodMonitor,
    /// Finds them through the headless Service.
    ServiceMonitor,
}
