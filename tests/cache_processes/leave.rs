//! The way out: SIGTERM, and a second one.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use tokio::time::timeout;

use super::{spawn, url};
use crate::harness::http;
use crate::harness::node::{Process, free_ports};
use crate::harness::s3::{Fault, Gate, S3, synthetic};
use crate::harness::{DEADLINE, until};

const SIZE: u64 = 3 << 20;

/// A node that has begun to send an object, whose rest S3 holds back until `gate` opens.
struct Sending {
    node: Process,
    admin: String,
    download: hyper::Response<hyper::body::Incoming>,
    gate: Gate,
    _s3: S3,
}

impl Sending {
    async fn start() -> Option<Self> {
        let s3 = S3::start().await;
        s3.put_synthetic("bucket", "large", 7, SIZE);
        let gate = Gate::new();
        s3.fault(Fault::hold_body(100_000, &gate).of("GetObject"));
        let ports = free_ports(2);
        let flags = [
            "--bucket=bucket".to_owned(),
            format!("--s3-endpoint={}", s3.endpoint()),
            format!("--admin-port={}", ports[1]),
        ];
        let node = spawn(ports[0], &flags)?;
        node.ready().await;
        let get = http::request(Method::GET, &format!("{}/get?key=large", node.url), &[]);
        let download = http::send(get).await.unwrap();
        assert_eq!(download.status(), 200);
        Some(Self {
            node,
            admin: url(ports[1]),
            download,
            gate,
            _s3: s3,
        })
    }

    /// SIGTERM, and what `/readyz` says from then on.
    async fn terminate(&self) -> serde_json::Value {
        self.node.signal("TERM").await;
        until("a node that is not ready", || async {
            let answer = http::get(&format!("{}/readyz", self.admin)).await;
            (answer.status == 503).then(|| answer.json())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_told_to_leave_is_not_ready_finishes_what_runs_and_exits_well() {
    let Some(mut sending) = Sending::start().await else {
        return;
    };
    let why = sending.terminate().await;
    assert_eq!(why["message"], "leaving", "{why}");
    until("a closed port", || async {
        let answer = http::try_get(&format!("{}/healthz", sending.node.url)).await;
        answer.is_err().then_some(())
    })
    .await;
    assert!(sending.node.child.try_wait().unwrap().is_none());

    sending.gate.open();
    let whole = timeout(DEADLINE, sending.download.into_body().collect()).await;
    let whole = whole.unwrap().expect("the download is finished").to_bytes();
    assert!(whole == synthetic::bytes(7, 0..SIZE), "{}", whole.len());
    let ended = timeout(DEADLINE, sending.node.child.wait()).await.unwrap();
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_node_at_once() {
    let Some(mut sending) = Sending::start().await else {
        return;
    };
    sending.terminate().await;
    sending.node.signal("TERM").await;
    // Far less than the 25 s that it would wait for the download.
    let ended = timeout(Duration::from_secs(5), sending.node.child.wait()).await;
    ended.expect("it ends at once").unwrap();
    let rest = timeout(DEADLINE, sending.download.into_body().collect()).await;
    assert!(rest.unwrap().is_err(), "cut, and not passed off as whole");
}
