//! `FalconCache` → `Plan`: defaults filled in, values validated, risks noted.
//!
//! No later step reads the raw spec. Pure: no client, no clock. What the API server's schema rejects is rejected here
//! again, since an object may be older than the schema.

mod checks;
pub mod overrides;
pub mod units;
pub(crate) mod warnings;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, PodSecurityContext, PodTemplateSpec, Toleration,
};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use crate::crd::FalconCache;
use crate::crd::cache::{CacheFlags, DiscoveryApi, LogFormat, LogLevel};
use crate::crd::network::{MonitorKind, ServiceType, TrafficDistribution};
use crate::crd::origin;
use crate::crd::pod::{ImagePullPolicy, TopologySpread};

/// Defaults from the operator's flags.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Image of caches that don't set one.
    pub image: String,
}

/// Why a spec is invalid. The user has to change it; retrying is useless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Error {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A cache with all values resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which object this is.
    pub identity: Identity,
    /// Number of pods.
    pub replicas: i32,
    /// Reconciling is paused.
    pub paused: bool,
    /// The S3 service that the cache reads from.
    pub origin: OriginPlan,
    /// Service account of the pods.
    pub account: AccountPlan,
    /// Memory, in the units of the cache's flags.
    pub memory: Memory,
    /// Freshness of objects.
    pub freshness: Freshness,
    /// Settings that become flags of the cache as they are.
    pub flags: CacheFlags,
    /// Value of the label `falcon-discovery-id`.
    pub discovery_id: String,
    /// Kubernetes API used for discovery.
    pub discovery_api: DiscoveryApi,
    /// The Service for applications.
    pub service: ServicePlan,
    /// The S3 gateway, if enabled.
    pub s3: Option<S3Gateway>,
    /// Image and pull policy.
    pub image: Image,
    /// The pods.
    pub pod: PodPlan,
    /// Pods that may be unavailable during a rollout.
    pub max_unavailable: IntOrString,
    /// Time to finish requests in flight.
    pub drain: Duration,
    /// The disruption budget's `maxUnavailable`; none: no budget.
    pub disruption: Option<IntOrString>,
    /// Clients that may connect; none: no NetworkPolicy.
    pub allow_from: Option<Vec<NetworkPolicyPeer>>,
    /// The monitor; none: no monitor.
    pub monitor: Option<Monitor>,
    /// Log level.
    pub log_level: LogLevel,
    /// Log format.
    pub log_format: LogFormat,
    /// Risky values, for the condition `ConfigurationWarning`.
    pub warnings: Vec<String>,
}

/// Identity of a FalconCache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
}

impl Identity {
    /// Read from an object of the API server.
    pub fn from_object<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
        }
    }
}

/// The S3 service that the cache reads from.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginPlan {
    /// Buckets; the first is the default.
    pub buckets: Vec<String>,
    /// URL; none: Amazon S3.
    pub endpoint: Option<String>,
    /// Region, if given.
    pub region: Option<String>,
    /// `endpoint/bucket/key`.
    pub force_path_style: bool,
    /// Credentials; none: the service account's identity.
    pub credentials: Option<origin::CredentialsSecretRef>,
    /// CA certificates for the endpoint.
    pub ca_bundle: Option<CaBundle>,
}

/// Source of the CA certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaBundle {
    /// In a key of a ConfigMap.
    ConfigMap {
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// In a key of a Secret.
    Secret {
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
}

/// Service account of the pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountPlan {
    /// Created by the operator, with these annotations.
    Own(BTreeMap<String, String>),
    /// An existing one.
    Existing(String),
}

/// Memory of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Budget of the cache, MiB.
    pub cache_mib: i64,
    /// Request and limit of the container, MiB.
    pub pod_mib: i64,
    /// Size of a block, KiB.
    pub block_kib: i64,
    /// Largest object that is cached, MiB.
    pub max_blob_mib: i64,
}

