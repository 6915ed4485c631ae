//! Reading through a sidecar: the bytes from their owners, once; the version from its home, each time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Barrier;
use tokio::time::Instant;

use super::peer_bytes;
use crate::harness::http;
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::{Fault, S3, synthetic};

const MIB: u64 = 1 << 20;
/// Of an object in several runs, many times the sidecar's memory where the code is built to run fast.
const SIZE: u64 = if cfg!(debug_assertions) { 96 } else { 1024 } * MIB;
/// They share this process's cores with the home: if it came to answer a half of a second late, others would stand in
/// for it.
const CLIENTS: usize = if cfg!(debug_assertions) { 100 } else { 300 };

/// `GET` with a range; the bytes are what stands there in the object of this seed.
async fn range_of(node: &TestNode, key: &str, seed: u64, from: u64, to: u64) -> http::Answer {
    let range = format!("bytes={from}-{}", to - 1);
    let url = format!("{}/get?key={}", node.url, http::encoded(key));
    let answer = http::get_with(&url, &[("range", &range)]).await;
    assert_eq!(answer.status, 206, "{}", answer.text());
    assert_eq!(answer.body.len() as u64, to - from);
    assert!(synthetic::matches(seed, from, &answer.body));
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn each_byte_crosses_from_its_owner_once_and_what_fits_stays() {
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "large", 3, SIZE);
    // Each node has room for all of it: how evenly so few runs spread is chance.
    let flags = ["--max-blob-size=2048", "--max-cache-size=1536"];
    let ring = Ring::start(&s3.endpoint(), 3, &flags).await;
    let sidecar = ring.sidecar(&["--max-blob-size=2048"]).await;
    // Piece by piece: all at once is too much for nodes that are built to be debugged, see `cache_read::flight`.
    let whole = async |node: &TestNode| {
        for from in (0..SIZE).step_by(16 << 20) {
            range_of(node, "large", 3, from, from + (16 << 20)).await;
        }
    };
    whole(&ring.nodes[0]).await;
    s3.assert_read_once("bucket", "large");
    s3.forget_requests();
    whole(&sidecar).await;
    assert_eq!(peer_bytes(&sidecar).await, SIZE);
    for _ in 0..3 {
        let answer = range_of(&sidecar, "large", 3, SIZE - 4 * MIB, SIZE).await;
        assert_eq!(answer.source(), "memory");
    }
    assert_eq!(peer_bytes(&sidecar).await, SIZE);
    assert!(s3.counts().is_empty(), "{:?}", s3.counts());
    let store = sidecar.node.proxy().store();
    assert_eq!(store.stats().owned_bytes, 0);
    assert!(
        store.stats().replica_bytes > 32 * MIB,
        "{:?}",
        store.stats()
    );
    assert_eq!(store.budget().limit(), 64 * MIB);
    assert!(store.budget().peak() <= store.budget().limit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_object_comes_with_its_first_lookup_and_no_later_one() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let sidecar = ring.sidecar(&[]).await;
    for place in 0..3 {
        let key = ring.key_of(place);
        let before = peer_bytes(&sidecar).await;
        s3.put_synthetic("bucket", &key, 4, 300_000);
        for source in ["origin", "memory", "memory"] {
            let answer = sidecar.get(&key).await;
            assert!(synthetic::matches(4, 0, &answer.body));
            assert_eq!((answer.source(), answer.body.len()), (source, 300_000));
        }
        assert_eq!(peer_bytes(&sidecar).await - before, 300_000);
    }
    assert_eq!(s3.counts(), [("GetObject", 3)].into());
    let warm = ring.sidecar(&[]).await;
    assert_eq!(warm.get(&ring.key_of(0)).await.source(), "peer");
    assert_eq!(s3.count("GetObject"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_at_a_cold_object_costs_one_read_of_s3_and_one_transfer() {
    const COLD: u64 = 20 * MIB;
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "cold", 5, COLD);
    s3.fault(Fault::delay(Duration::from_millis(100)));
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let sidecar = ring.sidecar(&[]).await;
    let together = Arc::new(Barrier::new(CLIENTS));
    let clients = (0..CLIENTS).map(|_| {
        let (url, together) = (format!("{}/get?key=cold", sidecar.url), together.clone());
        tokio::spawn(async move {
            together.wait().await;
            // A part of it, or the clients would be what is measured.
            let answer = http::get_with(&url, &[("range", "bytes=0-1099999")]).await;
            assert_eq!(answer.status, 206, "{}", answer.text());
            assert!(synthetic::matches(5, 0, &answer.body));
        })
    });
    for client in join_all(clients.collect::<Vec<_>>()).await {
        client.unwrap();
    }
    assert_eq!(s3.counts(), [("GetObject", 1)].into());
    assert_eq!(peer_bytes(&sidecar).await, 2 * MIB);
    range_of(&sidecar, "cold", 5, 0, COLD).await;
    assert_eq!(peer_bytes(&sidecar).await, COLD);
    s3.assert_read_once("bucket", "cold");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_the_ring_keeps_comes_from_s3() {
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "large", 6, 20 * MIB);
    let ring = Ring::start(&s3.endpoint(), 3, &["--max-blob-size=8"]).await;
    let sidecar = ring.sidecar(&["--max-blob-size=8"]).await;
    let answer = sidecar.get("large").await;
    assert_eq!(answer.body.len() as u64, 20 * MIB);
    assert!(synthetic::matches(6, 0, &answer.body));
    assert_eq!(sidecar.node.proxy().store().stats().blocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_hangs_or_is_gone_costs_a_sidecar_time_and_no_error() {
    let s3 = S3::start().await;
    let (mut ring, proxy) = Ring::start_with_a_proxy(&s3.endpoint(), 3, &[]).await;
    let sidecar = ring.sidecar(&[]).await;
    let keys: Vec<String> = (0..60).map(|i| format!("key-{i}")).collect();
    assert!(keys.iter().any(|key| ring.owner(key, 0) == 2));
    for key in &keys {
        s3.put("bucket", key, key.clone());
    }
    let all = async || {
        let asked = Instant::now();
        for key in &keys {
            let answer = sidecar.get(key).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, key.clone()));
        }
        asked.elapsed()
    };
    all().await;
    proxy.shut();
    // Once, until it is noticed: not for each key.
    assert!(all().await < Duration::from_secs(5));
    proxy.open();
    all().await;
    ring.nodes.pop().unwrap().node.leave().await;
    assert!(all().await < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ring_a_sidecar_asks_s3_each_time() {
    let s3 = S3::start().await;
    let nobody = Ring::start(&s3.endpoint(), 0, &[]).await;
    let sidecar = nobody.sidecar(&[]).await;
    for round in 0..3 {
        let bytes = format!("version {round}");
        s3.put("bucket", "key", bytes.clone());
        assert_eq!(sidecar.get("key").await.text(), bytes);
        let again = sidecar.get("key").await;
        assert_eq!((again.source(), again.text()), ("revalidated", bytes));
    }
    s3.remove("bucket", "key");
    assert_eq!(sidecar.get("key").await.status, 404);
    s3.put("bucket", "key", "back");
    assert_eq!(sidecar.get("key").await.text(), "back");
    s3.stop().await;
    assert_eq!(sidecar.get("key").await.status, 502, "nothing is believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_s3_is_away_the_homes_word_counts_and_the_sidecars_own_does_not() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "bytes");
    let mut ring = Ring::start_with(&s3.endpoint(), 2, &[], |settings| {
        settings.proxy.ttl = Some(Duration::ZERO);
    })
    .await;
    let sidecar = ring.sidecar(&[]).await;
    assert_eq!(sidecar.get("key").await.text(), "bytes");
    s3.stop().await;
    let answer = sidecar.get("key").await;
    assert_eq!((answer.source(), answer.text()), ("stale", "bytes".into()));
    for gone in ring.nodes.drain(..) {
        gone.node.leave().await;
    }
    assert_eq!(sidecar.get("key").await.status, 502);
}
