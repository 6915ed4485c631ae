//! `FalconCache` → `Plan`: defaults filled in, mistakes refused, risks noted.
//!
//! After this nobody reads the raw spec. Pure: no client, no clock. What the API server's schema refuses is refused here again, since an object may be
//! older than the schema.

pub mod overrides;
pub mod units;
mod warnings;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, PodSecurityContext, PodTemplateSpec, Toleration,
};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::crd::FalconCache;
use crate::crd::cache::{DiscoveryApi, LogFormat, LogLevel};
use crate::crd::door::{self, MonitorKind, S3Auth, ServiceType, TrafficDistribution};
use crate::crd::origin;
use crate::crd::pod::{ImagePullPolicy, TopologySpread};
use crate::plan::units::MIB;

/// What the operator's own flags decide.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Image for caches that name none.
    pub image: String,
}

/// Why a spec can't be carried out. The user has to change it; trying again is no use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Error {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A cache as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which object this is.
    pub identity: Identity,
    /// Number of pods.
    pub replicas: i32,
    /// Nothing may be changed.
    pub paused: bool,
    /// The S3 behind.
    pub origin: Origin,
    /// Identity of the pods.
    pub account: Account,
    /// Memory, in the units of the cache's flags.
    pub memory: Memory,
    /// How long things stay.
    pub freshness: Freshness,
    /// Value of the label `falcon-discovery-id`.
    pub discovery_id: String,
    /// What the pods watch.
    pub discovery_api: DiscoveryApi,
    /// The Service for applications.
    pub service: Service,
    /// The S3 door, if it is open.
    pub s3: Option<S3Door>,
    /// Image and how it is pulled.
    pub image: Image,
    /// The pods.
    pub pod: Pod,
    /// Pods that may be away during a rollout.
    pub max_unavailable: IntOrString,
    /// Time to finish what is in flight.
    pub drain: Duration,
    /// The disruption budget's `maxUnavailable`; none: no budget.
    pub disruption: Option<IntOrString>,
    /// Who may read; none: no policy.
    pub allow_from: Option<Vec<NetworkPolicyPeer>>,
    /// Which monitor; none: no monitor.
    pub monitor: Option<Monitor>,
    /// Least important message that is logged.
    pub log_level: LogLevel,
    /// Shape of a log line.
    pub log_format: LogFormat,
    /// Allowed, but perhaps not meant.
    pub warnings: Vec<String>,
}

/// Which object a plan is for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
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
    pub fn of(cache: &FalconCache) -> Self {
        Self {
            name: cache.name_any(),
            namespace: cache.namespace().unwrap_or_default(),
            uid: cache.uid().unwrap_or_default(),
            generation: cache.metadata.generation.unwrap_or_default(),
        }
    }
}

/// The S3 behind the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Buckets; the first is the default.
    pub buckets: Vec<String>,
    /// URL, if it is not Amazon's.
    pub endpoint: Option<String>,
    /// Region, if given.
    pub region: Option<String>,
    /// `endpoint/bucket/key`.
    pub force_path_style: bool,
    /// Keys, if not the pods' identity.
    pub credentials: Option<origin::CredentialsSecretRef>,
    /// Certificates for the endpoint.
    pub ca_bundle: Option<CaBundle>,
}

/// Where CA certificates are.
#[derive(Clone, Debug, Eq, PartialEq)]
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
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Account {
    /// Made by the operator, with these annotations.
    Own(BTreeMap<String, String>),
    /// The user's.
    Theirs(String),
}

/// Memory of one pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory {
    /// Budget of the cache, MiB.
    pub cache_mib: i64,
    /// Request and limit of the container, MiB.
    pub pod_mib: i64,
    /// Size of a block, KiB.
    pub block_kib: i64,
    /// Largest object that is kept, MiB.
    pub max_blob_mib: i64,
}

/// How long things stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Freshness {
    /// Until S3 is asked again; zero: never.
    pub ttl: Duration,
    /// Grace while S3 fails.
    pub stale_if_error: Duration,
    /// Memory of absence.
    pub negative_ttl: Duration,
    /// Patience for S3's first byte.
    pub timeout: Duration,
}

