use super::*;

fn env() -> Environment {
    Environment {
        memory_limit: None,
        hostname: Some("falcon-1".to_owned()),
        pod_address: Some([10, 0, 0, 7].into()),
        namespace: Some("apps".to_owned()),
    }
}

fn meant(line: &str) -> Result<Config, Error> {
    let argv = ["falcon-cache"].into_iter().chain(line.split_whitespace());
    Args::read(argv)?.into_config(&env())
}

fn config(line: &str) -> Config {
    meant(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refusal(line: &str) -> String {
    match meant(line) {
        Ok(config) => panic!("{line} means {config}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_defaults_are_the_originals() {
    let config = config("--bucket b");
    assert_eq!(config.ring.host, "localhost");
    assert_eq!(config.network.port, 8080);
    assert_eq!(config.memory.max_object, 128 << 20);
    assert_eq!(config.origin.timeout, Duration::from_secs(5));
    assert_eq!(config.freshness.ttl, Some(Duration::from_hours(1)));
    assert_eq!(config.ring.discovery, Discovery::Fixed { peers: vec![] });
    assert_eq!(config.origin.endpoint, None);
    assert!(config.log.filter.starts_with("info,"));
    assert_eq!(config.buckets.default.as_deref(), Some("b"));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_originals_command_line_means_what_it_meant() {
    let given = "-bucket b -s3-endpoint http://minio:9000 -peers http://localhost:8080,http://localhost:8081 \
                 -host localhost -port 8081 -max-blob-size=64 -timeout 100 -ttl 0 -verbose";
    let config = config(given);
    assert_eq!(config.origin.endpoint.as_deref(), Some("http://minio:9000"));
    assert_eq!(
        config.ring.discovery,
        Discovery::Fixed {
            peers: vec![
                "http://localhost:8080".into(),
                "http://localhost:8081".into()
            ]
        }
    );
    assert_eq!(
        (config.network.port, config.memory.max_object),
        (8081, 64 << 20)
    );
    assert_eq!(config.origin.timeout, Duration::from_millis(100));
    assert_eq!(config.freshness.ttl, None);
    assert_eq!(config.log.filter, "debug");
    assert!(config.origin.force_path_style);
    // Two nodes of one host must not fight for ports that the original did not have.
    assert_eq!((config.network.admin_port, config.network.s3), (0, None));
}

#[test]
fn serve_may_be_named_and_dev_is_another_job() {
    assert_eq!(
        config("serve --bucket b -ttl 5"),
        config("--bucket b -ttl 5")
    );
    let command = |line: &str| {
        let argv = ["falcon-cache"].into_iter().chain(line.split_whitespace());
        Args::read(argv)
            .unwrap()
            .into_command(&Environment::default())
    };
    let Ok(Command::Dev(dev)) = command("dev --nodes 5 -port 9100") else {
        panic!("dev is dev");
    };
    assert_eq!((dev.nodes, dev.port, dev.data), (5, 9100, None));
    assert!(command("dev --port 65535").is_err());
    assert!(meant("dev").is_err());
    assert!(meant("--bucket b dev").is_err());
}

#[test]
fn help_and_version_are_no_mistakes() {
    for (line, code) in [
        ("--help", 0),
        ("-version", 0),
        ("--version", 0),
        ("-h", 0),
        ("--nonsense", 2),
        ("-ttl x", 2),
    ] {
        let Err(Error::Usage(error)) = meant(line) else {
            panic!("{line}");
        };
        assert_eq!(error.exit_code(), code, "{line}");
    }
    assert!(refusal("-version").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn switches_take_a_value_where_one_is_wanted() {
    assert!(config("--bucket b --read-only").writes.read_only);
    assert!(!config("--bucket b --read-only=false").writes.read_only);
    assert_eq!(config("--bucket b -verbose=false"), config("--bucket b"));
    assert!(
        !config("--bucket b --s3-endpoint http://s --s3-force-path-style=false")
            .origin
            .force_path_style
    );
    assert!(
        config("--bucket b --s3-force-path-style")
            .origin
            .force_path_style
    );
    assert!(!config("--bucket b").origin.force_path_style);
}

#[test]
fn a_flag_that_is_given_empty_is_not_given() {
    assert_eq!(
        config(
            "--bucket b --peers= --k8s-discovery-id= --s3-endpoint= --host= --node-name= --log-level= --buckets="
        ),
        config("--bucket b")
    );
}

#[test]
fn the_buckets_that_may_be_named_are_these() {
    let one = config("--buckets b").buckets;
    assert_eq!(one.default.as_deref(), Some("b"));
    assert!(one.allow("b") && !one.allow("c"));
    let two = config("--buckets b,c").buckets;
    assert_eq!(two.default, None);
    assert!(two.allow("b") && two.allow("c") && !two.allow("d"));
    let default = config("--bucket d --buckets b,d").buckets;
    assert_eq!(default.default.as_deref(), Some("d"));
    assert_eq!(default.allowed.unwrap(), ["b", "d"]);
    let any = config("--bucket b --buckets *").buckets;
    assert_eq!(any.default.as_deref(), Some("b"));
    assert!(any.allow("whatever"));
    assert_eq!(config("--buckets *").buckets.default, None);
}

#[test]
fn the_cache_takes_half_of_what_the_container_has() {
    let limit = |line: &str, memory_limit| {
        let argv = ["falcon-cache", "--bucket", "b"]
            .into_iter()
            .chain(line.split_whitespace());
        let env = Environment {
            memory_limit,
            ..env()
        };
        Args::read(argv).unwrap().into_config(&env)
    };
    assert_eq!(limit("", None).unwrap().memory.limit, 512 << 20);
    assert_eq!(
        limit("", Some((1 << 30) + 4096)).unwrap().memory.limit,
        512 << 20
    );
    assert_eq!(
        limit("--max-cache-size 100", Some(1 << 30))
            .unwrap()
            .memory
            .limit,
        100 << 20
    );
    let tight = limit("--max-cache-size 1000", Some(1 << 30)).unwrap();
    assert!(tight.warnings[0].contains("may be killed"), "{tight:?}");
    let error = limit("", Some(16 << 20)).unwrap_err().to_string();
    assert!(
        error.contains("--max-cache-size 8, half of this container's memory limit,"),
        "{error}"
    );
}

#[test]
fn sizes_and_times_come_in_bytes_and_durations() {
    let config = config(
        "--bucket b --max-cache-size 1000 --block-size 64 --replica-share 10 --stale-if-error 2 --negative-ttl 0 --drain-timeout 3",
    );
    assert_eq!(
        (config.memory.limit, config.memory.block),
        (1000 << 20, 64 << 10)
    );
    assert_eq!(config.memory.replicas, 100 << 20);
    assert_eq!(config.freshness.stale_if_error, Duration::from_mins(2));
    assert_eq!(config.freshness.negative_ttl, Duration::ZERO);
    assert_eq!(config.network.drain_timeout, Duration::from_secs(3));
}

#[test]
fn kubernetes_knows_the_pod() {
    let given = config("--bucket b --k8s-discovery-id main --peer-token-file /t");
    assert_eq!(
        given.ring.discovery,
        Discovery::Kubernetes {
            id: "main".into(),
            namespace: "apps".into(),
            api: DiscoveryApi::EndpointSlices,
            node: "falcon-1".into(),
        }
    );
    assert_eq!(given.ring.host, "10.0.0.7");
    assert_eq!((given.network.admin_port, given.network.s3), (9095, None));
    assert_eq!(given.warnings, [""; 0]);
    let given = config(
        "--bucket b --k8s-discovery-id main --k8s-discovery-api endpoints --k8s-namespace n --node-name p --host fd00::1",
    );
    assert_eq!(
        given.ring.discovery,
        Discovery::Kubernetes {
            id: "main".into(),
            namespace: "n".into(),
            api: DiscoveryApi::Endpoints,
            node: "p".into()
        }
    );
    assert_eq!(given.ring.host, "fd00::1");
    assert!(given.warnings[0].contains("--peer-token-file"));
}

#[test]
fn a_sidecar_is_for_its_own_pod_and_keeps_copies_alone() {
    let given =
        config("--bucket b --sidecar --k8s-discovery-id main --peer-token-file /t --zone z");
    assert!(given.ring.sidecar);
    assert_eq!(
        given.ring.discovery,
        Discovery::Kubernetes {
            id: "main".into(),
            namespace: "apps".into(),
            api: DiscoveryApi::EndpointSlices,
            node: "sidecar@falcon-1".into(),
        }
    );
    assert_eq!(given.ring.host, "localhost");
    assert_eq!(given.ring.zone.as_deref(), Some("z"));
    assert_eq!(
        (given.memory.limit, given.memory.replicas),
        (64 << 20, 64 << 20)
    );
    assert_eq!(given.network.listen, Some([127, 0, 0, 1].into()));
    assert_eq!(given.network.admin_listen, None);
    assert_eq!(given.warnings, [""; 0]);
    assert!(
        given
            .to_string()
            .contains(" sidecar=true discovery=apps/main ")
    );

    let given = config(
        "--bucket b --sidecar --peers http://localhost:8080 --port 8090 --listen 10.0.0.7 --max-cache-size 100 --replica-share 5",
    );
    assert_eq!(given.memory.replicas, 100 << 20);
    assert_eq!(given.network.listen, Some([10, 0, 0, 7].into()));
    assert_eq!(given.network.admin_listen, given.network.listen);
    // The one of the list has the usual ports of this host.
    assert_eq!((given.network.admin_port, given.network.s3), (0, None));
    assert!(!config("--bucket b --sidecar=false").ring.sidecar);
}

#[test]
fn a_sidecar_does_not_take_half_of_what_the_container_has() {
    let env = Environment {
        memory_limit: Some(1 << 30),
        pod_address: None,
        ..env()
    };
    let argv = "falcon-cache --bucket b --sidecar --k8s-discovery-id main";
    let given = Args::read(argv.split_whitespace()).unwrap();
    assert_eq!(given.into_config(&env).unwrap().memory.limit, 64 << 20);
}

#[test]
fn outside_of_a_pod_kubernetes_wants_to_be_told() {
    let told = |line: &str| {
        let argv = ["falcon-cache", "--bucket", "b", "--k8s-discovery-id", "x"]
            .into_iter()
            .chain(line.split_whitespace());
        Args::read(argv)
            .unwrap()
            .into_config(&Environment::default())
            .map_err(|error| error.to_string())
    };
    assert!(told("").unwrap_err().contains("--host"));
    assert!(told("--host h").unwrap_err().contains("--k8s-namespace"));
    assert!(
        told("--host h --k8s-namespace n")
            .unwrap_err()
            .contains("--node-name")
    );
    assert!(told("--host h --k8s-namespace n --node-name p").is_ok());
}

#[test]
fn the_pods_address_is_the_one_that_kubelet_noted() {
    let hosts = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost falcon-1\nfd00::7\tfalcon-1\n10.0.0.7\tfalcon-1.cache.apps.svc\tfalcon-1 # me\n10.0.0.8\tother\n";
    assert_eq!(
        ring::pod_address(hosts, "falcon-1"),
        Some([10, 0, 0, 7].into())
    );
    assert_eq!(
        ring::pod_address("fd00::7 falcon-1", "falcon-1"),
        "fd00::7".parse().ok()
    );
    assert_eq!(ring::pod_address("127.0.1.1 falcon-1", "falcon-1"), None);
    assert_eq!(ring::pod_address(hosts, "falcon"), None);
}

/// What is typed, and what the refusal must name: the flag and the fix.
const REFUSED: &[(&str, &str, &str)] = &[
    ("", "--bucket", "--buckets '*'"),
    (
        "--bucket b --peers http://a:1 --k8s-discovery-id x",
        "--peers and --k8s-discovery-id",
        "leave one",
    ),
    (
        "--bucket b --read-only --cache-on-write",
        "--read-only",
        "leave one",
    ),
    (
        "--bucket b --port 9095",
        "--port and --admin-port are both 9095",
        "another port",
    ),
    (
        "--bucket b --s3-auth none --s3-port 8080",
        "--port and --s3-port",
        "another port",
    ),
    (
        "--bucket b --s3-auth none --s3-port 9095",
        "--s3-port and --admin-port",
        "another port",
    ),
    ("--bucket b --block-size 1000", "--block-size 1000", "1024"),
    ("--bucket b --block-size 32", "--block-size 32", "1024"),
    (
        "--bucket b --block-size 32768",
        "--block-size 32768",
        "1024",
    ),
    (
        "--bucket b --max-cache-size 15",
        "--max-cache-size 15",
        "at least 16",
    ),
    (
        "--bucket b --max-cache-size 255 --block-size 16384",
        "--max-cache-size 255",
        "at least 256",
    ),
    ("--bucket b --node-name n", "--node-name", "leave it out"),
    ("--bucket b --sidecar", "--sidecar", "--k8s-discovery-id"),
    (
        "--bucket b --sidecar --peers http://a:1 --host a",
        "--host is for members",
        "leave it out",
    ),
    (
        "--bucket b --sidecar --k8s-discovery-id x --node-name n",
        "--node-name is for members",
        "leave it out",
    ),
    (
        "--bucket b --sidecar --peers http://a:1 --block-size 16384",
        "--max-cache-size 64, the default of a sidecar,",
        "at least 256",
    ),
    ("--bucket b --host http://a", "--host", "without http://"),
    ("--bucket b --host a:80", "--host", "without the port"),
    (
        "--bucket b --s3-endpoint minio:9000",
        "--s3-endpoint",
        "http://minio:9000",
    ),
    (
        "--bucket b --s3-endpoint http://k:s@minio",
        "--s3-endpoint",
        "--s3-credentials-dir",
    ),
    ("--bucket s3://b/p", "is a URL", "the bucket is \"b\""),
    ("--bucket a/b", "--bucket", "without blanks"),
    ("--buckets *,b", "--buckets", "no others"),
    (
        "--bucket b --k8s-discovery-id a,b=c",
        "--k8s-discovery-id",
        "label",
    ),
    (
        "--bucket b --k8s-discovery-id x --k8s-namespace a/b",
        "--k8s-namespace",
        "lower-case",
    ),
    ("--bucket b --log-level loud", "--log-level", "debug"),
    ("--bucket b --timeout 0", "--timeout <MS>", "1.."),
    (
        "--bucket b --replica-share 91",
        "--replica-share <PERCENT>",
        "90",
    ),
];

#[test]
fn what_contradicts_itself_is_refused_with_the_flag_and_the_fix() {
    for (line, flag, fix) in REFUSED {
        let said = refusal(line);
        assert!(said.contains(flag) && said.contains(fix), "{line}: {said}");
    }
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    for (line, word) in [
        (
            "--bucket b --max-cache-size 100 --max-blob-size 101",
            "--max-blob-size 101",
        ),
        ("--bucket b --k8s-namespace n", "--k8s-namespace"),
    ] {
        assert!(config(line).warnings[0].contains(word), "{line}");
    }
}

#[test]
fn a_port_of_zero_clashes_with_none() {
    let network = config("--bucket b --port 0 --admin-port 0 --s3-port 0 --s3-auth none").network;
    let s3_port = network.s3.map(|s3| s3.port);
    assert_eq!((network.port, network.admin_port, s3_port), (0, 0, Some(0)));
}

#[test]
fn the_s3_door_opens_only_to_those_who_are_named() {
    assert_eq!(config("--bucket b").network.s3, None);
    assert_eq!(config("--bucket b --s3-port 0").network.s3, None);
    let open = config("--bucket b --s3-auth none --s3-domain s3.lan,s3.example");
    assert!(open.warnings[0].contains("--s3-auth none"));
    assert_eq!(
        open.network.s3,
        Some(S3Config {
            port: 9000,
            domains: vec!["s3.lan".into(), "s3.example".into()]
        })
    );
    let kept = config("--bucket b --s3-auth keys --access-file /etc/a.yaml").network;
    assert_eq!(kept.access_file.as_deref(), Some(Path::new("/etc/a.yaml")));
    assert_eq!(kept.s3.unwrap().port, 9000);
    for (line, fix) in [
        ("--bucket b --s3-port 9001", "--s3-auth"),
        ("--bucket b --s3-domain s3.lan", "--s3-auth"),
        ("--bucket b --s3-auth keys", "--access-file"),
        (
            "--bucket b --s3-auth keys --access-file a --peers http://localhost:8080,http://localhost:8081",
            "--peer-token-file",
        ),
        (
            "--bucket b --s3-auth none --access-file a",
            "--s3-auth keys",
        ),
        (
            "--bucket b --s3-auth none --s3-domain http://s3",
            "--s3-domain",
        ),
    ] {
        let refusal = refusal(line);
        assert!(refusal.contains(fix), "{line}: {refusal}");
    }
}

#[test]
fn what_kubernetes_says_of_a_service_named_falcon_is_no_port_of_this_node() {
    let link = "tcp://10.96.0.5:80";
    assert_eq!(
        config(&format!(
            "--bucket b --port {link} --s3-port {link} --admin-port {link}"
        )),
        config("--bucket b")
    );
    assert!(refusal("--bucket b --port http").contains("--port <PORT>"));
}

#[test]
fn levels_by_module_pass_as_they_are() {
    assert_eq!(
        config("--bucket b --log-level warn,falcon_cache=trace")
            .log
            .filter,
        "warn,falcon_cache=trace"
    );
    assert_eq!(
        config("--bucket b --verbose --log-level ERROR").log.filter,
        "error"
    );
    assert_eq!(
        config("--bucket b --log-format json").log.format,
        LogFormat::Json
    );
}

#[test]
fn the_line_for_the_log_says_what_is_meant() {
    let line = config("--buckets b,c --k8s-discovery-id main --ttl 0 --max-cache-size 800 --peer-token-file /secret").to_string();
    assert_eq!(
        line,
        "buckets=b,c endpoint=AWS discovery=apps/main node=falcon-1 s3=off access=everybody host=10.0.0.7 port=8080 admin_port=9095 cache_mb=800 replica_mb=96 block_kib=1024 max_blob_mb=128 ttl=never timeout=5s read_only=false"
    );
    assert!(
        config("--bucket b")
            .to_string()
            .contains("ring=alone s3=off access=everybody host=localhost")
    );
}
