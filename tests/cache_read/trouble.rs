//! What S3 refuses, and how it fails: told as it is, not remembered, and never a body that ends well but short.

use super::{MIB, requests, verified};
use crate::harness::node::Ring;
use crate::harness::s3::{Fault, Gate, S3, synthetic};
use crate::harness::{http, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_s3_keeps_its_status_and_code_and_is_not_remembered() {
    for (fault, status, code) in [
        (Fault::status(403, "AccessDenied"), 403, "AccessDenied"),
        (Fault::status(500, "InternalError"), 502, "InternalError"),
        (Fault::status(503, "SlowDown"), 503, "SlowDown"),
    ] {
        let s3 = S3::start().await;
        let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
        let key = ring.key_of(0);
        s3.put("bucket", &key, "there");
        s3.fault(fault);
        for node in &ring.nodes {
            let answer = node.get(&key).await;
            assert_eq!(answer.status, status, "{}", answer.text());
            assert_eq!(answer.json()["code"], code);
            assert_eq!(answer.json()["key"], key.as_str());
            assert_eq!(answer.header("retry-after").is_empty(), status != 503);
        }
        s3.calm();
        for node in ring.nodes.iter().rev() {
            assert_eq!(node.get(&key).await.body, "there", "after {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_s3_is_504_in_time_and_names_the_wait() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--timeout=400"]).await;
    let key = ring.key_of(0);
    s3.put("bucket", &key, "there");
    let gate = Gate::new();
    s3.fault(Fault::hold(&gate));
    for node in &ring.nodes {
        let asked = tokio::time::Instant::now();
        let answer = node.get(&key).await;
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert!(answer.text().contains("400ms"), "{}", answer.text());
        assert!(asked.elapsed().as_millis() >= 400);
        assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    }
    gate.open();
    s3.calm();
    for node in ring.nodes.iter().rev() {
        assert_eq!(node.get(&key).await.body, "there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_object_is_remembered_until_it_is_uploaded() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--negative-ttl=3600000"]).await;
    let key = ring.key_of(1);
    for _ in 0..2 {
        for node in &ring.nodes {
            let answer = node.get(&key).await;
            assert_eq!(answer.status, 404);
            assert_eq!(answer.json()["code"], "NoSuchKey");
        }
    }
    assert_eq!(requests(&s3), 1, "{:?}", s3.counts());
    let uploaded = http::upload(&format!("{}/upload", ring.nodes[0].url), &key, b"now").await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    for node in &ring.nodes {
        assert_eq!(node.get(&key).await.body, "now");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_object_is_not_remembered_beyond_its_time() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--negative-ttl=200"]).await;
    for node in &ring.nodes {
        assert_eq!(node.get("k").await.status, 404);
    }
    s3.put("bucket", "k", "there");
    for node in &ring.nodes {
        until("the object that is there by now", || async {
            (node.get("k").await.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_s3_cuts_is_taken_up_where_it_broke_off() {
    for place in [0, 1] {
        let s3 = S3::start().await;
        let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
        let key = ring.key_of(0);
        s3.put_synthetic("bucket", &key, 14, 3 * MIB);
        s3.fault(Fault::cut_body(1_300_000).of("GetObject").times(1));
        let answer = ring.nodes[place].get(&key).await;
        assert_eq!(answer.body.len() as u64, 3 * MIB);
        assert!(synthetic::matches(14, 0, &answer.body));
        let reads = s3.reads();
        assert_eq!(reads.len(), 2, "{reads:?}");
        assert_eq!(reads[1].range, 1_300_000..3 * MIB);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_s3_always_cuts_is_cut_for_the_client_too() {
    for place in [0, 1] {
        let s3 = S3::start().await;
        let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
        let key = ring.key_of(0);
        s3.put_synthetic("bucket", &key, 15, 3 * MIB);
        s3.fault(Fault::cut_body(100_000).of("GetObject"));
        let answer = super::begun(&super::url(&ring.nodes[place], &key)).await;
        assert_eq!(answer.headers()["content-length"], "3145728");
        let read = verified(answer.into_body(), 15, 0).await;
        assert!(read.is_err(), "{read:?} bytes and a clean end");
        s3.calm();
        let answer = ring.nodes[place].get(&key).await;
        assert_eq!(answer.body.len() as u64, 3 * MIB);
        assert!(synthetic::matches(15, 0, &answer.body));
    }
}
