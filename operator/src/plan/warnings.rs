//! Values that are allowed and perhaps not meant: they become the condition `ConfigurationWarning`.

use crate::crd::cache::DiscoveryApi;
use crate::plan::Plan;

/// One sentence for each risk.
pub(super) fn of(plan: &Plan) -> Vec<String> {
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
        "replicas is 1: nothing stands in while the pod is replaced",
    );
    note(
        plan.freshness.ttl.is_zero(),
        "cache.ttl is 0s: objects changed in S3 by others are never noticed",
    );
    note(
        memory.max_blob_mib > memory.cache_mib / 4,
        "cache.maxBlobSize is more than a quarter of cache.memory: one object can push out most others of a pod",
    );
    note(
        plan.s3
            .as_ref()
            .is_some_and(|door| door.access_secret.is_none()),
        "s3.auth is None: whoever reaches the port reads and writes with the cache's rights",
    );
    note(
        plan.allow_from.is_none(),
        "networkPolicy is off: every pod of the cluster can read what the cache may read",
    );
    note(
        plain_endpoint && plan.origin.credentials.is_some(),
        "origin.endpoint is http://: objects and signatures cross the network in the clear",
    );
    note(
        plan.discovery_api == DiscoveryApi::Endpoints,
        "discovery.api is Endpoints: deprecated since Kubernetes 1.33, and not served by every cluster",
    );
    note(
        plan.image.version() == "latest",
        "image has no version: pods of one cache may run different programs",
    );
    note(
        plan.pod
            .env
            .iter()
            .any(|variable| variable.name.starts_with("FALCON_")),
        "pod.env sets FALCON_ variables: the flags that the operator gives win over them",
    );
    let grace = plan
        .pod
        .overrides
        .as_ref()
        .and_then(|template| template.spec.as_ref())
        .and_then(|spec| spec.termination_grace_period_seconds);
    note(
        grace.is_some_and(|seconds| u64::try_from(seconds).unwrap_or(0) <= plan.drain.as_secs()),
        "pod.overrides gives pods less time to end than rollout.drainTimeout",
    );
    found
}
