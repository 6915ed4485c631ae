//! How a cache is reached: its Service, its S3 gateway, its NetworkPolicy and its monitor.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::schema;

/// The Service for applications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.port != self.s3Port",
     "message": "port and s3Port must differ"}
]))]
pub struct Service {
    /// `ClusterIP`, `NodePort` or `LoadBalancer`. Default `ClusterIP`.
    pub r#type: ServiceType,

    /// Annotations of the Service, such as those for load balancers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,

    /// Prefer pods near the client: `PreferSameZone` or `PreferSameNode` (Kubernetes 1.35), or `PreferClose` (older
    /// name of `PreferSameZone`). Default: no preference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<TrafficDistribution>,

    /// Port of the blob API. Default 8080.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// Port of the S3 gateway, if enabled. Default 9000.
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

/// Type of the Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside the cluster only.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Also reachable at a port of every node.
    NodePort,
    /// Also reachable through the cloud's load balancer.
    LoadBalancer,
}

/// Which pods are preferred for a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrafficDistribution {
    /// Those in the client's zone (older name).
    PreferClose,
    /// Those in the client's zone.
    PreferSameZone,
    /// Those on the client's node.
    PreferSameNode,
}

/// The S3 gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.auth != 'Keys' || has(self.accessSecretRef)",
     "message": "auth: Keys requires accessSecretRef"},
    {"rule": "self.auth == 'Keys' || !has(self.accessSecretRef)",
     "message": "accessSecretRef requires auth: Keys"}
]))]
pub struct S3 {
    /// Enable the S3 gateway. Default false.
    pub enabled: bool,

    /// Authentication: `Keys` requires requests signed with a key of the access file, `None` admits everyone who can
    /// reach the port. Default `None`.
    pub auth: S3Auth,

    /// Secret with the access file, under the key `access.yaml`. It defines who may do what, with a key at the S3
    /// gateway and with a token at the blob API: a list of `{name, accessKeyId, secretAccessKey, token, buckets,
    /// prefixes, verbs}`. It is reloaded when it changes. These keys are not those of the origin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_secret_ref: Option<AccessSecretRef>,

    /// Base domains for virtual-hosted-style requests (`BUCKET.DOMAIN`). Default: none, path-style requests only.
    /// Example: `[s3.example.com]`, with a DNS record for `*.s3.example.com`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self.all(d, d.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'))",
         "message": "a domain has lower case letters, digits, dots and hyphens, such as s3.example.com"}
    ]))]
    pub domains: Vec<String>,
}

/// Authentication at the S3 gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum S3Auth {
    /// None: everyone who can reach the port is admitted.
    #[default]
    None,
    /// Requests must be signed with a key of the access file.
    Keys,
}

/// Reference to the Secret with the access file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccessSecretRef {
    /// Name of a Secret in the namespace of the cache.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicy {
    /// Whether to create a NetworkPolicy. Default true. It admits the cache's own pods, the clients in `allowFrom`, and
    /// all pods to the metrics port.
    pub enabled: bool,

    /// Clients that may connect. Default: all pods in the cache's namespace. As in `networkpolicy.spec.ingress.from`.
    /// Example for all namespaces: `[{namespaceSelector: {}}]`.
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

/// PodMonitor or ServiceMonitor for the Prometheus Operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Monitoring {
    /// Whether to create a monitor, if the API `monitoring.coreos.com/v1` is available. Default true.
    pub enabled: bool,

    /// Kind of the monitor: `PodMonitor` or `ServiceMonitor`. Default `PodMonitor`.
    pub kind: MonitorKind,

    /// Scrape interval. Default `30s`.
    #[schemars(schema_with = "schema::seconds")]
    pub interval: String,

    /// Labels by which your Prometheus selects monitors. Example: `{release: prometheus}`.
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

/// Kind of the monitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MonitorKind {
    /// Selects the pods.
    #[default]
    PodMonitor,
    /// Selects the headless Service.
    ServiceMonitor,
}
