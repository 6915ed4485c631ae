//! The cache's container: flags, probes, mounts and resources.
//!
//! The cache is configured by flags alone; a contract test parses them with the cache's own parser.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle,
    LifecycleHandler, ObjectFieldSelector, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, SleepAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::cache::{DiscoveryApi, LogFormat, LogLevel};
use crate::crd::pod::ImagePullPolicy;
use crate::plan::Plan;
use crate::resources::meta;

/// Port of the blob API and of the peers.
pub(super) const HTTP_PORT: i32 = 8080;
/// Port of metrics and health.
pub const ADMIN_PORT: i32 = 9095;
const S3_PORT: i32 = 9000;
/// Names of the ports.
pub(super) const HTTP: &str = "http";
pub(super) const ADMIN: &str = "admin";
pub(super) const S3: &str = "s3";

/// How long a terminating pod still accepts new connections: until kube-proxy on every node has removed its address.
pub(super) const PRE_STOP_SECONDS: i64 = 5;

/// Name of the container.
pub(super) const NAME: &str = "cache";

/// Volumes and their mount paths.
pub(super) const PEER_TOKEN: (&str, &str) = ("peer-token", "/etc/falcon/peer");
pub(super) const ORIGIN_KEYS: (&str, &str) = ("origin-keys", "/etc/falcon/s3");
pub(super) const GATEWAY_ACCESS: (&str, &str) = ("access", "/etc/falcon/access");
pub(super) const ORIGIN_CA: (&str, &str) = ("origin-ca", "/etc/falcon/ca");

pub(super) fn container(plan: &Plan) -> Container {
    Container {
        name: NAME.to_owned(),
        image: Some(plan.image.name.clone()),
        image_pull_policy: plan.image.pull_policy.map(|policy| {
            match policy {
                ImagePullPolicy::Always => "Always",
                ImagePullPolicy::IfNotPresent => "IfNotPresent",
                ImagePullPolicy::Never => "Never",
            }
            .to_owned()
        }),
        args: Some(args(plan)),
        env: Some(env(plan)),
        ports: Some(ports(plan)),
        // A slow start is no failure: two minutes to start, then a minute without a response until a restart.
        startup_probe: Some(probe("/healthz", 2, 60)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: PRE_STOP_SECONDS,
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources(plan)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(plan)),
        ..Container::default()
    }
}

/// The flags of the cache.
fn args(plan: &Plan) -> Vec<String> {
    let (origin, memory, fresh) = (&plan.origin, &plan.memory, &plan.freshness);
    let mut args = Vec::new();
    let mut flag = |name: &str, value: &str| args.push(format!("--{name}={value}"));
    flag("bucket", origin.buckets.first().map_or("", String::as_str));
    flag("buckets", &origin.buckets.join(","));
    flag("port", &HTTP_PORT.to_string());
    flag("admin-port", &ADMIN_PORT.to_string());
    if let Some(gateway) = &plan.s3 {
        flag("s3-port", &S3_PORT.to_string());
        if gateway.access_secret.is_some() {
            flag("s3-auth", "keys");
            flag("access-file", &format!("{}/access.yaml", GATEWAY_ACCESS.1));
        } else {
            flag("s3-auth", "none");
        }
        if !gateway.domains.is_empty() {
            flag("s3-domain", &gateway.domains.join(","));
        }
    }
    if let Some(endpoint) = &origin.endpoint {
        flag("s3-endpoint", endpoint);
    }
    if let Some(region) = &origin.region {
        flag("s3-region", region);
    }
    flag("s3-force-path-style", &origin.force_path_style.to_string());
    if origin.credentials.is_some() {
        flag("s3-credentials-dir", ORIGIN_KEYS.1);
    }
    flag("peer-token-file", &format!("{}/token", PEER_TOKEN.1));
    flag("max-cache-size", &memory.cache_mib.to_string());
    flag("block-size", &memory.block_kib.to_string());
    flag("max-blob-size", &memory.max_blob_mib.to_string());
    flag("ttl", &(fresh.ttl.as_secs() / 60).to_string());
    flag(
        "stale-if-error",
        &(fresh.stale_if_error.as_secs() / 60).to_string(),
    );
    flag("negative-ttl", &fresh.negative_ttl.as_millis().to_string());
    flag("timeout", &fresh.timeout.as_millis().to_string());
    flag("parts-in-flight", &plan.flags.parts_in_flight.to_string());
    flag("replica-share", &plan.flags.replica_share.to_string());
    flag("read-only", &plan.flags.read_only.to_string());
    flag("cache-on-write", &plan.flags.cache_on_write.to_string());
    flag("max-connections", &plan.flags.max_connections.to_string());
    flag("k8s-discovery-id", &plan.discovery_id);
    flag("k8s-discovery-api", discovery_api(plan.discovery_api));
    flag("k8s-namespace", &plan.identity.namespace);
    flag("node-name", "$(POD_NAME)");
    flag("host", "$(POD_IP)");
    flag("drain-timeout", &plan.drain.as_secs().to_string());
    flag("log-format", log_format(plan.log_format));
    flag("log-level", log_level(plan.log_level));
    args
}