/// Freshness of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Until an object is revalidated; zero: never.
    pub ttl: Duration,
    /// How long past its ttl an object is served while S3 fails.
    pub stale_if_error: Duration,
    /// How long it is cached that an object does not exist.
    pub negative_ttl: Duration,
    /// Timeout for S3's first byte.
    pub timeout: Duration,
}

/// The Service for applications.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePlan {
    /// Its type.
    pub kind: ServiceType,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Which pods are preferred.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Port of the blob API.
    pub port: i32,
}

/// The S3 gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Gateway {
    /// Port of the Service.
    pub port: i32,
    /// Secret with the access file; none: no authentication.
    pub access_secret: Option<String>,
    /// Base domains for virtual-hosted-style requests.
    pub domains: Vec<String>,
}

/// Image of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name with tag or digest.
    pub name: String,
    /// Pull policy.
    pub pull_policy: Option<ImagePullPolicy>,
    /// Names of Secrets with registry credentials.
    pub pull_secrets: Vec<String>,
}

impl Image {
    /// The tag, or the beginning of the digest.
    pub fn version(&self) -> &str {
        let last = self.name.rsplit('/').next().unwrap_or_default();
        match (last.split_once('@'), last.split_once(':')) {
            (Some((_, digest)), _) => &digest[..digest.len().min(19)],
            (None, Some((_, tag))) => tag,
            (None, None) => "latest",
        }
    }
}

/// The pods.
#[derive(Debug, Clone, PartialEq)]
pub struct PodPlan {
    /// Additional labels.
    pub labels: BTreeMap<String, String>,
    /// Additional annotations.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Affinity.
    pub affinity: Option<Affinity>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Spread over zones and nodes.
    pub spread: TopologySpread,
    /// Priority class.
    pub priority_class: Option<String>,
    /// CPU request, in millicores.
    pub cpu_request: Option<i64>,
    /// CPU limit, in millicores.
    pub cpu_limit: Option<i64>,
    /// Environment of the container.
    pub env: Vec<EnvVar>,
    /// Merged over the default context.
    pub security_context: Option<PodSecurityContext>,
    /// Merged over the template at the end.
    pub overrides: Option<PodTemplateSpec>,
}

/// A PodMonitor or ServiceMonitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// Its kind.
    pub kind: MonitorKind,
    /// Scrape interval.
    pub interval: Duration,
    /// Additional labels.
    pub labels: BTreeMap<String, String>,
}

