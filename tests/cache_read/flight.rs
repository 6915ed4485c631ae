//! One fill, many who wait for it: at all nodes, early, late, gone again, or slow.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::time::timeout;

use super::{MIB, TRIES, begun, some, url, verified, versions};
use crate::harness::node::Ring;
use crate::harness::s3::{Fault, Gate, S3, synthetic};

/// Fewer where the code is built to be debugged: at a tenth of the speed the nodes miss each other's heartbeats, and
/// each then reads S3 for itself, as it should.
const CLIENTS: usize = if cfg!(debug_assertions) { 12 } else { 300 };
/// Large enough for several owners.
const SIZE: u64 = if cfg!(debug_assertions) { 20 } else { 64 } * MIB;
/// For 300 bodies of 64 MiB on a busy machine.
const LONG: Duration = Duration::from_mins(5);
/// Of each body, before the gate: neither a whole block nor a whole number of pages.
const HELD: u64 = 300_001;

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_clients_at_three_nodes_cost_s3_one_read() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let mut tries = (0..TRIES).map(|i| format!("cold {i}"));
    let key = loop {
        let key = tries.next().expect("a ring that stays as it is");
        s3.put_synthetic("bucket", &key, 3, SIZE);
        s3.forget_requests();
        let before = versions(&ring);
        crowd(&ring, &key).await;
        if versions(&ring) == before {
            break key;
        }
        ring.settled().await;
    };
    s3.assert_read_once("bucket", &key);
    assert_eq!(s3.sent_bytes(), SIZE);
    assert_eq!(s3.count("HeadObject"), 0);
}

/// All clients at the same moment, a third of them at each node; every byte is looked at.
async fn crowd(ring: &Ring, key: &str) {
    let whole = synthetic::bytes(3, 0..SIZE);
    let together = Arc::new(Barrier::new(CLIENTS));
    let clients = (0..CLIENTS).map(|i| {
        let (url, whole, together) = (
            url(&ring.nodes[i % 3], key),
            whole.clone(),
            together.clone(),
        );
        tokio::spawn(async move {
            together.wait().await;
            let mut body = begun(&url).await.into_body();
            let mut at = 0;
            while at < whole.len() {
                let piece = some(&mut body, 1).await;
                assert!(whole[at..].starts_with(&piece), "wrong bytes at {at}");
                at += piece.len();
            }
            assert_eq!(
                verified(body, 3, SIZE).await.unwrap(),
                0,
                "the body runs on"
            );
        })
    });
    let clients = join_all(clients.collect::<Vec<_>>());
    for client in timeout(LONG, clients).await.unwrap() {
        client.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_byte_is_out_before_the_last_is_in_at_every_node() {
    let s3 = S3::start().await;
    let gate = Gate::new();
    s3.fault(Fault::hold_body(HELD, &gate).of("GetObject"));
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let key = ring.key_of(0);
    s3.put_synthetic("bucket", &key, 4, 4 * MIB);
    let mut readers = Vec::new();
    // The owner, another node, and both once more when the fill is long under way.
    for place in [0, 1, 0, 1, 2] {
        let mut body = begun(&url(&ring.nodes[place], &key)).await.into_body();
        let first = some(&mut body, usize::try_from(HELD).unwrap()).await;
        assert_eq!(first.len() as u64, HELD, "the gate is closed");
        assert!(synthetic::matches(4, 0, &first));
        readers.push(body);
    }
    gate.open();
    for body in readers {
        assert_eq!(verified(body, 4, HELD).await.unwrap(), 4 * MIB - HELD);
    }
    s3.assert_read_once("bucket", &key);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_that_started_a_fill_may_hang_up() {
    for starter in [0, 1] {
        let s3 = S3::start().await;
        let gate = Gate::new();
        s3.fault(Fault::hold_body(HELD, &gate).of("GetObject"));
        let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
        let key = ring.key_of(0);
        s3.put_synthetic("bucket", &key, 5, 20 * MIB);
        let mut first = begun(&url(&ring.nodes[starter], &key)).await.into_body();
        some(&mut first, 1).await;
        let waits = begun(&url(&ring.nodes[2], &key)).await.into_body();
        drop(first);
        gate.open();
        assert_eq!(verified(waits, 5, 0).await.unwrap(), 20 * MIB);
        s3.assert_read_once("bucket", &key);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_that_started_a_fill_may_hang_up_before_any_byte() {
    let s3 = S3::start().await;
    let gate = Gate::new();
    s3.fault(Fault::hold(&gate).of("GetObject"));
    let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
    let key = ring.key_of(0);
    s3.put_synthetic("bucket", &key, 6, 2 * MIB);
    let (at_owner, elsewhere) = (url(&ring.nodes[0], &key), url(&ring.nodes[1], &key));
    let starter = tokio::spawn(async move { begun(&at_owner).await });
    gate.reached(1).await;
    let waits = tokio::spawn(async move { begun(&elsewhere).await });
    starter.abort();
    assert!(starter.await.unwrap_err().is_cancelled());
    gate.open();
    let waits = waits.await.unwrap().into_body();
    assert_eq!(verified(waits, 6, 0).await.unwrap(), 2 * MIB);
    s3.assert_read_once("bucket", &key);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_readers_that_stopped_hold_up_nobody() {
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "slow", 7, 64 * MIB);
    let ring = Ring::start(&s3.endpoint(), 3, &["--max-cache-size=128"]).await;
    let mut stopped = Vec::new();
    for i in 0..50 {
        let address = ring.nodes[i % 3].url.strip_prefix("http://").unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET /get?key=slow HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        client.read_exact(&mut [0; 1024]).await.unwrap();
        stopped.push(client);
    }
    for node in &ring.nodes {
        let reading = verified(begun(&url(node, "slow")).await.into_body(), 7, 0);
        let read = timeout(LONG, reading).await.expect("held up").unwrap();
        assert_eq!(read, 64 * MIB);
        let budget = node.node.proxy().store().budget();
        assert!(budget.peak() <= budget.limit());
    }
    drop(stopped);
}