/// The Service for applications.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// How it is published.
    pub kind: ServiceType,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Which pods are preferred.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Port of the blob API.
    pub port: i32,
}

/// The open S3 door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct S3Door {
    /// Port of the Service.
    pub port: i32,
    /// Secret with the door's keys; none: everybody may enter.
    pub keys_secret: Option<String>,
}

/// Image of the cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Image {
    /// Name with tag or digest.
    pub name: String,
    /// When it is pulled.
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
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Added labels.
    pub labels: BTreeMap<String, String>,
    /// Added annotations.
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
    /// CPU kept, in thousandths.
    pub cpu_request: Option<i64>,
    /// CPU allowed, in thousandths.
    pub cpu_limit: Option<i64>,
    /// Environment of the container.
    pub env: Vec<EnvVar>,
    /// Laid over the default context.
    pub security_context: Option<PodSecurityContext>,
    /// Laid over the template at the end.
    pub overrides: Option<PodTemplateSpec>,
}

/// What tells Prometheus where to read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Monitor {
    /// Its kind.
    pub kind: MonitorKind,
    /// How often.
    pub interval: Duration,
    /// Added labels.
    pub labels: BTreeMap<String, String>,
}

/// Reads a spec once and for all.
pub fn plan(cache: &FalconCache, defaults: &Defaults) -> Result<Plan, Error> {
    let spec = &cache.spec;
    let mut plan = Plan {
        identity: identity(cache)?,
        replicas: within("spec.replicas", spec.replicas, 0, 500)?,
        paused: spec.paused,
        origin: origin(&spec.origin)?,
        account: account(&spec.origin)?,
        memory: memory(&spec.cache)?,
        freshness: freshness(&spec.cache)?,
        discovery_id: spec
            .discovery
            .id
            .clone()
            .unwrap_or_else(|| cache.name_any()),
        discovery_api: spec.discovery.api,
        service: Service {
            kind: spec.service.r#type,
            annotations: spec.service.annotations.clone(),
            traffic_distribution: spec.service.traffic_distribution,
            port: within("spec.service.port", spec.service.port, 1, 65_535)?,
        },
        s3: s3(&spec.s3, &spec.service)?,
        image: Image {
            name: spec.image.clone().unwrap_or_else(|| defaults.image.clone()),
            pull_policy: spec.image_pull_policy,
            pull_secrets: spec
                .image_pull_secrets
                .iter()
                .map(|secret| secret.name.clone())
                .collect(),
        },
        pod: pod(&spec.pod)?,
        max_unavailable: pods_or_percent(
            "spec.rollout.maxUnavailable",
            &spec.rollout.max_unavailable,
        )?,
        drain: drain(&spec.rollout.drain_timeout)?,
        disruption: match &spec.disruption {
            budget if budget.enabled => Some(pods_or_percent(
                "spec.disruption.maxUnavailable",
                &budget.max_unavailable,
            )?),
            _ => None,
        },
        allow_from: spec
            .network_policy
            .enabled
            .then(|| spec.network_policy.allow_from.clone()),
        monitor: monitor(&spec.monitoring)?,
        log_level: spec.logging.level,
        log_format: spec.logging.format,
        warnings: Vec::new(),
    };
    plan.warnings = warnings::of(&plan);
    Ok(plan)
}

fn identity(cache: &FalconCache) -> Result<Identity, Error> {
    let identity = Identity::of(cache);
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = &identity.name;
    if name.len() > 50
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || name.ends_with('-')
        || !name.chars().all(allowed)
    {
        return Err(wrong(
            "metadata.name",
            "at most 50 lower case letters, digits and hyphens, beginning with a letter",
        ));
    }
    Ok(identity)
}

