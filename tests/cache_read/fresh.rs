//! How long a version is current: asked again on demand or in time, kept while S3 is away, never kept where S3 forbids
//! it.

use std::time::Duration;

use falcon_cache::object::ObjectId;
use falcon_cache::proxy::{Freshness, ReadOptions, Requester};

use super::{blocks, url};
use crate::harness::node::Ring;
use crate::harness::s3::{Content, Fault, S3, StoredHeaders};
use crate::harness::{http, until};

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_asks_s3_for_the_version_and_not_for_the_bytes() {
    let s3 = S3::start().await;
    s3.put("bucket", "k", "first");
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let asked = async |place: usize| {
        http::get_with(
            &url(&ring.nodes[place], "k"),
            &[("cache-control", "no-cache")],
        )
        .await
    };
    for place in 0..3 {
        assert_eq!(ring.nodes[place].get("k").await.body, "first");
    }
    s3.forget_requests();
    for place in 0..3 {
        let answer = asked(place).await;
        assert_eq!(
            (answer.source(), &answer.body[..]),
            ("revalidated", &b"first"[..])
        );
    }
    assert_eq!(s3.counts(), [("HeadObject", 3)].into());
    let etag = s3.put("bucket", "k", "second, and longer");
    let other = ring.others("k")[0];
    let answer = asked(other).await;
    assert_eq!(
        (answer.header("etag"), &answer.body[..]),
        (&*etag, &b"second, and longer"[..])
    );
    let home = ring.nodes[ring.owner("k", 0)].get("k").await;
    assert_eq!(
        (home.source(), &home.body[..]),
        ("memory", &b"second, and longer"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_ttl_a_version_is_asked_for_and_its_bytes_stay() {
    let s3 = S3::start().await;
    s3.put("bucket", "k", "bytes");
    let ring = Ring::start_with(&s3.endpoint(), 3, &[], |settings| {
        settings.proxy.ttl = Some(Duration::ZERO);
    })
    .await;
    assert_eq!(ring.nodes[0].get("k").await.source(), "origin");
    for node in [0, 0, 1, 1, 2, 2] {
        let answer = ring.nodes[node].get("k").await;
        assert_eq!(
            (answer.source(), &answer.body[..]),
            ("revalidated", &b"bytes"[..])
        );
    }
    assert_eq!(s3.counts(), [("GetObject", 1), ("HeadObject", 6)].into());
    s3.put("bucket", "k", "others");
    for node in &ring.nodes {
        assert_eq!(node.get("k").await.body, "others");
    }
    assert_eq!(s3.count("GetObject"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_s3_is_away_what_is_held_is_served_stale() {
    let s3 = S3::start().await;
    s3.put("bucket", "k", "bytes");
    let ring = Ring::start_with(&s3.endpoint(), 3, &[], |settings| {
        settings.proxy.ttl = Some(Duration::ZERO);
    })
    .await;
    for node in &ring.nodes {
        assert_eq!(node.get("k").await.body, "bytes");
    }
    s3.stop().await;
    for node in &ring.nodes {
        let answer = node.get("k").await;
        assert_eq!(
            (answer.source(), &answer.body[..]),
            ("stale", &b"bytes"[..])
        );
    }
    s3.start_again().await;
    s3.put("bucket", "k", "new");
    for node in &ring.nodes {
        until("the new version", || async {
            (node.get("k").await.body == "new").then_some(())
        })
        .await;
    }
    for (fault, source) in [
        (Fault::status(503, "SlowDown"), "stale"),
        (Fault::status(500, "InternalError"), "stale"),
    ] {
        s3.fault(fault);
        let answer = ring.nodes[0].get("k").await;
        assert_eq!((answer.source(), &answer.body[..]), (source, &b"new"[..]));
        s3.calm();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_stale_if_error_an_outage_is_an_error() {
    let s3 = S3::start().await;
    s3.put("bucket", "k", "bytes");
    let ring = Ring::start_with(&s3.endpoint(), 2, &["--stale-if-error=0"], |settings| {
        settings.proxy.ttl = Some(Duration::ZERO);
    })
    .await;
    for node in &ring.nodes {
        assert_eq!(node.get("k").await.body, "bytes");
    }
    s3.stop().await;
    for node in &ring.nodes {
        assert_eq!(node.get("k").await.status, 502);
    }
    s3.start_again().await;
    for node in &ring.nodes {
        assert_eq!(node.get("k").await.source(), "revalidated");
    }
}

/// So often that the next question comes before the last one's answer has been cleared away: that is another task's.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_question_is_for_those_who_waited_for_it() {
    let s3 = S3::start().await;
    let headers = StoredHeaders {
        cache_control: Some("no-store".to_owned()),
        ..StoredHeaders::default()
    };
    s3.put_with("bucket", "k", Content::Bytes("first".into()), headers);
    let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
    let head = ReadOptions {
        object: ObjectId::new("bucket", "k").unwrap(),
        range: None,
        freshness: Freshness::Stored,
        by: Requester::Client,
        body: false,
    };
    for asked in 1..=1000 {
        ring.nodes[0].node.proxy().read(head.clone()).await.unwrap();
        assert_eq!(s3.counts(), [("HeadObject", asked)].into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_forbids_to_store_is_read_each_time_and_never_stored() {
    for forbidden in ["no-store", "private, max-age=60"] {
        let s3 = S3::start().await;
        let headers = StoredHeaders {
            cache_control: Some(forbidden.to_owned()),
            ..StoredHeaders::default()
        };
        let content = Content::Synthetic {
            seed: 13,
            size: 300_000,
        };
        s3.put_with("bucket", "k", content, headers);
        let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
        for reads in 1..=2 {
            for (i, node) in ring.nodes.iter().enumerate() {
                let answer = node.get("k").await;
                assert_eq!(answer.source(), "bypass");
                assert_eq!(answer.header("x-falcon-bypass"), "private");
                assert_eq!(answer.header("cache-control"), forbidden);
                assert!(crate::harness::s3::synthetic::matches(13, 0, &answer.body));
                assert_eq!(answer.body.len(), 300_000);
                let reads = (reads - 1) * 3 + i as u64 + 1;
                assert_eq!(s3.counts(), [("GetObject", reads)].into());
                assert_eq!(blocks(node), 0);
            }
        }
    }
}
