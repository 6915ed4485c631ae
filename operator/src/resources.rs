//! `Plan` → `Resources`: the desired Kubernetes objects of a cache.
//!
//! Pure: the same plan gives the same objects, byte for byte. No object carries a time, and none the operator's
//! version: a new operator restarts nothing.

mod access;
pub mod container;
mod disruption;
pub mod meta;
pub mod monitoring;
mod network;
mod service;
mod stateful_set;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::DynamicObject;

use crate::plan::{Identity, Plan};

/// The role of the pods, which the chart ships. The operator binds it, and grants nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRole {
    /// `ClusterRole`, or `Role` if the operator is limited to some namespaces.
    pub kind: CacheRoleKind,
    /// Its name.
    pub name: String,
}

/// Kind of the role that pods are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheRoleKind {
    /// One in the cluster.
    ClusterRole,
    /// One in each namespace.
    Role,
}

/// All desired objects. `None`: the object must not exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// The cache that owns them.
    pub identity: Identity,
    /// Service account of the pods, unless the user names one.
    pub service_account: Option<ServiceAccount>,
    /// Its permission to watch the ring.
    pub role_binding: RoleBinding,
    /// The peer token; its content is generated when it is written.
    pub peer_secret: Secret,
    /// Gives the pods names, and lets them discover each other.
    pub headless_service: Service,
    /// The Service for applications.
    pub client_service: Service,
    /// Who may connect.
    pub network_policy: Option<NetworkPolicy>,
    /// How many pods may be evicted at once.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// The monitor, if it is of this kind.
    pub pod_monitor: Option<DynamicObject>,
    /// The monitor, if it is of this kind.
    pub service_monitor: Option<DynamicObject>,
    /// The pods.
    pub stateful_set: StatefulSet,
}