fn origin(spec: &origin::Origin) -> Result<Origin, Error> {
    if spec.buckets.is_empty()
        || spec
            .buckets
            .iter()
            .any(|bucket| bucket.is_empty() || bucket.contains([',', '/', ' ']))
    {
        return Err(wrong(
            "spec.origin.buckets",
            "at least one bucket, each a bucket's name",
        ));
    }
    let endpoint = spec
        .endpoint
        .as_ref()
        .map(|url| url.trim_end_matches('/').to_owned());
    if endpoint
        .as_ref()
        .is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
    {
        return Err(wrong(
            "spec.origin.endpoint",
            "begins with http:// or https://",
        ));
    }
    let ca_bundle = match &spec.ca_bundle_ref {
        None => None,
        Some(reference) => Some(
            match (
                reference.config_map_name.clone(),
                reference.secret_name.clone(),
            ) {
                (Some(name), None) => CaBundle::ConfigMap {
                    name,
                    key: reference.key.clone(),
                },
                (None, Some(name)) => CaBundle::Secret {
                    name,
                    key: reference.key.clone(),
                },
                _ => {
                    return Err(wrong(
                        "spec.origin.caBundleRef",
                        "give either configMapName or secretName",
                    ));
                }
            },
        ),
    };
    Ok(Origin {
        buckets: spec.buckets.clone(),
        force_path_style: spec.force_path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        region: spec.region.clone(),
        credentials: spec.credentials_secret_ref.clone(),
        ca_bundle,
    })
}

fn account(spec: &origin::Origin) -> Result<Account, Error> {
    match &spec.service_account_name {
        None => Ok(Account::Own(spec.service_account_annotations.clone())),
        Some(name) if spec.service_account_annotations.is_empty() => {
            Ok(Account::Theirs(name.clone()))
        }
        Some(_) => Err(wrong(
            "spec.origin.serviceAccountAnnotations",
            "are for the account that the operator makes, and serviceAccountName names another",
        )),
    }
}

fn memory(spec: &crate::crd::cache::Cache) -> Result<Memory, Error> {
    let bytes = units::size("spec.cache.memory", &spec.memory)?;
    let block = units::size("spec.cache.blockSize", &spec.block_size)?;
    if bytes < 64 * MIB {
        return Err(wrong("spec.cache.memory", "must be at least 64Mi"));
    }
    if !(64 * 1024..=16 * MIB).contains(&block) || block.count_ones() != 1 {
        return Err(wrong(
            "spec.cache.blockSize",
            "a power of two from 64Ki to 16Mi",
        ));
    }
    if bytes / 16 < block {
        return Err(wrong(
            "spec.cache.memory",
            "must hold at least 16 blocks of blockSize",
        ));
    }
    let max_blob_mib = units::size("spec.cache.maxBlobSize", &spec.max_blob_size)? / MIB;
    if max_blob_mib == 0 {
        return Err(wrong("spec.cache.maxBlobSize", "must be at least 1Mi"));
    }
    let cache_mib = bytes / MIB;
    Ok(Memory {
        cache_mib,
        pod_mib: pod_mib(cache_mib),
        block_kib: block / 1024,
        max_blob_mib,
    })
}

/// The rule for a pod's memory: a quarter more than the cache's budget, for fills and bodies in flight and what the allocator can't give back, and 128 MiB
/// for connections and the program itself.
fn pod_mib(cache_mib: i64) -> i64 {
    cache_mib
        .saturating_add(cache_mib.saturating_add(3) / 4)
        .saturating_add(128)
}

fn freshness(spec: &crate::crd::cache::Cache) -> Result<Freshness, Error> {
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const MILLISECOND: Duration = Duration::from_millis(1);
    // What the cache's flags take: a hundred years, and an hour.
    const CENTURY: Duration = Duration::from_secs(52_560_000 * 60);
    let bounded = |field: &str, text: &str, step, most: Duration| {
        let found = units::whole(field, text, step)?;
        if found > most {
            Err(wrong(field, "is too long"))
        } else {
            Ok(found)
        }
    };
    let timeout = bounded("spec.cache.timeout", &spec.timeout, MILLISECOND, HOUR)?;
    if timeout.is_zero() {
        return Err(wrong("spec.cache.timeout", "must be longer than nothing"));
    }
    Ok(Freshness {
        ttl: bounded("spec.cache.ttl", &spec.ttl, MINUTE, CENTURY)?,
        stale_if_error: bounded(
            "spec.cache.staleIfError",
            &spec.stale_if_error,
            MINUTE,
            CENTURY,
        )?,
        negative_ttl: bounded(
            "spec.cache.negativeTtl",
            &spec.negative_ttl,
            MILLISECOND,
            HOUR,
        )?,
        timeout,
    })
}

