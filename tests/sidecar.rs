//! A sidecar: it owns nothing and believes nothing, so the barrier holds for it although nobody tells it anything.

mod barrier;
mod read;
mod write;

use std::process::Stdio;

use serde_json::Value;

use crate::harness::node::{Process, Ring, SIDECAR, TestNode, free_ports, metric};
use crate::harness::s3::S3;
use crate::harness::{http, until};

/// Bytes of objects that it has got from the nodes of the ring.
async fn peer_bytes(sidecar: &TestNode) -> u64 {
    let bytes = metric(&sidecar.admin, "falcon_peer_bytes_total").await;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of a few GiB at most"
    )]
    let whole = bytes as u64;
    whole
}

/// What `/ring` says at a node.
async fn ring_at(node: &TestNode) -> Value {
    http::get(&format!("{}/ring", node.url)).await.json()
}

fn names(of: &Value) -> Vec<&str> {
    let all = of.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_follows_the_ring_and_no_member_knows_of_it() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let sidecar = ring.sidecar(&[]).await;
    let members = |seen: &Value| {
        let mut names = names(&seen["members"]).join(" ");
        names.push_str(if seen["sidecar"] == true {
            " beside"
        } else {
            ""
        });
        names
    };
    let seen = ring_at(&sidecar).await;
    assert_eq!(seen["me"], SIDECAR);
    for node in &ring.nodes {
        assert_eq!(members(&ring_at(node).await) + " beside", members(&seen));
        assert_eq!(node.node.members().contacts().len(), 2);
        assert!((metric(&node.admin, "falcon_ring_members").await - 3.0).abs() < 0.5);
        let answer = http::post(&format!("{}/invalidate?all=true", node.url)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        let mut told = names(&told["nodes"]);
        told.sort_unstable();
        assert_eq!(told, names(&seen["members"]));
    }
    sidecar.node.leave().await;
    for node in &ring.nodes {
        assert_eq!(names(&ring_at(node).await["members"]).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_binary_reads_from_three_nodes_and_serves_its_host_alone() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "hello");
    let ports = free_ports(4);
    let peers: Vec<_> = ports[..3]
        .iter()
        .map(|port| format!("http://localhost:{port}"))
        .collect();
    let flags = [
        "--bucket=bucket".to_owned(),
        format!("--s3-endpoint={}", s3.endpoint()),
        "--s3-region=us-east-1".to_owned(),
        format!("--peers={}", peers.join(",")),
        "--log-level=warn".to_owned(),
    ];
    let mut nodes = Vec::new();
    for port in &ports[..3] {
        let mut flags = flags.to_vec();
        flags.push(format!("--port={port}"));
        let Some(node) = Process::spawn(*port, &flags, Stdio::inherit()) else {
            return;
        };
        nodes.push(node);
    }
    for node in &nodes {
        node.ready().await;
    }
    let mut flags = flags.to_vec();
    flags.push("--sidecar".to_owned());
    let sidecar = Process::start(ports[3], &flags).await.unwrap();
    assert_eq!(nodes[0].get("key").await.text(), "hello");
    // Who answers the first heartbeat late is passed over for a moment.
    until("an answer of the ring", || async {
        (sidecar.get("key").await.source() == "memory").then_some(())
    })
    .await;
    let answer = sidecar.get("key").await;
    assert_eq!(answer.text(), "hello");
    assert_eq!(
        answer.header("x-falcon-node"),
        format!("sidecar@localhost:{}", ports[3])
    );
    assert_eq!(s3.count("GetObject"), 1, "{:?}", s3.counts());
    // Not at another address of this host.
    let elsewhere = format!("http://127.0.0.2:{}/healthz", ports[3]);
    assert!(http::try_get(&elsewhere).await.is_err());
    let at_a_node = format!("http://127.0.0.2:{}/healthz", ports[0]);
    assert_eq!(http::get(&at_a_node).await.status, 200);
}
