//! The command line: what it says of mistakes, and with which status it exits. And what a node logs of an S3 that
//! does not let it in.

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::harness::DEADLINE;
use crate::harness::http;
use crate::harness::node::{Process, command, free_ports};
use crate::harness::s3::S3;

/// Runs it to its end; `line` is split at blanks.
async fn run(line: &str) -> Option<Output> {
    let mut command = command()?;
    command.args(line.split_whitespace());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = timeout(DEADLINE, command.output()).await;
    Some(ended.unwrap_or_else(|_| panic!("{line} goes on")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_exits_with_2_and_names_the_flag() {
    for (line, words) in [
        ("", "--bucket"),
        ("--bukket b", "--bukket"),
        ("-bukket b", "-b"),
        ("--bucket b --ttl ten", "--ttl"),
        ("-bucket b -ttl ten", "--ttl"),
        ("--bucket b --port 70000", "--port"),
        (
            "--bucket b --read-only --cache-on-write",
            "--read-only refuses the uploads that --cache-on-write would keep",
        ),
        (
            "--bucket b --peers http://localhost:1 --k8s-discovery-id x",
            "--peers and --k8s-discovery-id both name the ring's nodes",
        ),
        (
            "-bucket b -peers http://localhost:1,http://localhost:2",
            "--peers must include this node, http://localhost:8080; got http://localhost:1,http://localhost:2. Add it",
        ),
        (
            "--bucket b --port 0 --peers http://localhost:1",
            "--peers must include this node",
        ),
        (
            "--bucket b --peers https://localhost:8080",
            "got \"https://localhost:8080\": nodes speak plain HTTP to each other",
        ),
        (
            "--bucket b --peers localhost:8080,127.0.0.1:8080",
            "--peers must name each node once",
        ),
        (
            "--bucket b --sidecar --peers localhost:8080",
            "--peers must not include a sidecar",
        ),
        (
            "--bucket b --port 7000 --admin-port 7000",
            "--port and --admin-port must be different ports; got 7000 for both",
        ),
        ("--bucket b --sidecar", "--k8s-discovery-id"),
        (
            "--bucket b --block-size 100",
            "--block-size must be a power of two between 64 and 16384 (KiB); got 100",
        ),
        (
            "--bucket b --s3-endpoint localhost:9000",
            "--s3-endpoint must begin with http:// or https://; got \"localhost:9000\"",
        ),
        (
            "--bucket b --s3-endpoint http://%zz:1",
            "--s3-endpoint must be http://HOST:PORT",
        ),
        ("--bucket b dev", "dev"),
        ("dev --bucket b", "--bucket"),
        ("dev --nodes 0", "--nodes"),
        ("dev --port 65535", "--port must leave room"),
        ("serve", "--bucket"),
    ] {
        let Some(output) = run(line).await else {
            return;
        };
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
        assert!(stderr.contains(words), "{line}: {stderr}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_environment_exits_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (line, words) in [
        (
            format!("--bucket b --listen 127.0.0.1 --admin-port 0 --port {port}"),
            format!("failed to listen on --port {port}: "),
        ),
        (
            "--bucket b --port 0 --admin-port 0 --access-file /no/such".to_owned(),
            "/no/such".to_owned(),
        ),
        (
            "--bucket b --port 0 --admin-port 0 --peer-token-file /no/such".to_owned(),
            "failed to read the peer token from /no/such: ".to_owned(),
        ),
    ] {
        let Some(output) = run(&line).await else {
            return;
        };
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(stderr.contains(&words), "{line}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_version_are_printed_and_exit_with_0() {
    for (line, printed) in [
        ("--help", "--max-cache-size <MB>"),
        ("-h", "--max-cache-size <MB>"),
        ("-help", "--max-cache-size <MB>"),
        ("serve --help", "--max-cache-size <MB>"),
        ("dev --help", "--nodes <COUNT>"),
        ("--version", env!("CARGO_PKG_VERSION")),
        ("-V", env!("CARGO_PKG_VERSION")),
        ("-version", env!("CARGO_PKG_VERSION")),
    ] {
        let Some(output) = run(line).await else {
            return;
        };
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
        assert!(said.contains(printed), "{line}: {said}");
    }
}

/// Starts a node alone in front of that S3; the first line of its log that speaks of S3, once it is ready.
async fn said_of_s3(endpoint: &str) -> Option<(Process, String)> {
    let port = free_ports(1)[0];
    let flags = [
        format!("--port={port}"),
        "--admin-port=0".to_owned(),
        "--bucket=bucket".to_owned(),
        format!("--s3-endpoint={endpoint}"),
        "--log-format=json".to_owned(),
    ];
    let mut node = Process::spawn(port, &flags, Stdio::piped())?;
    node.ready().await;
    let mut log = BufReader::new(node.child.stderr.take().unwrap()).lines();
    let said = async {
        while let Some(line) = log.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["bucket"] == "bucket" {
                return line;
            }
        }
        panic!("it ended, and its log says nothing of S3");
    };
    let line = timeout(DEADLINE, said).await.unwrap();
    // Whoever still writes there does not fail.
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    Some((
        node,
        format!("{} {} {}", line["level"], line["error"], line["way_out"]),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_s3_and_says_where_it_looked() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "hello");
    s3.stop().await;
    let Some((node, said)) = said_of_s3(&s3.endpoint()).await else {
        return;
    };
    assert!(
        said.contains("ERROR") && said.contains(&s3.endpoint()),
        "{said}"
    );
    assert_eq!(node.get("key").await.status, 502);
    assert_eq!(http::get(&format!("{}/readyz", node.url)).await.status, 200);
    s3.start_again().await;
    assert_eq!(node.get("key").await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_with_keys_that_s3_refuses_and_says_what_to_do() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "hello");
    s3.demand(&[("another", "one")]);
    let Some((node, said)) = said_of_s3(&s3.endpoint()).await else {
        return;
    };
    assert!(
        said.contains("ERROR") && said.contains("InvalidAccessKeyId"),
        "{said}"
    );
    assert!(said.contains("access-key-id"), "the way out: {said}");
    let answer = node.get("key").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["code"]),
        (403, &"InvalidAccessKeyId".into())
    );
    assert_eq!(http::get(&format!("{}/readyz", node.url)).await.status, 200);
}
