//! Objects larger than memory, and parts of objects: no more is read than is asked for.

use ::http::Method;
use futures::future::join_all;

use super::{MIB, begun, blocks, url, verified};
use crate::harness::http;
use crate::harness::node::Ring;
use crate::harness::s3::S3;
use crate::harness::until;

/// Reads the whole object through all nodes at once; no node's memory goes beyond its bound.
async fn through_every_node(ring: &Ring, seed: u64, size: u64) {
    let reads = ring.nodes.iter().map(|node| async move {
        let body = begun(&url(node, "large")).await.into_body();
        verified(body, seed, 0).await.unwrap()
    });
    assert_eq!(join_all(reads).await, [size; 3]);
    for node in &ring.nodes {
        let budget = node.node.proxy().store().budget();
        assert_eq!(budget.limit(), 256 * MIB);
        assert!(budget.peak() <= budget.limit(), "{} bytes", budget.peak());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gib_stream_through_every_node_of_256_mib() {
    const SIZE: u64 = 3 << 30;
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "large", 8, SIZE);
    let ring = Ring::start(&s3.endpoint(), 3, &["--max-cache-size=256"]).await;
    through_every_node(&ring, 8, SIZE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storable_object_that_is_larger_than_memory_streams_through_too() {
    const SIZE: u64 = 700 << 20;
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "large", 9, SIZE);
    let flags = ["--max-cache-size=256", "--max-blob-size=1024"];
    let ring = Ring::start(&s3.endpoint(), 3, &flags).await;
    through_every_node(&ring, 9, SIZE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_three_gib_costs_s3_one_block() {
    const SIZE: u64 = 3 << 30;
    for range in ["bytes=-1024", "bytes=3221224448-3221225471"] {
        for place in 0..3 {
            let s3 = S3::start().await;
            s3.put_synthetic("bucket", "large", 10, SIZE);
            let ring = Ring::start(&s3.endpoint(), 3, &["--max-cache-size=256"]).await;
            let url = url(&ring.nodes[place], "large");
            let answer = http::send(http::request(Method::GET, &url, &[("range", range)]));
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 206);
            assert_eq!(
                verified(answer.into_body(), 10, SIZE - 1024).await.unwrap(),
                1024
            );
            let asked: u64 = s3
                .reads()
                .iter()
                .map(|read| read.range.end - read.range.start)
                .sum();
            assert!(asked <= MIB, "{:?}", s3.reads());
            assert!(s3.count("HeadObject") <= 1, "{:?}", s3.counts());
            assert!(s3.count("GetObject") <= 1, "{:?}", s3.counts());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_store_is_read_once_and_leaves_nothing() {
    const SIZE: u64 = 40 << 20;
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "large", 11, SIZE);
    let ring = Ring::start(&s3.endpoint(), 3, &["--max-blob-size=8"]).await;
    for node in &ring.nodes {
        s3.forget_requests();
        let answer = begun(&url(node, "large")).await;
        assert_eq!(answer.headers()["x-falcon-cache"], "bypass");
        assert_eq!(answer.headers()["x-falcon-bypass"], "too-large");
        assert_eq!(verified(answer.into_body(), 11, 0).await.unwrap(), SIZE);
        s3.assert_read_once("bucket", "large");
    }
    for node in &ring.nodes {
        assert_eq!(blocks(node), 0);
        // Whoever filled ends a moment after the last byte is out.
        until("no memory charged for what is over", || async {
            let store = node.node.proxy().store();
            (store.budget().used() < MIB).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_reads_its_block_and_neighbours_only_after_several_ranges() {
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "table", 12, 16 * MIB);
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let read = async |place: usize, block: u64| {
        let from = block * MIB + 1000;
        let range = format!("bytes={from}-{}", from + 99);
        let url = url(&ring.nodes[place], "table");
        let answer = http::send(http::request(Method::GET, &url, &[("range", &range)]));
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 206);
        assert_eq!(verified(answer.into_body(), 12, from).await.unwrap(), 100);
    };
    let mut expected = Vec::new();
    for (place, block) in [(0, 5), (1, 9), (2, 2)] {
        read(place, block).await;
        expected.push(block * MIB..(block + 1) * MIB);
        let asked: Vec<_> = s3.reads().into_iter().map(|read| read.range).collect();
        assert_eq!(asked, expected);
    }
    assert_eq!(s3.count("HeadObject"), 0);
    // With these, half of the run has been wanted after the object was known.
    for block in [12, 14, 7, 0, 10, 3] {
        read(0, block).await;
    }
    until("the rest of the run", || async {
        (s3.sent_bytes() == 16 * MIB).then_some(())
    })
    .await;
    s3.assert_read_once("bucket", "table");
}
