//! Who is slow, or only says how much is to come, takes nothing from the others.

use std::time::Duration;

use falcon_cache::store::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::http::{self, upload};
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::S3;
use crate::harness::until;

const MIB: usize = 1 << 20;

/// As many uploads as may run at one moment.
const UPLOADS: usize = 16;

/// An upload of which so many bytes are announced and these come.
async fn begun(node: &TestNode, key: &str, announced: u64, bytes: &[u8]) -> TcpStream {
    let address = node.url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: falcon\r\ncontent-type: {}\r\ncontent-length: {announced}\r\n\r\n{}",
        http::form_type(),
        http::file_head(key)
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_made_for_bytes_that_came_and_not_for_those_that_were_announced() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &["--max-cache-size=64"]).await;
    let node = &ring.nodes[0];
    for i in 0..40_u8 {
        let key = format!("held-{i}");
        s3.put("bucket", &key, vec![i; MIB]);
        assert_eq!(node.get(&key).await.status, 200);
    }
    let store = node.node.proxy().store();
    let before = store.stats().blocks;
    let budget = store.budget();
    let huge = begun(node, "huge", 1 << 40, &[1; 1000]).await;
    until("its bytes are charged", || async {
        (budget.used_by(Kind::Uploads) > 0).then_some(())
    })
    .await;
    assert!(budget.used_by(Kind::Uploads) <= 64 * 1024);
    assert_eq!(store.stats().blocks, before);
    drop(huge);
    until("they are given back", || async {
        (budget.used_by(Kind::Uploads) == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_crawl_hold_up_no_others() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let node = &ring.nodes[0];
    let mut crawling = Vec::new();
    for i in 0..2 * UPLOADS {
        crawling.push(begun(node, &format!("crawls-{i}"), 4000, &[1; 100]).await);
    }
    let budget = node.node.proxy().store().budget();
    until("all of them run", || async {
        (budget.used_by(Kind::Uploads) >= 2 * UPLOADS as u64 * 4000).then_some(())
    })
    .await;
    let url = format!("{}/upload", node.url);
    let quick = timeout(
        Duration::from_secs(8),
        upload(&url, "quick", &vec![2; 100_000]),
    )
    .await;
    let answer = quick.expect("it waits for those that crawl");
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(crawling);
}