/// Builds all objects.
pub fn resources(plan: &Plan, role: &CacheRole) -> Resources {
    let (pod_monitor, service_monitor) = monitoring::monitors(plan);
    Resources {
        identity: plan.identity.clone(),
        service_account: access::service_account(plan),
        role_binding: access::role_binding(plan, role),
        peer_secret: access::peer_secret(plan),
        headless_service: service::headless(plan),
        client_service: service::client(plan),
        network_policy: network::policy(plan),
        disruption_budget: disruption::budget(plan),
        pod_monitor,
        service_monitor,
        stateful_set: stateful_set::stateful_set(plan),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::plan::{self, warnings};

    fn made(spec: &Value) -> Value {
        let cache = serde_json::from_value(json!({
            "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
            "metadata": {"name": "media", "namespace": "prod", "uid": "u1", "generation": 4}, "spec": spec
        }))
        .unwrap();
        let plan = plan::plan(
            &cache,
            &plan::Defaults {
                image: "registry/falcon-cache:0.1.0".to_owned(),
            },
        )
        .unwrap();
        let role = CacheRole {
            kind: CacheRoleKind::ClusterRole,
            name: "falcon-cache".to_owned(),
        };
        let Resources {
            identity: _,
            service_account,
            role_binding,
            peer_secret,
            headless_service,
            client_service,
            network_policy,
            disruption_budget,
            pod_monitor,
            service_monitor,
            stateful_set,
        } = resources(&plan, &role);
        json!({
            "account": service_account, "binding": role_binding, "secret": peer_secret, "headless": headless_service,
            "client": client_service, "network": network_policy, "budget": disruption_budget, "podMonitor": pod_monitor,
            "serviceMonitor": service_monitor, "set": stateful_set
        })
    }

    fn plain() -> Value {
        made(&json!({"origin": {"buckets": ["photos", "films"]}}))
    }

    /// A cache for which every flag is set.
    fn full() -> Value {
        made(&json!({
            "origin": {"buckets": ["photos"], "endpoint": "https://s3.lan:9000", "region": "lan-1", "credentialsSecretRef": {"name": "keys"},
                       "caBundleRef": {"configMapName": "ca"}},
            "cache": {"memory": "512Mi", "blockSize": "512Ki", "maxBlobSize": "64Mi", "ttl": "24h", "staleIfError": "10m", "timeout": "800ms",
                      "cacheOnWrite": true},
            "s3": {"enabled": true, "auth": "Keys", "accessSecretRef": {"name": "access"}, "domains": ["s3.lan", "s3.example.com"]},
            "discovery": {"id": "shared", "api": "Endpoints"}, "rollout": {"drainTimeout": "2m"}, "logging": {"level": "debug", "format": "text"}
        }))
    }

    fn args(made: &Value) -> Vec<String> {
        serde_json::from_value(
            made["set"]["spec"]["template"]["spec"]["containers"][0]["args"].clone(),
        )
        .unwrap()
    }

    #[test]
    fn a_warning_knows_the_variable_of_every_flag() {
        let name = |arg: &String| arg.split_once('=').unwrap().0.replace("--", "FALCON_");
        let flags = args(&full());
        let flags = flags
            .iter()
            .map(|arg| name(arg).replace('-', "_").to_ascii_uppercase());
        let fields = warnings::FIELDS.iter().map(|(variable, _)| *variable);
        let known = fields.chain(warnings::SET_BY_OPERATOR);
        assert_eq!(
            flags.collect::<BTreeSet<_>>(),
            known.map(ToOwned::to_owned).collect()
        );
    }

    #[test]
    fn every_object_carries_the_labels_and_the_owner() {
        for (kind, object) in plain()
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, object)| !object.is_null())
        {
            let meta = &object["metadata"];
            assert_eq!(meta["namespace"], "prod", "{kind}");
            assert_eq!(
                meta["labels"]["app.kubernetes.io/managed-by"], "falcon-operator",
                "{kind}"
            );
            assert_eq!(
                meta["labels"]["app.kubernetes.io/instance"], "media",
                "{kind}"
            );
            assert_eq!(
                meta["ownerReferences"],
                json!([{"apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache", "name": "media", "uid": "u1", "controller": true}]),
                "{kind}"
            );
        }
    }

    #[test]
    fn the_flags_of_the_plain_cache() {
        assert_eq!(
            args(&plain()),
            [
                "--bucket=photos",
                "--buckets=photos,films",
                "--port=8080",
                "--admin-port=9095",
                "--s3-force-path-style=false",
                "--peer-token-file=/etc/falcon/peer/token",
                "--max-cache-size=1024",
                "--block-size=1024",
                "--max-blob-size=128",
                "--ttl=60",
                "--stale-if-error=60",
                "--negative-ttl=2000",
                "--timeout=5000",
                "--parts-in-flight=16",
                "--replica-share=12",
                "--read-only=false",
                "--cache-on-write=false",
                "--max-connections=10000",
                "--k8s-discovery-id=media",
                "--k8s-discovery-api=endpointslices",
                "--k8s-namespace=prod",
                "--node-name=$(POD_NAME)",
                "--host=$(POD_IP)",
                "--drain-timeout=30",
                "--log-format=json",
                "--log-level=info",
            ]
        );
    }

    #[test]
    fn the_flags_of_a_cache_with_everything() {
        let made = full();
        let args = args(&made);
        for flag in [
            "--s3-port=9000",
            "--s3-auth=keys",
            "--access-file=/etc/falcon/access/access.yaml",
            "--s3-endpoint=https://s3.lan:9000",
            "--s3-region=lan-1",
            "--s3-force-path-style=true",
            "--s3-credentials-dir=/etc/falcon/s3",
            "--max-cache-size=512",
            "--block-size=512",
            "--max-blob-size=64",
            "--ttl=1440",
            "--stale-if-error=10",
            "--timeout=800",
            "--cache-on-write=true",
            "--s3-domain=s3.lan,s3.example.com",
            "--k8s-discovery-id=shared",
            "--k8s-discovery-api=endpoints",
            "--drain-timeout=120",
            "--log-format=text",
            "--log-level=debug",
        ] {
            assert!(
                args.iter().any(|arg| arg == flag),
                "{flag} is not in {args:?}"
            );
        }
        let pod = &made["set"]["spec"]["template"]["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], 135);
        assert_eq!(
            pod["volumes"][1]["projected"]["sources"],
            json!([
                {"secret": {"name": "keys", "items": [{"key": "access-key-id", "path": "access-key-id"}, {"key": "secret-access-key", "path": "secret-access-key"}]}},
                {"secret": {"name": "keys", "items": [{"key": "session-token", "path": "session-token"}], "optional": true}}
            ])
        );
        assert_eq!(
            pod["containers"][0]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            4
        );
        assert_eq!(
            made["network"]["spec"]["ingress"][1]["ports"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn the_pod_is_locked_down_and_its_memory_is_bounded() {
        let made = plain();
        let pod = &made["set"]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(pod["securityContext"]["runAsUser"], 65532);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        assert_eq!(pod["enableServiceLinks"], false);
        assert_eq!(pod["terminationGracePeriodSeconds"], 45);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(
            container["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]})
        );
        assert_eq!(
            container["resources"],
            json!({"requests": {"cpu": "100m", "memory": "1408Mi"}, "limits": {"memory": "1408Mi"}})
        );
    }

    #[test]
    fn only_the_headless_service_is_the_ring() {
        let made = plain();
        assert_eq!(
            made["headless"]["metadata"]["labels"]["falcon-discovery-id"],
            "media"
        );
        assert_eq!(made["headless"]["spec"]["publishNotReadyAddresses"], true);
        assert_eq!(
            made["set"]["spec"]["serviceName"],
            made["headless"]["metadata"]["name"]
        );
        assert_eq!(
            made["set"]["spec"]["template"]["metadata"]["labels"]["falcon-discovery-id"],
            "media"
        );
        assert!(
            made["client"]["metadata"]["labels"]
                .get("falcon-discovery-id")
                .is_none()
        );
        assert!(
            made["client"]["spec"]
                .get("publishNotReadyAddresses")
                .is_none()
        );
    }

    #[test]
    fn what_is_disabled_is_not_created() {
        let made = made(&json!({
            "origin": {"buckets": ["photos"], "serviceAccountName": "reader"}, "disruption": {"enabled": false},
            "networkPolicy": {"enabled": false}, "monitoring": {"kind": "ServiceMonitor"}
        }));
        for gone in ["account", "budget", "network", "podMonitor"] {
            assert!(made[gone].is_null(), "{gone}");
        }
        assert_eq!(made["binding"]["subjects"][0]["name"], "reader");
        assert_eq!(
            made["set"]["spec"]["template"]["spec"]["serviceAccountName"],
            "reader"
        );
        assert_eq!(
            made["serviceMonitor"]["spec"]["endpoints"][0]["port"],
            "admin"
        );
    }

    #[test]
    fn overrides_are_merged_over_the_template_but_never_over_the_selector() {
        let made = made(
            &json!({"origin": {"buckets": ["photos"]}, "pod": {"overrides": {
                "metadata": {"labels": {"team": "media", "app.kubernetes.io/instance": "other"}},
                "spec": {"hostNetwork": true, "containers": [{"name": "cache", "tty": true}, {"name": "shell", "image": "busybox"}]}
            }}}),
        );
        let template = &made["set"]["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["team"], "media");
        assert_eq!(
            template["metadata"]["labels"]["app.kubernetes.io/instance"],
            "media"
        );
        assert_eq!(template["spec"]["hostNetwork"], true);
        let containers = template["spec"]["containers"].as_array().unwrap();
        assert_eq!(
            (
                containers.len(),
                &containers[0]["tty"],
                &containers[0]["image"]
            ),
            (2, &json!(true), &json!("registry/falcon-cache:0.1.0"))
        );
    }

    #[test]
    fn the_same_plan_gives_the_same_bytes() {
        assert_eq!(plain().to_string(), plain().to_string());
    }
}
