//! The command line, and what a node says of an S3 that does not let it in.

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
async fn a_mistaken_command_line_is_told_with_the_flag_and_exits_with_2() {
    for (line, named) in [
        ("", "--bucket"),
        ("--bukket b", "--bukket"),
        ("-bukket b", "-b"),
        ("--bucket b --ttl ten", "--ttl"),
        ("-bucket b -ttl ten", "--ttl"),
        ("--bucket b --port 70000", "--port"),
        (
            "--bucket b --read-only --cache-on-write",
            "--cache-on-write",
        ),
        (
            "--bucket b --peers http://localhost:1 --k8s-discovery-id x",
            "--k8s-discovery-id",
        ),
        ("--bucket b --port 7000 --admin-port 7000", "--admin-port"),
        ("--bucket b --sidecar", "--k8s-discovery-id"),
        ("--bucket b --block-size 100", "--block-size"),
        ("--bucket b --s3-endpoint localhost:9000", "--s3-endpoint"),
        ("--bucket b dev", "dev"),
        ("dev --bucket b", "--bucket"),
        ("dev --nodes 0", "--nodes"),
        ("serve", "--bucket"),
    ] {
        let Some(output) = run(line).await else {
            return;
        };
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(named), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_peers_without_this_node_is_told_with_the_way_out() {
    let port = free_ports(1)[0];
    let line = format!("-bucket b -port {port} -peers http://localhost:1,http://localhost:2");
    let Some(output) = run(&line).await else {
        return;
    };
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("--peers") && said.contains(&port.to_string()),
        "{said}"
    );
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
        panic!("it ended and said nothing of S3");
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
