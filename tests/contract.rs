//! What the operator tells the cache, read with the cache's own parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use falcon_cache::config::{Args, Config, Discovery, Environment, LogFormat};
use falcon_cache::discovery::WatchedApi;
use falcon_cache::origin::Endpoint;
use falcon_operator::crd::FalconCache;
use falcon_operator::plan::{Defaults, plan};
use falcon_operator::resources::{CacheRole, CacheRoleKind, Resources, resources};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::harness::readme;

const MIB: u64 = 1 << 20;

/// What the operator makes for this spec.
fn made(name: &str, spec: &Value) -> Resources {
    let cache: FalconCache = serde_json::from_value(json!({
        "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
        "metadata": {"name": name, "namespace": "prod", "uid": "u"}, "spec": spec
    }))
    .unwrap();
    let defaults = Defaults {
        image: "falcon-cache:0".to_owned(),
    };
    let role = CacheRole {
        kind: CacheRoleKind::ClusterRole,
        name: "falcon-cache".to_owned(),
    };
    let plan = plan(&cache, &defaults).unwrap();
    resources(&plan, &role)
}

/// Its container.
fn container(spec: &Value) -> Container {
    let pod = made("media", spec).stateful_set.spec.unwrap();
    let mut containers = pod.template.spec.unwrap().containers;
    containers.remove(0)
}

/// What the cache understands of it in a pod with this address.
fn understood(spec: &Value, address: IpAddr) -> Config {
    // As the kubelet fills in what stands in $( ).
    let fill_in = |arg: String| {
        arg.replace("$(POD_NAME)", "media-0")
            .replace("$(POD_IP)", &address.to_string())
    };
    let args = container(spec).args.unwrap().into_iter().map(fill_in);
    let nowhere = Environment::default();
    Args::read(std::iter::once("falcon-cache".to_owned()).chain(args))
        .unwrap()
        .into_config(&nowhere)
        .unwrap()
}

#[test]
fn the_cache_accepts_the_flags_of_the_operator() {
    let plain = understood(
        &json!({"origin": {"buckets": ["photos", "films"]}}),
        Ipv4Addr::new(10, 0, 0, 7).into(),
    );
    assert_eq!(plain.node.api.bucket.as_deref(), Some("photos"));
    assert_eq!(plain.node.web.buckets.to_string(), "photos,films");
    assert_eq!(plain.node.max_cache_size, 1024 * MIB);
    assert_eq!(plain.network.s3_port, None);
    assert_eq!(plain.ring.host.to_string(), "10.0.0.7");
    assert_eq!(plain.log.log_format, LogFormat::Json);
    assert_eq!(plain.warnings, Vec::<String>::new());

    let full = understood(
        &json!({
            "origin": {"buckets": ["photos"], "endpoint": "https://s3.lan:9000", "region": "lan-1", "credentialsSecretRef": {"name": "keys"}},
            "cache": {"memory": "512Mi", "blockSize": "512Ki", "maxBlobSize": "64Mi", "ttl": "24h", "staleIfError": "10m", "negativeTtl": "3s", "timeout": "800ms",
                "partsInFlight": 24, "replicaShare": 30, "readOnly": true, "maxConnections": 500},
            "discovery": {"id": "shared", "api": "Endpoints"}, "rollout": {"drainTimeout": "2m"}, "logging": {"level": "debug", "format": "text"}
        }),
        Ipv6Addr::LOCALHOST.into(),
    );
    let (origin, proxy) = (&full.node.origin, &full.node.proxy);
    assert_eq!(
        origin.s3_endpoint.as_ref().map(Endpoint::as_str),
        Some("https://s3.lan:9000")
    );
    assert_eq!(origin.s3_region.as_deref(), Some("lan-1"));
    assert!(origin.s3_force_path_style);
    assert_eq!(
        origin.s3_credentials_dir.as_deref(),
        Some(Path::new("/etc/falcon/s3"))
    );
    assert_eq!(proxy.timeout, Duration::from_millis(800));
    assert_eq!(
        (
            full.node.max_cache_size,
            proxy.blocks.size,
            proxy.max_blob_size
        ),
        (512 * MIB, MIB / 2, 64 * MIB)
    );
    assert_eq!(proxy.ttl, Some(Duration::from_hours(24)));
    assert_eq!(proxy.stale_if_error, Duration::from_mins(10));
    assert_eq!(proxy.negative_ttl, Duration::from_secs(3));
    assert_eq!(proxy.parts_in_flight, 24);
    assert_eq!(full.node.replica_share, 512 * MIB / 100 * 30);
    assert_eq!(full.node.limits.max_connections, 500);
    assert!(full.node.web.read_only && !full.node.api.cache_on_write);
    assert_eq!(full.node.limits.drain_timeout, Duration::from_mins(2));
    assert_eq!(
        full.ring.discovery,
        Discovery::Kubernetes {
            k8s_discovery_id: "shared".to_owned(),
            k8s_discovery_api: WatchedApi::Endpoints,
            k8s_namespace: "prod".to_owned(),
            node_name: "media-0".to_owned(),
        }
    );
    assert_eq!(
        full.node.peer_token_file.as_deref(),
        Some(Path::new("/etc/falcon/peer/token"))
    );
}

