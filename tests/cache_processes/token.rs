//! The token by which nodes know each other.

use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use hyper::Request;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use super::{Cluster, Load, Objects, url};
use crate::harness::http::{self, Answer};
use crate::harness::node::{Process, free_ports};
use crate::harness::s3::S3;
use crate::harness::{DEADLINE, until};

const ROUTES: [&str; 5] = ["heartbeat", "read", "invalidate", "write-through", "warm"];

async fn knock(url: &str, route: &str, token: Option<&str>) -> Answer {
    let mut request =
        Request::post(format!("{url}/_falcon/{route}")).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("x-falcon-peer-token", token);
    }
    http::whole(request.body(Bytes::from_static(b"{}")).unwrap())
        .await
        .unwrap()
}

/// Replaces the file in one step, as Kubernetes does.
fn rotate(file: &Path, token: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, token).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_a_new_token_costs_no_request() {
    let s3 = S3::start().await;
    let objects = Objects::put(&s3, 60, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let flag = format!("--peer-token-file={}", file.display());
    let Some(cluster) = Cluster::start(&s3, &[&flag, "--replica-share=0"]).await else {
        return;
    };
    for node in &cluster.nodes {
        for route in ROUTES {
            for token in [None, Some(""), Some("firs"), Some("first2"), Some("second")] {
                let answer = knock(&node.url, route, token).await;
                assert_eq!(answer.status, 403, "{route} {token:?}: {}", answer.text());
                assert_eq!(answer.json()["kind"], "unauthorized");
            }
            let answer = knock(&node.url, route, Some("first")).await;
            // None of them is a heartbeat or a request.
            assert_eq!(answer.status, 400, "{route}: {}", answer.text());
            assert_eq!(answer.json()["kind"], "bad-request");
        }
    }
    let key = cluster.key_of(0, "small/0").await;
    s3.put("bucket", &key, "hello");
    for (node, source) in [(0, "origin"), (1, "peer"), (2, "peer")] {
        let answer = cluster.nodes[node].get(&key).await;
        assert_eq!((answer.source(), answer.text()), (source, "hello".into()));
    }
    objects.read_all(&cluster.nodes).await;

    let load = Load::start(&objects, &cluster.nodes, 2);
    load.more(50).await;
    rotate(&file, "second\n");
    for port in &cluster.ports {
        until("a node with the new token", || async {
            let known = knock(&url(*port), "heartbeat", Some("second")).await.status != 403;
            let refused = knock(&url(*port), "heartbeat", Some("first")).await.status == 403;
            (known && refused).then_some(())
        })
        .await;
    }
    cluster.all_serve().await;
    load.more(200).await;
    load.end().await;
    let forgotten = http::post(&format!("{}/invalidate?key={key}", cluster.nodes[1].url)).await;
    assert_eq!(forgotten.status, 200, "{}", forgotten.text());
}

#[tokio::test]
async fn a_node_with_another_token_is_told_once_who_refuses_it() {
    let s3 = S3::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports(2);
    let peers: Vec<String> = ports.iter().map(|port| url(*port)).collect();
    let start = |place: usize, token: &str, log: Stdio| {
        let file = folder.path().join(token);
        std::fs::write(&file, token).unwrap();
        let flags = [
            "--bucket=bucket".to_owned(),
            format!("--s3-endpoint={}", s3.endpoint()),
            format!("--peers={}", peers.join(",")),
            format!("--port={}", ports[place]),
            "--admin-port=0".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--peer-token-file={}", file.display()),
        ];
        Process::spawn(ports[place], &flags, log)
    };
    let Some(first) = start(0, "one", Stdio::null()) else {
        return;
    };
    first.ready().await;
    let mut second = start(1, "another", Stdio::piped()).unwrap();
    let mut log = BufReader::new(second.child.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    let whole_log = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("refuses this node's token") {
                told.push(line);
                // Heartbeats go on until it has left.
                second.signal("TERM").await;
            }
        }
    };
    timeout(DEADLINE, whole_log)
        .await
        .expect("it is told, and leaves");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains(&peers[0]) && told[0].contains("--peer-token-file"));
}
