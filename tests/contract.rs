//! What the operator tells the cache, read with the cache's own parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use falcon_cache::config::{Args, Config, Discovery, DiscoveryApi, LogFormat, Surroundings};
use falcon_operator::crd::FalconCache;
use falcon_operator::plan::{Defaults, plan};
use falcon_operator::resources::{CacheRole, CacheRoleKind, resources};
use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// The container that the operator makes for this spec.
fn container(spec: &Value) -> Container {
    let cache: FalconCache = serde_json::from_value(json!({
        "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
        "metadata": {"name": "media", "namespace": "prod", "uid": "u"}, "spec": spec
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
    let pod = resources(&plan, &role).stateful_set.spec.unwrap();
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
    let nowhere = Surroundings::default();
    Args::read(std::iter::once("falcon-cache".to_owned()).chain(args))
        .unwrap()
        .into_config(&nowhere)
        .unwrap()
}

#[test]
fn the_cache_understands_what_the_operator_tells_it() {
    let plain = understood(
        &json!({"origin": {"buckets": ["photos", "films"]}}),
        Ipv4Addr::new(10, 0, 0, 7).into(),
    );
    assert_eq!(plain.buckets.default.as_deref(), Some("photos"));
    assert!(plain.buckets.allow("films") && !plain.buckets.allow("other"));
    assert_eq!(plain.memory.limit, 1024 * MIB);
    assert_eq!(plain.doors.s3, None);
    assert_eq!(plain.ring.host, "10.0.0.7");
    assert_eq!(plain.log.format, LogFormat::Json);
    assert_eq!(plain.warnings, Vec::<String>::new());

    let full = understood(
        &json!({
            "origin": {"buckets": ["photos"], "endpoint": "https://s3.lan:9000", "region": "lan-1", "credentialsSecretRef": {"name": "keys"}},
            "cache": {"memory": "512Mi", "blockSize": "512Ki", "maxBlobSize": "64Mi", "ttl": "24h", "staleIfError": "10m", "negativeTtl": "3s", "timeout": "800ms"},
            "discovery": {"id": "shared", "api": "Endpoints"}, "rollout": {"drainTimeout": "2m"}, "logging": {"level": "debug", "format": "text"}
        }),
        Ipv6Addr::LOCALHOST.into(),
    );
    assert_eq!(full.origin.endpoint.as_deref(), Some("https://s3.lan:9000"));
    assert_eq!(full.origin.region.as_deref(), Some("lan-1"));
    assert!(full.origin.force_path_style);
    assert_eq!(
        full.origin.credentials_dir.as_deref(),
        Some(Path::new("/etc/falcon/s3"))
    );
    assert_eq!(full.origin.timeout, Duration::from_millis(800));
    assert_eq!(
        (full.memory.limit, full.memory.block, full.memory.max_object),
        (512 * MIB, MIB / 2, 64 * MIB)
    );
    assert_eq!(full.freshness.ttl, Some(Duration::from_hours(24)));
    assert_eq!(full.freshness.stale_if_error, Duration::from_mins(10));
    assert_eq!(full.freshness.negative_ttl, Duration::from_secs(3));
    assert_eq!(full.doors.drain_timeout, Duration::from_mins(2));
    assert_eq!(
        full.ring.discovery,
        Discovery::Kubernetes {
            id: "shared".to_owned(),
            namespace: "prod".to_owned(),
            api: DiscoveryApi::Endpoints,
            node: "media-0".to_owned(),
        }
    );
    assert_eq!(
        full.ring.peer_token_file.as_deref(),
        Some(Path::new("/etc/falcon/peer/token"))
    );
}

#[test]
fn the_s3_door_opens_as_the_spec_says() {
    let opened = |s3: Value| {
        let spec = json!({"origin": {"buckets": ["photos"]}, "s3": s3});
        understood(&spec, Ipv4Addr::LOCALHOST.into()).doors
    };
    let guarded =
        opened(json!({"enabled": true, "auth": "Keys", "accessSecretRef": {"name": "door"}}));
    assert_eq!(guarded.s3.unwrap().port, 9000);
    assert_eq!(
        guarded.access_file.as_deref(),
        Some(Path::new("/etc/falcon/access/access.yaml"))
    );
    let open = opened(json!({"enabled": true}));
    assert_eq!((open.s3.unwrap().port, open.access_file), (9000, None));
}

#[test]
fn ports_are_those_that_the_operator_opens() {
    let spec = json!({"origin": {"buckets": ["photos"]}});
    let doors = understood(&spec, Ipv4Addr::LOCALHOST.into()).doors;
    let ports = container(&spec).ports.unwrap();
    let open = |name: &str| {
        let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
        named.map(|port| port.container_port)
    };
    assert_eq!(open("http"), Some(i32::from(doors.port)));
    assert_eq!(open("admin"), Some(i32::from(doors.admin_port)));
    assert_eq!(open("s3"), doors.s3.map(|s3| i32::from(s3.port)));
}
