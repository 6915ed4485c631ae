//! Risky values: they become the condition `ConfigurationWarning`. Pure.

use crate::crd::cache::DiscoveryApi;
use crate::plan::Plan;

/// The cache's environment variables that a field of the spec stands for.
pub(crate) const FIELDS: [(&str, &str); 26] = [
    ("FALCON_BUCKET", "origin.buckets"),
    ("FALCON_BUCKETS", "origin.buckets"),
    ("FALCON_S3_ENDPOINT", "origin.endpoint"),
    ("FALCON_S3_REGION", "origin.region"),
    ("FALCON_S3_FORCE_PATH_STYLE", "origin.forcePathStyle"),
    ("FALCON_S3_CREDENTIALS_DIR", "origin.credentialsSecretRef"),
    ("FALCON_MAX_CACHE_SIZE", "cache.memory"),
    ("FALCON_BLOCK_SIZE", "cache.blockSize"),
    ("FALCON_MAX_BLOB_SIZE", "cache.maxBlobSize"),
    ("FALCON_TTL", "cache.ttl"),
    ("FALCON_STALE_IF_ERROR", "cache.staleIfError"),
    ("FALCON_NEGATIVE_TTL", "cache.negativeTtl"),
    ("FALCON_TIMEOUT", "cache.timeout"),
    ("FALCON_PARTS_IN_FLIGHT", "cache.partsInFlight"),
    ("FALCON_REPLICA_SHARE", "cache.replicaShare"),
    ("FALCON_READ_ONLY", "cache.readOnly"),
    ("FALCON_CACHE_ON_WRITE", "cache.cacheOnWrite"),
    ("FALCON_MAX_CONNECTIONS", "cache.maxConnections"),
    ("FALCON_S3_AUTH", "s3.auth"),
    ("FALCON_ACCESS_FILE", "s3.accessSecretRef"),
    ("FALCON_S3_DOMAIN", "s3.domains"),
    ("FALCON_K8S_DISCOVERY_ID", "discovery.id"),
    ("FALCON_K8S_DISCOVERY_API", "discovery.api"),
    ("FALCON_DRAIN_TIMEOUT", "rollout.drainTimeout"),
    ("FALCON_LOG_FORMAT", "logging.format"),
    ("FALCON_LOG_LEVEL", "logging.level"),
];

/// Those that the operator sets itself.
pub(crate) const SET_BY_OPERATOR: [&str; 7] = [
    "FALCON_ADMIN_PORT",
    "FALCON_HOST",
    "FALCON_K8S_NAMESPACE",
    "FALCON_NODE_NAME",
    "FALCON_PEER_TOKEN_FILE",
    "FALCON_PORT",
    "FALCON_S3_PORT",
];

/// One sentence for each risk.
pub(super) fn find(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |risky: bool, text: &str| {
        if risky {
            found.push(text.to_owned());
        }
    };
    let memory = &plan.memory;
    let plain_endpoint = plan
        .origin
        .endpoint
        .as_ref()
        .is_some_and(|url| url.starts_with("http://"));
    note(
        plan.replicas == 1,
        "replicas is 1: the cache is unavailable while the pod is replaced",
    );
    note(
        plan.freshness.ttl.is_zero(),
        "cache.ttl is 0s: changes made in S3 by other writers are never noticed",
    );
    note(
        memory.max_blob_mib > memory.cache_mib / 4,
        "cache.maxBlobSize is more than a quarter of cache.memory: one object can evict most others of a pod",
    );
    note(
        plan.s3
            .as_ref()
            .is_some_and(|gateway| gateway.access_secret.is_none()),
        "s3.auth is None: everyone who can reach the port reads and writes with the cache's permissions",
    );
    note(
        plan.allow_from.is_none(),
        "networkPolicy is disabled: every pod in the cluster can read what the cache may read",
    );
    note(
        plain_endpoint && plan.origin.credentials.is_some(),
        "origin.endpoint is http://: objects and signatures are sent unencrypted",
    );
    note(
        plan.discovery_api == DiscoveryApi::Endpoints,
        "discovery.api is Endpoints: deprecated since Kubernetes 1.33, and not available in every cluster",
    );
    note(
        plan.image.version() == "latest",
        "image has no version tag: pods of one cache may run different versions",
    );
    let grace = plan
        .pod
        .overrides
        .as_ref()
        .and_then(|template| template.spec.as_ref())
        .and_then(|spec| spec.termination_grace_period_seconds);
    note(
        grace.is_some_and(|seconds| u64::try_from(seconds).unwrap_or(0) <= plan.drain.as_secs()),
        "pod.overrides sets a termination grace period shorter than rollout.drainTimeout",
    );
    found.extend(
        plan.pod
            .env
            .iter()
            .filter_map(|variable| environment(&variable.name)),
    );
    found
}

/// What is risky about this variable of the container.
fn environment(name: &str) -> Option<String> {
    if !name.starts_with("FALCON_") {
        return None;
    }
    let field = FIELDS.iter().find(|(variable, _)| *variable == name);
    Some(match field {
        Some((_, field)) => format!("pod.env sets {name}: use {field}, which takes precedence"),
        None if SET_BY_OPERATOR.contains(&name) => {
            format!("pod.env sets {name}, which has no effect: the operator sets this flag")
        }
        None => format!("pod.env sets {name}: the operator does not check what it does"),
    })
}
