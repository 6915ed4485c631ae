//! Flags that are refused, and what the others resolve to.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::discovery::{Host, WatchedApi};
use crate::origin::Endpoint;

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
    assert_eq!(config.ring.host, Host::localhost());
    assert_eq!(config.network.port, 8080);
    assert_eq!(config.node.proxy.max_blob_size, 128 << 20);
    assert_eq!(config.node.proxy.timeout, Duration::from_secs(5));
    assert_eq!(config.node.proxy.ttl, Some(Duration::from_hours(1)));
    assert_eq!(config.ring.discovery, Discovery::Fixed { peers: vec![] });
    assert_eq!(config.node.origin.s3_endpoint, None);
    assert!(config.log.filter.starts_with("info,"));
    assert_eq!(config.node.api.bucket.as_deref(), Some("b"));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_originals_command_line_means_what_it_meant() {
    let given = "-bucket b -s3-endpoint http://minio:9000 -peers http://localhost:8080,http://localhost:8081 \
                 -host localhost -port 8081 -max-blob-size=64 -timeout 100 -ttl 0 -verbose";
    let config = config(given);
    assert_eq!(
        config
            .node
            .origin
            .s3_endpoint
            .as_ref()
            .map(Endpoint::as_str),
        Some("http://minio:9000")
    );
    assert_eq!(
        config.ring.discovery,
        Discovery::Fixed {
            peers: ["http://localhost:8080", "http://localhost:8081"]
                .map(|peer| peer.parse().unwrap())
                .into()
        }
    );
    assert_eq!(
        (config.network.port, config.node.proxy.max_blob_size),
        (8081, 64 << 20)
    );
    assert_eq!(config.node.proxy.timeout, Duration::from_millis(100));
    assert_eq!(config.node.proxy.ttl, None);
    assert_eq!(config.log.filter, "debug");
    assert!(config.node.origin.s3_force_path_style);
    // Two nodes on one host must not collide at ports that the first Falcon did not have.
    assert_eq!(
        (config.network.admin_port, config.network.s3_port),
        (0, None)
    );
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
fn help_and_version_are_not_mistakes() {
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
    assert!(config("--bucket b --read-only").node.web.read_only);
    assert!(!config("--bucket b --read-only=false").node.web.read_only);
    assert_eq!(config("--bucket b -verbose=false"), config("--bucket b"));
    assert!(
        !config("--bucket b --s3-endpoint http://s --s3-force-path-style=false")
            .node
            .origin
            .s3_force_path_style
    );
    assert!(
        config("--bucket b --s3-force-path-style")
            .node
            .origin
            .s3_force_path_style
    );
    assert!(!config("--bucket b").node.origin.s3_force_path_style);
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
fn the_buckets_that_may_be_named_are_those_of_the_flags() {
    for (flags, default, served) in [
        ("--buckets b", Some("b"), "b"),
        ("--buckets b,c", None, "b,c"),
        ("--bucket d --buckets b,d", Some("d"), "b,d"),
        ("--bucket b --buckets *", Some("b"), "*"),
        ("--buckets *", None, "*"),
    ] {
        let node = config(flags).node;
        assert_eq!(node.api.bucket.as_deref(), default, "{flags}");
        assert_eq!(node.web.buckets.to_string(), served, "{flags}");
    }
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
    assert_eq!(limit("", None).unwrap().node.max_cache_size, 512 << 20);
    assert_eq!(
        limit("", Some((1 << 30) + 4096))
            .unwrap()
            .node
            .max_cache_size,
        512 << 20
    );
    assert_eq!(
        limit("--max-cache-size 100", Some(1 << 30))
            .unwrap()
            .node
            .max_cache_size,
        100 << 20
    );
    let tight = limit("--max-cache-size 1000", Some(1 << 30)).unwrap();
    assert!(
        tight.warnings[0].contains("may run out of memory"),
        "{tight:?}"
    );
    let error = limit("", Some(16 << 20)).unwrap_err().to_string();
    assert!(
        error.contains("got 8, half of this container's memory limit"),
        "{error}"
    );
}

#[test]
fn sizes_and_times_come_in_bytes_and_durations() {
    let config = config(
        "--bucket b --max-cache-size 1000 --block-size 64 --replica-share 10 --stale-if-error 2 --negative-ttl 0 --drain-timeout 3",
    );
    assert_eq!(
        (config.node.max_cache_size, config.node.proxy.blocks.size),
        (1000 << 20, 64 << 10)
    );
    assert_eq!(config.node.replica_share, 100 << 20);
    assert_eq!(config.node.proxy.stale_if_error, Duration::from_mins(2));
    assert_eq!(config.node.proxy.negative_ttl, Duration::ZERO);
    assert_eq!(config.node.limits.drain_timeout, Duration::from_secs(3));
}

#[test]
fn kubernetes_knows_the_pod() {
    let given = config("--bucket b --k8s-discovery-id main --peer-token-file /t");
    assert_eq!(
        given.ring.discovery,
        Discovery::Kubernetes {
            k8s_discovery_id: "main".into(),
            k8s_discovery_api: WatchedApi::EndpointSlices,
            k8s_namespace: "apps".into(),
            node_name: "falcon-1".into(),
        }
    );
    assert_eq!(given.ring.host.to_string(), "10.0.0.7");
    assert_eq!(
        (given.network.admin_port, given.network.s3_port),
        (9095, None)
    );
    assert_eq!(given.warnings, [""; 0]);
    let given = config(
        "--bucket b --k8s-discovery-id main --k8s-discovery-api endpoints --k8s-namespace n --node-name p --host fd00::1",
    );
    assert_eq!(
        given.ring.discovery,
        Discovery::Kubernetes {
            k8s_discovery_id: "main".into(),
            k8s_discovery_api: WatchedApi::Endpoints,
            k8s_namespace: "n".into(),
            node_name: "p".into()
        }
    );
    assert_eq!(given.ring.host.to_string(), "fd00::1");
    assert!(given.warnings[0].contains("--peer-token-file"));
}

#[test]
fn a_sidecar_is_for_its_own_pod_and_keeps_copies_alone() {
    let given =
        config("--bucket b --sidecar --k8s-discovery-id main --peer-token-file /t --zone z");
    assert!(given.node.sidecar);
    assert_eq!(
        given.ring.discovery,
        Discovery::Kubernetes {
            k8s_discovery_id: "main".into(),
            k8s_discovery_api: WatchedApi::EndpointSlices,
            k8s_namespace: "apps".into(),
            node_name: "sidecar@falcon-1".into(),
        }
    );
    assert_eq!(given.ring.host.to_string(), "localhost");
    assert_eq!(given.node.zone.as_deref(), Some("z"));
    assert_eq!(
        (given.node.max_cache_size, given.node.replica_share),
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
    assert_eq!(given.node.replica_share, 100 << 20);
    assert_eq!(given.network.listen, Some([10, 0, 0, 7].into()));
    assert_eq!(given.network.admin_listen, given.network.listen);
    // The one of the list has the usual ports of this host.
    assert_eq!((given.network.admin_port, given.network.s3_port), (0, None));
    assert!(!config("--bucket b --sidecar=false").node.sidecar);
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
    assert_eq!(
        given.into_config(&env).unwrap().node.max_cache_size,
        64 << 20
    );
}

#[test]
fn outside_of_a_pod_its_address_namespace_and_name_must_be_given() {
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

/// Wrong command lines, and what the refusals say in full: what must be, what was got, and the way out where there is
/// one.
const REFUSED: &[(&str, &str)] = &[
    (
        "",
        "no bucket is given: name one with --bucket, several with --buckets, or allow any with --buckets '*'",
    ),
    (
        "--bucket s3://b/p",
        "--bucket must be a bucket's name, of letters, digits, '-', '.', '_' or ':'; got \"s3://b/p\". Write \"b\"",
    ),
    (
        "--buckets a/b",
        "--buckets must be a bucket's name, of letters, digits, '-', '.', '_' or ':'; got \"a/b\"",
    ),
    (
        "--buckets *,b",
        "--buckets must be names or '*' alone, which allows any bucket; got \"*,b\"",
    ),
    (
        "--bucket b --peers http://a:1 --k8s-discovery-id x",
        "--peers and --k8s-discovery-id both name the ring's nodes: leave one of them out",
    ),
    (
        "--bucket b --peers https://a:1",
        "--peers must list http://HOST:PORT, comma separated; got \"https://a:1\": nodes speak plain HTTP to each other",
    ),
    (
        "--bucket b --peers http://a:1,http://b:2",
        "--peers must include this node, http://localhost:8080; got http://a:1,http://b:2. Add it, or say with --host and --port which one it is",
    ),
    (
        "--bucket b --port 1 --peers localhost:1,127.0.0.1:1",
        "--peers must name each node once; got http://localhost:1 and http://127.0.0.1:1, which are the same node",
    ),
    (
        "--bucket b --sidecar --port 1 --peers localhost:1",
        "--peers must not include a sidecar; got http://localhost:1, which is this one. Take it out, or give the sidecar another --port",
    ),
    (
        "--bucket b --read-only --cache-on-write",
        "--read-only refuses the uploads that --cache-on-write would keep: leave one of them out",
    ),
    (
        "--bucket b --port 9095",
        "--port and --admin-port must be different ports; got 9095 for both",
    ),
    (
        "--bucket b --s3-auth none --s3-port 8080",
        "--port and --s3-port must be different ports; got 8080 for both",
    ),
    (
        "--bucket b --s3-auth none --s3-port 9095",
        "--s3-port and --admin-port must be different ports; got 9095 for both",
    ),
    (
        "--bucket b --block-size 100",
        "--block-size must be a power of two between 64 and 16384 (KiB); got 100. The default is 1024",
    ),
    ("--bucket b --block-size 32", "; got 32. "),
    ("--bucket b --block-size 32768", "; got 32768. "),
    (
        "--bucket b --max-cache-size 15",
        "--max-cache-size must be at least 16 (MB) to hold 16 blocks of 1024 KiB; got 15. Raise it, or lower --block-size",
    ),
    (
        "--bucket b --max-cache-size 255 --block-size 16384",
        "--max-cache-size must be at least 256 (MB)",
    ),
    (
        "--bucket b --sidecar --peers http://a:1 --block-size 16384",
        "; got 64, the default of a sidecar. ",
    ),
    (
        "--bucket b --node-name n",
        "--node-name needs --k8s-discovery-id: in a list of --peers a node's name is its URL. Leave it out",
    ),
    (
        "--bucket b --sidecar",
        "--sidecar needs a ring to ask: name it with --k8s-discovery-id, or list its nodes with --peers",
    ),
    (
        "--bucket b --sidecar --peers http://a:1 --host a",
        "--host is for members of the ring, and a sidecar is not one: leave it out",
    ),
    (
        "--bucket b --sidecar --k8s-discovery-id x --node-name n",
        "--node-name is for members of the ring, and a sidecar is not one: leave it out",
    ),
    (
        "--bucket b --host http://a",
        "--host must be a host name or an IP address, without http:// and without a port; got \"http://a\"",
    ),
    ("--bucket b --host a:80", "; got \"a:80\""),
    (
        "--bucket b --s3-endpoint minio:9000",
        "--s3-endpoint must begin with http:// or https://; got \"minio:9000\". Write http://minio:9000 or https://minio:9000",
    ),
    (
        "--bucket b --s3-endpoint http://k:s@minio",
        "--s3-endpoint must be http://HOST:PORT or https://HOST:PORT, without keys, query or blanks: keys go in --s3-credentials-dir",
    ),
    (
        "--bucket b --k8s-discovery-id a,b=c",
        "--k8s-discovery-id must be a label's value: up to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends; got \"a,b=c\"",
    ),
    (
        "--bucket b --k8s-discovery-id x --k8s-namespace a/b",
        "--k8s-namespace must be a namespace's name: up to 63 lower-case letters, digits and '-'; got \"a/b\"",
    ),
    (
        "--bucket b --log-level loud",
        "--log-level must be error, warn, info, debug or trace, or MODULE=LEVEL, comma separated; got \"loud\"",
    ),
    (
        "--bucket b --timeout 0",
        "'--timeout <MS>': 0 is not in 1..",
    ),
    (
        "--bucket b --replica-share 91",
        "'--replica-share <PERCENT>': 91 is not in 0..=90",
    ),
    (
        "dev --port 65535",
        "--port must leave room for the other nodes' ports; got 65535 with --nodes 3. Use a lower one",
    ),
    (
        "--bucket b --s3-port 9001",
        "--s3-port needs --s3-auth, without which the S3 API is off: add --s3-auth keys, or --s3-auth none",
    ),
    (
        "--bucket b --s3-domain s3.lan",
        "--s3-domain needs --s3-auth",
    ),
    (
        "--bucket b --s3-auth keys",
        "--s3-auth keys needs --access-file, which lists the keys: add it, or let everybody in with --s3-auth none",
    ),
    (
        "--bucket b --s3-auth none --access-file a",
        "--s3-auth none would bypass --access-file: use --s3-auth keys, or leave --access-file out",
    ),
    (
        "--bucket b --s3-auth keys --access-file a --peers http://localhost:8080,http://localhost:8081",
        "--access-file needs --peer-token-file where there are peers",
    ),
    (
        "--bucket b --s3-auth none --s3-domain http://s3",
        "--s3-domain must be a host name, without http:// and without a port; got \"http://s3\"",
    ),
];

#[test]
fn what_contradicts_itself_is_refused_with_the_flag_and_the_way_out() {
    for (line, words) in REFUSED {
        let refusal = refusal(line);
        assert!(refusal.contains(words), "{line}: {refusal}");
    }
}

#[test]
fn a_setting_that_is_probably_not_meant_gives_a_warning() {
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
    assert_eq!(
        (network.port, network.admin_port, network.s3_port),
        (0, 0, Some(0))
    );
}

#[test]
fn the_s3_api_is_off_until_it_is_said_who_may_use_it() {
    assert_eq!(config("--bucket b").network.s3_port, None);
    assert_eq!(config("--bucket b --s3-port 0").network.s3_port, None);
    let open = config("--bucket b --s3-auth none --s3-domain s3.lan,s3.example");
    assert!(open.warnings[0].contains("--s3-auth none"));
    assert_eq!(open.network.s3_port, Some(9000));
    assert_eq!(open.node.gateway.s3_domain, ["s3.lan", "s3.example"]);
    let guarded = config("--bucket b --s3-auth keys --access-file /etc/a.yaml");
    assert_eq!(
        guarded.node.access_file.as_deref(),
        Some(Path::new("/etc/a.yaml"))
    );
    assert_eq!(guarded.network.s3_port, Some(9000));
}

#[test]
fn a_service_named_falcon_does_not_set_this_nodes_ports() {
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
        config("--bucket b --log-format json").log.log_format,
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
