//! What was invalidated is not read any more through a sidecar, which is told of nothing.

use std::time::Duration;

use futures::future::join_all;

use crate::harness::http::{self, upload};
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::{Fault, Gate, S3};

async fn invalidated(node: &TestNode, query: &str) {
    let answer = http::post(&format!("{}/invalidate?{query}", node.url)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Many reads at once, all of them begun now, all of this version.
async fn all_read(sidecar: &TestNode, key: &str, bytes: &str) {
    for answer in join_all((0..8).map(|_| sidecar.get(key))).await {
        assert_eq!(answer.text(), bytes, "from {}", answer.source());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_sees_two_hundred_overwrites_at_any_node_as_it_reads() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let sidecar = ring.sidecar(&[]).await;
    let reading = async {
        loop {
            join_all((0..4).map(|_| sidecar.get("key"))).await;
        }
    };
    let writing = async {
        for round in 0..100 {
            let node = &ring.nodes[round * 7919 % 3];
            let bytes = format!("uploaded {round}");
            let answer = upload(&format!("{}/upload", node.url), "key", bytes.as_bytes()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            all_read(&sidecar, "key", &bytes).await;
            let bytes = format!("behind {round}");
            s3.put("bucket", "key", bytes.clone());
            let scope = ["key=key", "prefix=k", "all=true"][round % 3];
            invalidated(&ring.nodes[round * 31 % 3], scope).await;
            all_read(&sidecar, "key", &bytes).await;
        }
    };
    tokio::select! { () = writing => {}, () = reading => {} }
}

/// The question about an object that the sidecar has never seen waits for S3's GET, that about one of which it holds
/// the blocks for the home's HEAD.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_under_way_does_not_answer_a_read_after_an_invalidation() {
    for (known, op) in [(false, "GetObject"), (true, "HeadObject")] {
        let s3 = S3::start().await;
        let ring = Ring::start_with(&s3.endpoint(), 3, &[], |settings| {
            settings.proxy.ttl = Some(Duration::ZERO);
        })
        .await;
        let sidecar = ring.sidecar(&[]).await;
        for place in 0..3 {
            let key = ring.key_of(place);
            s3.put("bucket", &key, "old");
            if known {
                assert_eq!(sidecar.get(&key).await.text(), "old");
            }
            let gate = Gate::new();
            s3.fault(Fault::hold_answer(&gate).of(op).times(1));
            let url = format!("{}/get?key={key}", sidecar.url);
            let early = tokio::spawn(async move { http::get(&url).await });
            gate.reached(1).await;
            s3.put("bucket", &key, "new");
            invalidated(&ring.nodes[(place + 1) % 3], &format!("key={key}")).await;
            // The first question is still out.
            all_read(&sidecar, &key, "new").await;
            gate.open();
            // Overtaken: what was true when it was asked, or the new one where its bytes are gone.
            let early = early.await.unwrap();
            assert!(["old", "new"].contains(&&*early.text()), "{}", early.text());
            all_read(&sidecar, &key, "new").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_is_asked_for_each_time() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--negative-ttl=3600000"]).await;
    let sidecar = ring.sidecar(&["--negative-ttl=3600000"]).await;
    for (round, node) in ring.nodes.iter().enumerate() {
        let key = format!("key-{round}");
        for _ in 0..3 {
            let answer = sidecar.get(&key).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["code"]),
                (404, &"NoSuchKey".into())
            );
        }
        let asked: u64 = s3.counts().values().sum();
        assert_eq!(asked, 1, "the home remembers it: {:?}", s3.counts());
        let answer = upload(&format!("{}/upload", node.url), &key, b"here").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        all_read(&sidecar, &key, "here").await;
        let url = format!("{}/delete?key={key}", node.url);
        let deleted = http::whole(http::request(::http::Method::DELETE, &url, &[])).await;
        assert_eq!(deleted.unwrap().status, 200);
        assert_eq!(sidecar.get(&key).await.status, 404);
        s3.forget_requests();
    }
}
