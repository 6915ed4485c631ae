//! Risky values: they become the condition `ConfigurationWarning`.

use crate::crd::cache::DiscoveryApi;
use crate::plan::Plan;

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
    note(
        plan.pod
            .env
            .iter()
            .any(|variable| variable.name.starts_with("FALCON_")),
        "pod.env sets FALCON_ variables: the operator sets nearly all flags, which take precedence; use the field of the spec instead",
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
    found
}
