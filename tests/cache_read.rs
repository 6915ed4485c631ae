//! Reading: each byte from S3 once, whoever asks and however large it is; one version or none; failures as they are.

mod crawl;
mod flight;
mod fresh;
mod large;
mod odd;
mod overwrite;
mod parts;
mod small;
mod trouble;

use ::http::{Method, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::harness::http;
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::synthetic;
use crate::harness::{DEADLINE, s3};

/// On a machine that is busy with other things nodes take each other for unreachable, and S3 is then read by each of
/// them, as it should be. What was read meanwhile shows nothing, and another object is read.
const TRIES: u32 = 10;

const MIB: u64 = 1 << 20;

/// Where a node gives the key.
fn url(node: &TestNode, key: &str) -> String {
    format!("{}/get?key={}", node.url, http::encoded(key))
}

/// A GET whose body is still to come.
async fn begun(url: &str) -> Response<Incoming> {
    let request = http::request(Method::GET, url, &[]);
    let begun = timeout(DEADLINE, http::send(request)).await;
    let begun = begun.expect("no head came").unwrap();
    assert_eq!(begun.status(), 200);
    begun
}

/// The next bytes of a body, at least so many.
async fn some(body: &mut Incoming, at_least: usize) -> Bytes {
    let mut found = BytesMut::new();
    while found.len() < at_least {
        let frame = timeout(DEADLINE, body.frame()).await;
        let frame = frame
            .unwrap_or_else(|_| panic!("{} of {at_least} bytes came", found.len()))
            .expect("more bytes")
            .unwrap();
        found.extend_from_slice(&frame.into_data().unwrap());
    }
    found.freeze()
}

/// Reads a body to its end, each piece compared with what stands there in the object of `seed`, and counts it.
async fn verified(mut body: Incoming, seed: u64, mut at: u64) -> Result<u64, http::Error> {
    let start = at;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        assert!(synthetic::matches(seed, at, &piece), "wrong bytes at {at}");
        at += piece.len() as u64;
    }
    Ok(at - start)
}

/// Blocks that the node holds.
fn blocks(node: &TestNode) -> u64 {
    node.node.proxy().store().stats().blocks
}

/// What S3 was asked, for messages and sums.
fn requests(s3: &s3::S3) -> u64 {
    s3.counts().values().sum()
}

/// Counts what each node saw of the others coming and going.
fn versions(ring: &Ring) -> Vec<u64> {
    let version = |node: &TestNode| node.node.members().ring().borrow().version();
    ring.nodes.iter().map(version).collect()
}