#[test]
fn the_s3_gateway_opens_as_the_spec_says() {
    let opened = |s3: Value| {
        let spec = json!({"origin": {"buckets": ["photos"]}, "s3": s3});
        understood(&spec, Ipv4Addr::LOCALHOST.into())
    };
    let guarded =
        opened(json!({"enabled": true, "auth": "Keys", "accessSecretRef": {"name": "gateway"}}));
    assert_eq!(guarded.network.s3_port, Some(9000));
    assert_eq!(
        guarded.node.access_file.as_deref(),
        Some(Path::new("/etc/falcon/access/access.yaml"))
    );
    let open = opened(json!({"enabled": true}));
    assert_eq!(open.network.s3_port, Some(9000));
    assert_eq!(open.node.access_file, None);
    assert_eq!(open.node.gateway.s3_domain, Vec::<String>::new());
    let hosted = opened(json!({"enabled": true, "domains": ["s3.lan", "s3.example.com"]}));
    assert_eq!(hosted.node.gateway.s3_domain, ["s3.lan", "s3.example.com"]);
}

#[test]
fn fields_that_only_the_cache_interprets_have_its_own_defaults_and_limits() {
    let flags = |spec: &Value| {
        let args = container(spec).args.unwrap().into_iter();
        Args::read(std::iter::once("falcon-cache".to_owned()).chain(args))
    };
    let with = |cache: Value| json!({"origin": {"buckets": ["photos"]}, "cache": cache});
    let understood = |spec: &Value| understood(spec, Ipv4Addr::LOCALHOST.into());
    let own =
        Args::read(["falcon-cache", "--bucket=photos", "--host=127.0.0.1"].map(str::to_owned))
            .unwrap()
            .into_config(&Environment::default())
            .unwrap();
    let plain = understood(&with(json!({})));
    assert_eq!(
        plain.node.proxy.parts_in_flight,
        own.node.proxy.parts_in_flight
    );
    assert_eq!(
        plain.node.limits.max_connections,
        own.node.limits.max_connections
    );
    assert_eq!(
        plain.node.replica_share,
        plain.node.max_cache_size / 100 * 12
    );
    assert!(!plain.node.web.read_only && !plain.node.api.cache_on_write);
    for cache in [
        json!({"partsInFlight": 1, "replicaShare": 0, "maxConnections": 1}),
        json!({"partsInFlight": 256, "replicaShare": 90, "maxConnections": i32::MAX}),
        json!({"cacheOnWrite": true}),
    ] {
        assert!(flags(&with(cache.clone())).is_ok(), "{cache}");
    }
    // The limits of the schema, and one beyond.
    for flag in [
        "--parts-in-flight=0",
        "--parts-in-flight=257",
        "--replica-share=91",
        "--max-connections=0",
    ] {
        let args = ["falcon-cache", flag].map(str::to_owned);
        assert!(Args::read(args).is_err(), "{flag}");
    }
}

#[test]
fn ports_are_those_that_the_operator_opens() {
    let spec = json!({"origin": {"buckets": ["photos"]}});
    let network = understood(&spec, Ipv4Addr::LOCALHOST.into()).network;
    let ports = container(&spec).ports.unwrap();
    let open = |name: &str| {
        let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
        named.map(|port| port.container_port)
    };
    assert_eq!(open("http"), Some(i32::from(network.port)));
    assert_eq!(open("admin"), Some(i32::from(network.admin_port)));
    assert_eq!(open("s3"), network.s3_port.map(i32::from));
}

#[test]
fn the_sidecar_of_the_readme_matches_what_the_operator_creates() {
    let made = made("models", &json!({"origin": {"buckets": ["photos"]}}));
    let shown: Value = serde_yaml::from_str(readme::yaml("--sidecar")).unwrap();
    let pod: PodSpec = serde_json::from_value(shown["spec"].clone()).unwrap();
    let sidecar = &pod.init_containers.unwrap()[0];
    assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
    let args = sidecar.args.clone().unwrap().into_iter();
    let here = Environment {
        hostname: Some("train-0".to_owned()),
        namespace: Some("prod".to_owned()),
        memory_limit: Some(256 * MIB),
        ..Environment::default()
    };
    let config = Args::read(std::iter::once("falcon-cache".to_owned()).chain(args))
        .unwrap()
        .into_config(&here)
        .unwrap();
    assert!(config.node.sidecar);
    assert_eq!(config.warnings, Vec::<String>::new());
    let id = &made.headless_service.metadata.labels.unwrap()["falcon-discovery-id"];
    assert!(
        matches!(config.ring.discovery, Discovery::Kubernetes { k8s_discovery_id, .. } if k8s_discovery_id == *id)
    );
    let secret = |volume: &str| {
        let volumes = pod.volumes.as_ref().unwrap().iter();
        let named = volumes.clone().find(|known| known.name == volume);
        named.unwrap().secret.as_ref().unwrap().secret_name.clone()
    };
    let mounts = sidecar.volume_mounts.as_ref().unwrap();
    let mounted = |folder: &Path| {
        let mount = mounts
            .iter()
            .find(|mount| Path::new(&mount.mount_path) == folder);
        secret(&mount.unwrap().name)
    };
    let token = config.node.peer_token_file.unwrap();
    assert_eq!(token.file_name().unwrap(), "token");
    assert_eq!(
        mounted(token.parent().unwrap()),
        made.peer_secret.metadata.name
    );
    assert!(mounted(&config.node.origin.s3_credentials_dir.unwrap()).is_some());
    // Its main port is not for probes.
    let probe = sidecar.startup_probe.as_ref().unwrap();
    let port = &probe.http_get.as_ref().unwrap().port;
    assert_eq!(*port, IntOrString::Int(config.network.admin_port.into()));
    assert_eq!(config.network.admin_listen, None);
    assert_eq!(config.network.listen, Some(Ipv4Addr::LOCALHOST.into()));
}
