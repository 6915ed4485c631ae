//! Writing through a sidecar: it raises the barrier in the ring, and what is kept is kept there.

use crate::harness::http::{self, upload};
use crate::harness::node::{Ring, SIDECAR};
use crate::harness::s3::S3;
use crate::harness::until;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_a_sidecar_is_read_at_every_node() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let sidecar = ring.sidecar(&[]).await;
    let other = ring.sidecar(&[]).await;
    for round in 0..30 {
        let bytes = format!("version {round}");
        let answer = upload(&format!("{}/upload", sidecar.url), "key", bytes.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for node in ring.nodes.iter().chain([&sidecar, &other]) {
            assert_eq!(node.get("key").await.text(), bytes, "{}", node.name());
        }
    }
    let url = format!("{}/invalidate?key=key", sidecar.url);
    let report = http::post(&url).await;
    assert_eq!(report.status, 200, "{}", report.text());
    let json = report.json();
    let told = super::names(&json["nodes"]);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.contains(&SIDECAR), "it forgets too");
    let url = format!("{}/delete?key=key", sidecar.url);
    let deleted = http::whole(http::request(::http::Method::DELETE, &url, &[])).await;
    assert_eq!(deleted.unwrap().status, 200);
    for node in ring.nodes.iter().chain([&sidecar, &other]) {
        assert_eq!(node.get("key").await.status, 404, "{}", node.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_through_a_sidecar_that_knows_no_ring_promises_nothing() {
    let s3 = S3::start().await;
    let nobody = Ring::start(&s3.endpoint(), 0, &[]).await;
    let sidecar = nobody.sidecar(&[]).await;
    let answer = http::post(&format!("{}/invalidate?key=key", sidecar.url)).await;
    assert_eq!(answer.status, 207, "{}", answer.text());
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the ring (not known yet)"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sidecar_keeps_of_an_upload_or_warms_is_held_by_the_owners() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let sidecar = ring.sidecar(&["--cache-on-write"]).await;
    // Held until S3 has it all: a quarter of the sidecar's memory and no more.
    let bytes = vec![7; 12 * MIB];
    let answer = upload(&format!("{}/upload", sidecar.url), "written", &bytes).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let blocks = || -> u64 {
        let stats = ring
            .nodes
            .iter()
            .map(|node| node.node.proxy().store().stats());
        stats.map(|stats| stats.owned_bytes).sum()
    };
    assert_eq!(blocks(), 12 * MIB as u64);
    s3.put("bucket", "warm", vec![8; 20 * MIB]);
    let begun = http::post(&format!("{}/prewarm?prefix=warm", sidecar.url)).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    until("the prewarm has ended", || async {
        let url = format!("{}/prewarm/{id}", sidecar.url);
        (http::get(&url).await.json()["state"] == "done").then_some(())
    })
    .await;
    assert_eq!(blocks(), 32 * MIB as u64);
    assert_eq!(sidecar.node.proxy().store().stats().blocks, 0);
    s3.forget_requests();
    for (key, byte, size) in [("written", 7, 12), ("warm", 8, 20)] {
        for node in ring.nodes.iter().chain([&sidecar]) {
            assert!(node.get(key).await.body == vec![byte; size * MIB], "{key}");
        }
    }
    assert_eq!(s3.count("GetObject"), 0, "{:?}", s3.counts());
}
