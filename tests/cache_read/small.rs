//! Small and empty objects, and heads: what each costs S3.

use ::http::Method;

use super::{requests, url};
use crate::harness::http;
use crate::harness::node::Ring;
use crate::harness::s3::S3;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_object_costs_s3_one_request_wherever_it_is_asked_for() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    for (home, asked) in [(0, 0), (1, 0), (2, 0)] {
        let key = ring.key_of(home);
        s3.put("bucket", &key, "small");
        s3.forget_requests();
        let answer = ring.nodes[asked].get(&key).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"small"[..])
        );
        assert_eq!(answer.source(), "origin");
        assert_eq!(s3.counts(), [("GetObject", 1)].into(), "home {home}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_object_is_200_of_no_bytes_and_then_comes_from_memory() {
    let s3 = S3::start().await;
    s3.put("bucket", "empty", "");
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    for _ in 0..2 {
        for node in &ring.nodes {
            let answer = node.get("empty").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-length"), "0");
            assert!(answer.body.is_empty());
        }
    }
    // It can't be asked for its first byte, so its head is asked for, once.
    assert!(requests(&s3) <= 2, "{:?}", s3.counts());
    assert_eq!(ring.nodes[0].get("empty").await.source(), "memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_costs_one_head_and_then_nothing() {
    let s3 = S3::start().await;
    let etag = s3.put("bucket", "head", "twelve bytes");
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    for _ in 0..2 {
        for node in &ring.nodes {
            let request = http::request(Method::HEAD, &url(node, "head"), &[]);
            let answer = http::whole(request).await.unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-length"), "12");
            assert_eq!(answer.header("etag"), etag);
            assert!(answer.body.is_empty());
        }
    }
    assert_eq!(s3.counts(), [("HeadObject", 1)].into());
}
