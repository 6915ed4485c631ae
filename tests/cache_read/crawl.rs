//! An S3 that sends next to nothing: it costs those who wait for it, and nobody else, and no longer than they wait.

use std::time::Duration;

use ::http::{Method, StatusCode};
use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{MIB, begun, some, url, verified};
use crate::harness::DEADLINE;
use crate::harness::http;
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::{Fault, S3};

/// As many reads as a node has from S3 at one moment.
const READS: usize = 64;

/// More readers than that.
const READERS: usize = 70;

/// Between two bytes of a read that crawls.
const BEAT: Duration = Duration::from_secs(1);

/// Readers of as many objects, of which next to nothing comes.
struct Crawling(JoinSet<()>);

impl Crawling {
    async fn start(s3: &S3, nodes: &[TestNode]) -> Self {
        let mut readers = JoinSet::new();
        for i in 0..READERS {
            let key = format!("crawls-{i}");
            s3.put_synthetic("bucket", &key, 1, MIB);
            s3.fault(Fault::trickle(100, BEAT).of("GetObject").on("bucket", &key));
            let url = url(&nodes[i % nodes.len()], &key);
            readers.spawn(async move {
                // It may be refused or cut: it is not the one that must be served.
                let request = http::request(Method::GET, &url, &[]);
                if let Ok(answer) = http::send(request).await
                    && answer.status() == StatusCode::OK
                {
                    verified(answer.into_body(), 1, 0).await.ok();
                }
            });
        }
        until(|| s3.count("GetObject") >= READS as u64).await;
        Self(readers)
    }

    async fn leave(mut self) {
        self.0.shutdown().await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "it does not come to pass");
        beat.tick().await;
    }
}

/// Reads that a node has from S3.
fn reads(node: &TestNode) -> u64 {
    let (quick, crawling) = node.node.proxy().origin_reads();
    quick + crawling
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_crawl_hold_up_no_others() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &["--timeout=5000"]).await;
    let crawling = Crawling::start(&s3, &ring.nodes).await;
    for round in 0..3 {
        let misses = (0..20).map(|i| {
            let key = format!("well-{round}-{i}");
            s3.put_synthetic("bucket", &key, 2, MIB);
            let url = url(&ring.nodes[0], &key);
            async move { verified(begun(&url).await.into_body(), 2, 0).await.unwrap() }
        });
        for bytes in join_all(misses).await {
            assert_eq!(bytes, MIB);
        }
    }
    crawling.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_crawl_end_when_nobody_waits_for_them() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let crawling = Crawling::start(&s3, &ring.nodes).await;
    crawling.leave().await;
    let left = Instant::now();
    until(|| ring.nodes.iter().all(|node| reads(node) == 0)).await;
    println!(
        "all ended {:?} after the last reader had left",
        left.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_ends_the_reads_that_it_overtakes_and_nobody_waits_for() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let node = &ring.nodes[0];
    s3.put_synthetic("bucket", "steady", 3, 64 * MIB);
    // Slowly, and yet not so slowly that it would be given up.
    s3.fault(Fault::pace(64 * 1024).of("GetObject"));
    let mut body = begun(&url(node, "steady")).await.into_body();
    some(&mut body, 1).await;
    drop(body);
    // What is read goes on to be kept, until it can't be.
    assert!(reads(node) > 0);
    let all = format!("{}/invalidate?all=true", node.url);
    assert_eq!(http::post(&all).await.status, StatusCode::OK);
    until(|| reads(node) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_crawls_is_taken_up_again_where_it_was() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    s3.put_synthetic("bucket", "twice", 4, 3 * MIB);
    let once = Fault::trickle(MIB + 100, BEAT).of("GetObject").times(1);
    s3.fault(once);
    let reader = begun(&url(&ring.nodes[0], "twice")).await.into_body();
    let read = timeout(DEADLINE, verified(reader, 4, 0)).await;
    assert_eq!(read.expect("it comes").unwrap(), 3 * MIB);
    assert_eq!(s3.count("GetObject"), 2);
}
