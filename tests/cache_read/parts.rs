//! What a cold read costs S3, to the request: its parts, each of them once, and nothing else.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{MIB, TRIES, begun, some, url, verified, versions};
use crate::harness::node::Ring;
use crate::harness::s3::{Fault, Gate, S3, synthetic};

/// The largest single read.
const PART: u64 = 8 * MIB;

/// An object's parts, in its order. Two of them are a run, so that no part has two owners.
fn parts(size: u64) -> Vec<Range<u64>> {
    let starts = (0..size).step_by(usize::try_from(PART).unwrap());
    starts.map(|at| at..size.min(at + PART)).collect()
}

/// Reads an object of each size, cold, at each of `nodes` nodes.
async fn cold_reads_cost_their_parts(nodes: usize, sizes: &[u64], flags: &[&str]) {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), nodes, flags).await;
    for size in sizes {
        for place in 0..nodes {
            let mut tries = (0..TRIES).map(|i| format!("{size} bytes at {place}, {i}"));
            let key = loop {
                let key = tries.next().expect("a ring that stays as it is");
                s3.put_synthetic("bucket", &key, *size, *size);
                s3.forget_requests();
                let before = versions(&ring);
                let body = begun(&url(&ring.nodes[place], &key)).await.into_body();
                assert_eq!(verified(body, *size, 0).await.unwrap(), *size);
                if versions(&ring) == before {
                    break key;
                }
                ring.settled().await;
            };
            let mut read: Vec<_> = s3.reads().into_iter().map(|read| read.range).collect();
            read.sort_by_key(|range| range.start);
            assert_eq!(read, parts(*size), "{key}");
            let gets = parts(*size).len() as u64;
            assert_eq!(s3.counts(), [("GetObject", gets)].into(), "{key}");
            assert_eq!(s3.sent_bytes(), *size, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_object_of_64_mib_costs_one_node_its_eight_parts() {
    assert_eq!(parts(64 * MIB).len(), 8);
    cold_reads_cost_their_parts(1, &[64 * MIB], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_object_of_64_mib_costs_three_nodes_its_eight_parts_anywhere() {
    cold_reads_cost_their_parts(3, &[64 * MIB], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_object_of_any_size_costs_its_parts() {
    let sizes = [1, MIB, PART - 1, PART, PART + 1, 2 * PART + 1, 3 * PART - 1];
    for nodes in [1, 3] {
        cold_reads_cost_their_parts(nodes, &sizes, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_object_of_more_parts_than_are_read_at_once_costs_its_parts() {
    let flags = ["--parts-in-flight=3", "--max-cache-size=1024"];
    for nodes in [1, 3] {
        cold_reads_cost_their_parts(nodes, &[96 * MIB], &flags).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bytes_of_a_cold_gib_need_one_get_and_no_head() {
    const SIZE: u64 = 1 << 30;
    for place in 0..3 {
        let (s3, gate, gets) = (S3::start().await, Gate::new(), AtomicU64::new(0));
        let held = gate.clone();
        // All but the first wait until the test is over.
        s3.at_get(move |s3, _| {
            if gets.fetch_add(1, Ordering::Relaxed) > 0 {
                s3.fault(Fault::hold(&held).of("GetObject"));
            }
        });
        s3.put_synthetic("bucket", "large", 13, SIZE);
        let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
        let mut body = begun(&url(&ring.nodes[place], "large")).await.into_body();
        let first = some(&mut body, 1).await;
        assert!(synthetic::matches(13, 0, &first));
        let read = s3.reads();
        assert_eq!((read.len(), &read[0].range), (1, &(0..PART)));
        assert_eq!(s3.count("HeadObject"), 0);
        gate.open();
    }
}