fn discovery_api(api: DiscoveryApi) -> &'static str {
    match api {
        DiscoveryApi::EndpointSlices => "endpointslices",
        DiscoveryApi::Endpoints => "endpoints",
    }
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn env(plan: &Plan) -> Vec<EnvVar> {
    let from_field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
    };
    let mut env = vec![
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_IP", "status.podIP"),
    ];
    if plan.origin.ca_bundle.is_some() {
        let value = Some(format!("{}/ca.crt", ORIGIN_CA.1));
        env.push(EnvVar {
            name: "SSL_CERT_FILE".to_owned(),
            value,
            value_from: None,
        });
    }
    for variable in &plan.pod.env {
        env.retain(|own| own.name != variable.name);
        env.push(variable.clone());
    }
    env
}

fn ports(plan: &Plan) -> Vec<ContainerPort> {
    let port = |name: &str, number: i32| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port(HTTP, HTTP_PORT), port(ADMIN, ADMIN_PORT)];
    ports.extend(plan.s3.as_ref().map(|_| port(S3, S3_PORT)));
    ports
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resources(plan: &Plan) -> ResourceRequirements {
    // Request and limit are equal: a node never promises memory to others that a cache will fill.
    let memory = || {
        (
            "memory".to_owned(),
            Quantity(format!("{}Mi", plan.memory.pod_mib)),
        )
    };
    let cpu = |milli: i64| ("cpu".to_owned(), Quantity(cpu_text(milli)));
    let requests: BTreeMap<_, _> = plan
        .pod
        .cpu_request
        .map(cpu)
        .into_iter()
        .chain([memory()])
        .collect();
    let limits: BTreeMap<_, _> = plan
        .pod
        .cpu_limit
        .map(cpu)
        .into_iter()
        .chain([memory()])
        .collect();
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        claims: None,
    }
}

/// As the API server normalises it, so that the comparison finds no difference.
fn cpu_text(milli: i64) -> String {
    if milli % 1000 == 0 {
        (milli / 1000).to_string()
    } else {
        format!("{milli}m")
    }
}

fn mounts(plan: &Plan) -> Vec<VolumeMount> {
    let mount = |(name, path): (&str, &str)| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(PEER_TOKEN)];
    mounts.extend(plan.origin.credentials.as_ref().map(|_| mount(ORIGIN_KEYS)));
    mounts.extend(
        plan.s3
            .as_ref()
            .and_then(|gateway| gateway.access_secret.as_ref())
            .map(|_| mount(GATEWAY_ACCESS)),
    );
    mounts.extend(plan.origin.ca_bundle.as_ref().map(|_| mount(ORIGIN_CA)));
    mounts
}

/// Annotation that makes `kubectl logs` and `exec` pick this container where a user adds others.
pub(super) fn default_container() -> BTreeMap<String, String> {
    meta::pairs([("kubectl.kubernetes.io/default-container", NAME)])
}