fn drain(text: &str) -> Result<Duration, Error> {
    const FIELD: &str = "spec.rollout.drainTimeout";
    let drain = units::whole(FIELD, text, Duration::from_secs(1))?;
    if drain > Duration::from_secs(86_400) {
        Err(wrong(FIELD, "must be at most 24h"))
    } else {
        Ok(drain)
    }
}

fn s3(spec: &door::S3, service: &door::Service) -> Result<Option<S3Door>, Error> {
    let port = within("spec.service.s3Port", service.s3_port, 1, 65_535)?;
    if port == service.port {
        return Err(wrong("spec.service.s3Port", "must differ from port"));
    }
    let keys_secret = match (spec.auth, &spec.keys_secret_ref) {
        (S3Auth::Keys, Some(secret)) => Some(secret.name.clone()),
        (S3Auth::None, None) => None,
        (S3Auth::Keys, None) => {
            return Err(wrong("spec.s3.keysSecretRef", "is needed for auth: Keys"));
        }
        (S3Auth::None, Some(_)) => return Err(wrong("spec.s3.keysSecretRef", "is for auth: Keys")),
    };
    Ok(spec.enabled.then_some(S3Door { port, keys_secret }))
}

fn pod(spec: &crate::crd::pod::Pod) -> Result<Pod, Error> {
    let cpu_request = spec
        .resources
        .cpu_request
        .as_ref()
        .map(|cpu| units::millicores("spec.pod.resources.cpuRequest", cpu))
        .transpose()?;
    let cpu_limit = spec
        .resources
        .cpu_limit
        .as_ref()
        .map(|cpu| units::millicores("spec.pod.resources.cpuLimit", cpu))
        .transpose()?;
    if let (Some(request), Some(limit)) = (cpu_request, cpu_limit)
        && request > limit
    {
        return Err(wrong(
            "spec.pod.resources.cpuLimit",
            "is less than cpuRequest",
        ));
    }
    Ok(Pod {
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        node_selector: spec.node_selector.clone(),
        affinity: spec.affinity.clone(),
        tolerations: spec.tolerations.clone(),
        spread: spec.topology_spread.clone(),
        priority_class: spec.priority_class_name.clone(),
        cpu_request,
        cpu_limit,
        env: spec.env.clone(),
        security_context: spec.security_context.clone(),
        overrides: spec.overrides.as_ref().map(overrides::read).transpose()?,
    })
}

fn monitor(spec: &door::Monitoring) -> Result<Option<Monitor>, Error> {
    let interval = units::whole(
        "spec.monitoring.interval",
        &spec.interval,
        Duration::from_secs(1),
    )?;
    Ok(spec.enabled.then(|| Monitor {
        kind: spec.kind,
        interval,
        labels: spec.labels.clone(),
    }))
}

fn pods_or_percent(field: &str, value: &IntOrString) -> Result<IntOrString, Error> {
    let fine = match value {
        IntOrString::Int(pods) => *pods >= 1,
        IntOrString::String(text) => text
            .strip_suffix('%')
            .and_then(|number| number.parse::<u8>().ok())
            .is_some_and(|percent| (1..=100).contains(&percent)),
    };
    if fine {
        Ok(value.clone())
    } else {
        Err(wrong(
            field,
            "a number of pods (1 or more) or a percentage from 1% to 100%",
        ))
    }
}

fn within(field: &str, value: i32, least: i32, most: i32) -> Result<i32, Error> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(wrong(field, &format!("must be between {least} and {most}")))
    }
}