/// Resolves and validates a spec.
pub fn plan(cache: &FalconCache, defaults: &Defaults) -> Result<Plan, Error> {
    let spec = &cache.spec;
    let mut plan = Plan {
        identity: checks::identity(cache)?,
        replicas: checks::within("spec.replicas", spec.replicas, 0, 500)?,
        paused: spec.paused,
        origin: checks::origin(&spec.origin)?,
        account: checks::account(&spec.origin)?,
        memory: checks::memory(&spec.cache)?,
        freshness: checks::freshness(&spec.cache)?,
        flags: checks::flags(&spec.cache.flags)?,
        discovery_id: spec
            .discovery
            .id
            .clone()
            .unwrap_or_else(|| cache.name_any()),
        discovery_api: spec.discovery.api,
        service: ServicePlan {
            kind: spec.service.r#type,
            annotations: spec.service.annotations.clone(),
            traffic_distribution: spec.service.traffic_distribution,
            port: checks::within("spec.service.port", spec.service.port, 1, 65_535)?,
        },
        s3: checks::s3(&spec.s3, &spec.service)?,
        image: Image {
            name: spec.image.clone().unwrap_or_else(|| defaults.image.clone()),
            pull_policy: spec.image_pull_policy,
            pull_secrets: spec
                .image_pull_secrets
                .iter()
                .map(|secret| secret.name.clone())
                .collect(),
        },
        pod: checks::pod(&spec.pod)?,
        max_unavailable: checks::pods_or_percent(
            "spec.rollout.maxUnavailable",
            &spec.rollout.max_unavailable,
        )?,
        drain: checks::drain(&spec.rollout.drain_timeout)?,
        disruption: match &spec.disruption {
            budget if budget.enabled => Some(checks::pods_or_percent(
                "spec.disruption.maxUnavailable",
                &budget.max_unavailable,
            )?),
            _ => None,
        },
        allow_from: spec
            .network_policy
            .enabled
            .then(|| spec.network_policy.allow_from.clone()),
        monitor: checks::monitor(&spec.monitoring)?,
        log_level: spec.logging.level,
        log_format: spec.logging.format,
        warnings: Vec::new(),
    };
    plan.warnings = warnings::find(&plan);
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cache(spec: &Value) -> FalconCache {
        serde_json::from_value(json!({
            "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
            "metadata": {"name": "media", "namespace": "prod", "uid": "u1", "generation": 4},
            "spec": spec
        }))
        .unwrap()
    }

    fn planned(spec: &Value) -> Result<Plan, Error> {
        plan(
            &cache(spec),
            &Defaults {
                image: "registry/falcon-cache:0.1.0".to_owned(),
            },
        )
    }

    #[test]
    fn the_shortest_spec_gets_every_default() {
        let plan = planned(&json!({"origin": {"buckets": ["media"]}})).unwrap();
        assert_eq!(plan.replicas, 3);
        assert_eq!(plan.discovery_id, "media");
        assert_eq!(
            plan.memory,
            Memory {
                cache_mib: 1024,
                pod_mib: 1408,
                block_kib: 1024,
                max_blob_mib: 128
            }
        );
        assert_eq!(plan.freshness.ttl, Duration::from_hours(1));
        assert_eq!(plan.account, AccountPlan::Own(BTreeMap::new()));
        assert_eq!(plan.image.version(), "0.1.0");
        assert!(!plan.origin.force_path_style && plan.s3.is_none() && plan.monitor.is_some());
        assert_eq!(plan.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_custom_endpoint_implies_path_style() {
        let plan =
            planned(&json!({"origin": {"buckets": ["media"], "endpoint": "http://minio:9000/"}}))
                .unwrap();
        assert!(plan.origin.force_path_style);
        assert_eq!(plan.origin.endpoint.as_deref(), Some("http://minio:9000"));
        assert!(!planned(&json!({"origin": {"buckets": ["media"], "endpoint": "http://x", "forcePathStyle": false}})).unwrap().origin.force_path_style);
    }

    /// What is merged over a plain spec, and the field that is then named.
    const MISTAKES: [(&str, &str); 29] = [
        ("cache: {partsInFlight: 0}", "spec.cache.partsInFlight"),
        ("cache: {replicaShare: 91}", "spec.cache.replicaShare"),
        (
            "cache: {readOnly: true, cacheOnWrite: true}",
            "spec.cache.cacheOnWrite",
        ),
        ("s3: {domains: ['a,b']}", "spec.s3.domains"),
        ("origin: {buckets: []}", "spec.origin.buckets"),
        ("origin: {buckets: ['a,b']}", "spec.origin.buckets"),
        (
            "origin: {buckets: [a], endpoint: 'ftp://x'}",
            "spec.origin.endpoint",
        ),
        (
            "origin: {buckets: [a], caBundleRef: {}}",
            "spec.origin.caBundleRef",
        ),
        (
            "origin: {buckets: [a], serviceAccountName: a, serviceAccountAnnotations: {b: c}}",
            "spec.origin.serviceAccountAnnotations",
        ),
        ("replicas: -1", "spec.replicas"),
        ("cache: {memory: 1e99Gi}", "spec.cache.memory"),
        ("cache: {memory: 63Mi}", "spec.cache.memory"),
        ("cache: {memory: 64Mi, blockSize: 8Mi}", "spec.cache.memory"),
        ("cache: {blockSize: 32Ki}", "spec.cache.blockSize"),
        ("cache: {blockSize: 96Ki}", "spec.cache.blockSize"),
        ("cache: {maxBlobSize: 1k}", "spec.cache.maxBlobSize"),
        ("cache: {ttl: 90s}", "spec.cache.ttl"),
        ("cache: {timeout: 0s}", "spec.cache.timeout"),
        ("cache: {negativeTtl: 2h}", "spec.cache.negativeTtl"),
        ("service: {port: 9000}", "spec.service.s3Port"),
        ("service: {port: 70000}", "spec.service.port"),
        ("s3: {auth: Keys}", "spec.s3.accessSecretRef"),
        (
            "rollout: {maxUnavailable: 0}",
            "spec.rollout.maxUnavailable",
        ),
        (
            "rollout: {maxUnavailable: half}",
            "spec.rollout.maxUnavailable",
        ),
        (
            "rollout: {drainTimeout: 500ms}",
            "spec.rollout.drainTimeout",
        ),
        ("rollout: {drainTimeout: 25h}", "spec.rollout.drainTimeout"),
        (
            "disruption: {maxUnavailable: 0%}",
            "spec.disruption.maxUnavailable",
        ),
        (
            "pod: {resources: {cpuRequest: 2, cpuLimit: 1}}",
            "spec.pod.resources.cpuLimit",
        ),
        (
            "pod: {overrides: {spec: {nope: 1}}}",
            "spec.pod.overrides.spec.nope",
        ),
    ];

    #[test]
    fn each_mistake_names_its_field() {
        for (text, field) in MISTAKES {
            let mut spec = json!({"origin": {"buckets": ["media"]}});
            let laid_over: Value = serde_yaml::from_str(text).unwrap();
            spec.as_object_mut()
                .unwrap()
                .extend(laid_over.as_object().unwrap().clone());
            assert_eq!(
                planned(&spec).map(|_| ()).unwrap_err().field,
                field,
                "{text}"
            );
        }
    }

    #[test]
    fn a_name_too_long_for_its_children_is_refused() {
        for name in [
            "a".repeat(51),
            "Media".to_owned(),
            "9media".to_owned(),
            "a.b".to_owned(),
            "a-".to_owned(),
        ] {
            let mut object = cache(&json!({"origin": {"buckets": ["media"]}}));
            object.metadata.name = Some(name);
            assert_eq!(
                plan(
                    &object,
                    &Defaults {
                        image: "i:1".to_owned()
                    }
                )
                .unwrap_err()
                .field,
                "metadata.name"
            );
        }
    }

    #[test]
    fn risky_but_allowed_values_are_noted_and_not_refused() {
        let plan = planned(&json!({
            "replicas": 1, "image": "falcon-cache", "origin": {"buckets": ["media"]}, "cache": {"ttl": "0s", "maxBlobSize": "1Gi"},
            "s3": {"enabled": true}, "networkPolicy": {"enabled": false}, "discovery": {"api": "Endpoints"},
            "pod": {"env": [{"name": "FALCON_TTL", "value": "1"}, {"name": "FALCON_LISTEN", "value": "::"}, {"name": "FALCON_PORT", "value": "80"}, {"name": "TZ", "value": "UTC"}],
                    "overrides": {"spec": {"terminationGracePeriodSeconds": 1}}}
        }))
        .unwrap();
        assert_eq!(plan.warnings.len(), 11, "{:?}", plan.warnings);
        for text in [
            "pod.env sets FALCON_TTL: use cache.ttl, which takes precedence",
            "pod.env sets FALCON_PORT, which has no effect: the operator sets this flag",
            "pod.env sets FALCON_LISTEN: the operator does not check what it does",
        ] {
            assert!(
                plan.warnings.iter().any(|warning| warning == text),
                "{text}"
            );
        }
    }

    #[test]
    fn an_images_version_is_its_tag_or_digest() {
        for (name, version) in [
            ("a/b:1.2", "1.2"),
            ("host:5000/b", "latest"),
            ("a/b@sha256:0123456789abcdef0123", "sha256:0123456789ab"),
        ] {
            assert_eq!(
                Image {
                    name: name.to_owned(),
                    pull_policy: None,
                    pull_secrets: vec![]
                }
                .version(),
                version
            );
        }
    }
}