fn wrong(field: &str, problem: &str) -> Error {
    Error {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
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
        assert_eq!(plan.freshness.ttl, Duration::from_secs(3600));
        assert_eq!(plan.account, Account::Own(BTreeMap::new()));
        assert_eq!(plan.image.version(), "0.1.0");
        assert!(!plan.origin.force_path_style && plan.s3.is_none() && plan.monitor.is_some());
        assert_eq!(plan.warnings, Vec::<String>::new());
    }

    #[test]
    fn an_endpoint_of_ones_own_means_path_style() {
        let plan =
            planned(&json!({"origin": {"buckets": ["media"], "endpoint": "http://minio:9000/"}}))
                .unwrap();
        assert!(plan.origin.force_path_style);
        assert_eq!(plan.origin.endpoint.as_deref(), Some("http://minio:9000"));
        assert!(!planned(&json!({"origin": {"buckets": ["media"], "endpoint": "http://x", "forcePathStyle": false}})).unwrap().origin.force_path_style);
    }

    #[test]
    fn each_mistake_names_its_field() {
        let origin = json!({"buckets": ["media"]});
        for (spec, field) in [
            (json!({"origin": {"buckets": []}}), "spec.origin.buckets"),
            (
                json!({"origin": {"buckets": ["a,b"]}}),
                "spec.origin.buckets",
            ),
            (
                json!({"origin": {"buckets": ["media"], "endpoint": "ftp://x"}}),
                "spec.origin.endpoint",
            ),
            (
                json!({"origin": {"buckets": ["media"], "caBundleRef": {}}}),
                "spec.origin.caBundleRef",
            ),
            (
                json!({"origin": {"buckets": ["media"], "serviceAccountName": "a", "serviceAccountAnnotations": {"b": "c"}}}),
                "spec.origin.serviceAccountAnnotations",
            ),
            (json!({"origin": origin, "replicas": -1}), "spec.replicas"),
            (
                json!({"origin": origin, "cache": {"memory": "1e99Gi"}}),
                "spec.cache.memory",
            ),
            (
                json!({"origin": origin, "cache": {"memory": "63Mi"}}),
                "spec.cache.memory",
            ),
            (
                json!({"origin": origin, "cache": {"memory": "64Mi", "blockSize": "8Mi"}}),
                "spec.cache.memory",
            ),
            (
                json!({"origin": origin, "cache": {"blockSize": "32Ki"}}),
                "spec.cache.blockSize",
            ),
            (
                json!({"origin": origin, "cache": {"blockSize": "96Ki"}}),
                "spec.cache.blockSize",
            ),
            (
                json!({"origin": origin, "cache": {"negativeTtl": "2h"}}),
                "spec.cache.negativeTtl",
            ),
            (
                json!({"origin": origin, "rollout": {"drainTimeout": "25h"}}),
                "spec.rollout.drainTimeout",
            ),
            (
                json!({"origin": origin, "cache": {"maxBlobSize": "1k"}}),
                "spec.cache.maxBlobSize",
            ),
            (
                json!({"origin": origin, "cache": {"ttl": "90s"}}),
                "spec.cache.ttl",
            ),
            (
                json!({"origin": origin, "cache": {"timeout": "0s"}}),
                "spec.cache.timeout",
            ),
            (
                json!({"origin": origin, "service": {"port": 9000}}),
                "spec.service.s3Port",
            ),
            (
                json!({"origin": origin, "service": {"port": 70000}}),
                "spec.service.port",
            ),
            (
                json!({"origin": origin, "s3": {"auth": "Keys"}}),
                "spec.s3.keysSecretRef",
            ),
            (
                json!({"origin": origin, "rollout": {"maxUnavailable": 0}}),
                "spec.rollout.maxUnavailable",
            ),
            (
                json!({"origin": origin, "rollout": {"maxUnavailable": "half"}}),
                "spec.rollout.maxUnavailable",
            ),
            (
                json!({"origin": origin, "rollout": {"drainTimeout": "500ms"}}),
                "spec.rollout.drainTimeout",
            ),
            (
                json!({"origin": origin, "disruption": {"maxUnavailable": "0%"}}),
                "spec.disruption.maxUnavailable",
            ),
            (
                json!({"origin": origin, "pod": {"resources": {"cpuRequest": 2, "cpuLimit": 1}}}),
                "spec.pod.resources.cpuLimit",
            ),
            (
                json!({"origin": origin, "pod": {"overrides": {"spec": {"nope": 1}}}}),
                "spec.pod.overrides.spec.nope",
            ),
        ] {
            assert_eq!(
                planned(&spec).map(|_| ()).unwrap_err().field,
                field,
                "{spec}"
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
            "pod": {"env": [{"name": "FALCON_TTL", "value": "1"}], "overrides": {"spec": {"terminationGracePeriodSeconds": 1}}}
        }))
        .unwrap();
        assert_eq!(plan.warnings.len(), 9, "{:?}", plan.warnings);
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
