//! The barrier over real nodes: once an invalidation is answered with 200, no read that starts gets what was there
//! before.

mod apart;

use bytes::{Bytes, BytesMut};
use falcon_cache::object::ObjectId;
use falcon_cache::store::EntryState;
use futures::future::join_all;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::harness::http::{self, encoded, upload};
use crate::harness::node::{Ring, TestNode, metric};
use crate::harness::s3::{Fault, Gate, S3};
use crate::harness::until;

/// `POST /invalidate` at a node.
async fn invalidate(node: &TestNode, query: &str) -> http::Answer {
    http::post(&format!("{}/invalidate?{query}", node.url)).await
}

/// Every node answers with these bytes.
async fn all_serve(ring: &Ring, key: &str, bytes: &[u8]) {
    for node in &ring.nodes {
        let answer = node.get(key).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let fresh = answer.body == bytes;
        assert!(
            fresh,
            "{key} at {}: {:?}, from {}",
            node.url,
            &answer.body[..answer.body.len().min(20)],
            answer.source()
        );
    }
}

fn holds(node: &TestNode, key: &str) -> Option<String> {
    let object = ObjectId::new("bucket", key).unwrap();
    let entry = node.node.proxy().store().head(&object)?;
    match &entry.state {
        EntryState::Present(head) => Some(head.etag.as_str().to_owned()),
        EntryState::Negative(absent) => Some(absent.code.clone()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_overtaken_by_an_invalidation_is_passed_on_and_not_stored() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    for (round, scope) in ["key=", "prefix=", "all=true"].into_iter().enumerate() {
        for reader in 0..3 {
            let key = format!("dir-{round}-{reader}/key");
            let scope = match scope {
                "key=" => format!("key={}", encoded(&key)),
                "prefix=" => format!("prefix=dir-{round}"),
                scope => scope.to_owned(),
            };
            s3.put("bucket", &key, "old");
            let gate = Gate::new();
            s3.fault(Fault::hold_answer(&gate).of("GetObject").times(1));
            let url = format!("{}/get?key={}", ring.nodes[reader].url, encoded(&key));
            let overtaken = tokio::spawn(async move { http::get(&url).await });
            gate.reached(1).await;
            let new = s3.put("bucket", &key, "new");
            let answer = invalidate(&ring.nodes[(reader + 1) % 3], &scope).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            all_serve(&ring, &key, b"new").await;
            gate.open();
            assert_eq!(&overtaken.await.unwrap().body[..], b"old");
            all_serve(&ring, &key, b"new").await;
            for node in &ring.nodes {
                assert_eq!(holds(node, &key), Some(new.clone()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_amid_the_first_bytes_keeps_them_out_of_every_store() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    for attempt in 0.. {
        let key = format!("dir/key-{attempt}");
        s3.put("bucket", &key, "old bytes");
        let gate = Gate::new();
        s3.fault(Fault::hold_body(4, &gate).of("GetObject").times(1));
        let others = ring.others(&key);
        let url = format!("{}/get?key={}", ring.nodes[others[0]].url, encoded(&key));
        let overtaken = tokio::spawn(async move { http::get(&url).await });
        gate.reached(1).await;
        s3.put("bucket", &key, "new bytes");
        let answer = invalidate(&ring.nodes[others[1]], "prefix=dir/").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        gate.open();
        let body = overtaken.await.unwrap().body;
        // On a busy machine the reader asks another node meanwhile, since it has got nothing yet.
        if body == "new bytes" && attempt < 10 {
            invalidate(&ring.nodes[0], "all=true").await;
            continue;
        }
        assert_eq!(&body[..], b"old bytes");
        for node in &ring.nodes {
            assert_eq!(node.node.proxy().store().stats().blocks, 0);
        }
        all_serve(&ring, &key, b"new bytes").await;
        return;
    }
}

/// The next bytes, put to those that came before.
async fn more(body: &mut Incoming, bytes: &mut BytesMut) -> bool {
    match body.frame().await {
        Some(frame) => bytes.extend_from_slice(&frame.unwrap().into_data().unwrap()),
        None => return false,
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_readers_of_a_fill_finish_the_old_version_and_later_get_the_new() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    let version = |byte: u8| Bytes::from(vec![byte; 4 << 20]);
    let (old, new) = (version(b'o'), version(b'n'));
    s3.put("bucket", "key", old.clone());
    let gate = Gate::new();
    s3.fault(Fault::hold_body(1_500_000, &gate).of("GetObject").times(1));
    let mut readers = Vec::new();
    for reader in 0..10 {
        let url = format!("{}/get?key=key", ring.nodes[reader % 3].url);
        let answer = http::send(http::request(::http::Method::GET, &url, &[])).await;
        let (mut body, mut bytes) = (answer.unwrap().into_body(), BytesMut::new());
        assert!(more(&mut body, &mut bytes).await);
        readers.push((body, bytes));
    }
    s3.put("bucket", "key", new.clone());
    let answer = invalidate(&ring.nodes[0], "key=key").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    all_serve(&ring, "key", &new).await;
    gate.open();
    for (mut body, mut bytes) in readers {
        while more(&mut body, &mut bytes).await {}
        assert!(bytes == old, "{} bytes", bytes.len());
    }
    all_serve(&ring, "key", &new).await;
    for node in &ring.nodes {
        assert_eq!(node.node.proxy().store().stats().blocks, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_while_the_others_are_told_is_told_too() {
    let s3 = S3::start().await;
    let (ring, proxy) = Ring::start_with_a_proxy(&s3.endpoint(), 3, &[]).await;
    let keys: Vec<String> = (0..200)
        .map(|i| format!("key-{i}"))
        .filter(|key| ring.owner(key, 0) == 2)
        .collect();
    for key in &keys {
        s3.put("bucket", key, "old");
        assert_eq!(&ring.nodes[2].get(key).await.body[..], b"old");
    }
    ring.nodes[0].get("key-0").await;
    for key in &keys {
        s3.put("bucket", key, "new");
    }
    s3.put("bucket", "key-0", "new");
    proxy.shut();
    let url = format!("{}/invalidate?prefix=key-", ring.nodes[0].url);
    let fan_out = tokio::spawn(async move { http::post(&url).await });
    until("the coordinator has begun", || async {
        holds(&ring.nodes[0], "key-0").is_none().then_some(())
    })
    .await;
    // It asks the node behind the proxy, which has not been told yet, past the proxy.
    let joined = ring.join().await;
    let mut copied = 0;
    for key in &keys {
        copied += usize::from(&joined.get(key).await.body[..] == b"old");
    }
    assert!(copied > 0, "the node that joined has copied nothing old");
    proxy.open();
    let answer = fan_out.await.unwrap();
    if answer.status == 207 {
        until("the retry is through", || async {
            (metric(&ring.nodes[0].admin, "falcon_unanswered_nodes").await < 0.5).then_some(())
        })
        .await;
    } else {
        assert!(answer.text().contains(joined.name()), "{}", answer.text());
    }
    for key in &keys {
        for node in ring.nodes.iter().chain([&joined]) {
            assert_eq!(&node.get(key).await.body[..], b"new", "{}", node.url);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_named_and_told_when_it_is_back() {
    let s3 = S3::start().await;
    let (ring, proxy) = Ring::start_with_a_proxy(&s3.endpoint(), 3, &[]).await;
    let key = ring.key_of(2);
    s3.put("bucket", &key, "old");
    all_serve(&ring, &key, b"old").await;
    s3.put("bucket", &key, "new");
    proxy.shut();
    let query = format!("key={key}");
    let answer = invalidate(&ring.nodes[0], &query).await;
    assert_eq!(answer.status, 207, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["complete"], false);
    for told in json["nodes"].as_array().unwrap() {
        let answers = told["name"] != ring.nodes[2].name();
        assert_eq!(told["answered"], answers, "{json}");
        assert_eq!(told["error"].is_null(), answers, "{json}");
    }
    let words = json["message"].as_str().unwrap();
    assert!(words.contains(ring.nodes[2].name()) && words.contains("retries"));
    for node in &ring.nodes[..2] {
        assert_eq!(&node.get(&key).await.body[..], b"new");
    }
    let unanswered = || metric(&ring.nodes[0].admin, "falcon_unanswered_nodes");
    assert!((unanswered().await - 1.0).abs() < 0.5);
    assert_eq!(&ring.nodes[2].get(&key).await.body[..], b"old");
    proxy.open();
    until("it has been told", || async {
        (unanswered().await < 0.5).then_some(())
    })
    .await;
    all_serve(&ring, &key, b"new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_forgets_what_it_owes_and_the_others_nothing_more() {
    let s3 = S3::start().await;
    let (ring, proxy) = Ring::start_with_a_proxy(&s3.endpoint(), 3, &["--ttl=0"]).await;
    let hot: Vec<String> = (0..100).map(|i| format!("hot/{i}")).collect();
    let touched: Vec<String> = (0..400).map(|i| format!("touched/{i}")).collect();
    for key in hot.iter().chain(&touched) {
        s3.put("bucket", key, "old");
    }
    for key in hot.iter().chain(touched.iter().step_by(40)) {
        all_serve(&ring, key, b"old").await;
    }
    proxy.shut();
    for key in &touched {
        s3.put("bucket", key, "new");
    }
    for some in touched.chunks(100) {
        let calls = some.iter().map(|key| {
            let query = format!("key={}", encoded(key));
            let node = &ring.nodes[0];
            async move { invalidate(node, &query).await }
        });
        for answer in join_all(calls).await {
            assert_eq!(answer.status, 207, "{}", answer.text());
        }
    }
    let before: Vec<_> = hot.iter().map(|key| holds(&ring.nodes[2], key)).collect();
    proxy.open();
    for node in &ring.nodes[..2] {
        until("nothing is owed any more", || async {
            (metric(&node.admin, "falcon_unanswered_nodes").await < 0.5).then_some(())
        })
        .await;
    }
    for node in &ring.nodes {
        let now: Vec<_> = hot.iter().map(|key| holds(node, key)).collect();
        assert_eq!(now, before, "{}", node.url);
    }
    for key in touched.iter().step_by(40) {
        all_serve(&ring, key, b"new").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_under_way_does_not_answer_for_a_later_write() {
    let s3 = S3::start().await;
    let (ring, proxy) = Ring::start_with_a_proxy(&s3.endpoint(), 3, &[]).await;
    let key = ring.key_of(0);
    for round in 0..20 {
        let old = format!("{round} old");
        s3.put("bucket", &key, old.clone());
        invalidate(&ring.nodes[1], &format!("key={key}")).await;
        all_serve(&ring, &key, old.as_bytes()).await;
        let middle = format!("{round} middle");
        s3.put("bucket", &key, middle.clone());
        proxy.shut();
        let url = format!("{}/invalidate?key={key}", ring.nodes[0].url);
        let first = tokio::spawn(async move { http::post(&url).await });
        // Two nodes have acknowledged, and filled again, while the first invalidation still waits for the third.
        for node in &ring.nodes[..2] {
            until("the first is under way", || async {
                (node.get(&key).await.body == middle).then_some(())
            })
            .await;
        }
        let new = format!("{round} new");
        s3.put("bucket", &key, new.clone());
        let url = format!("{}/invalidate?key={key}", ring.nodes[round % 2].url);
        let second = tokio::spawn(async move { http::post(&url).await });
        proxy.open();
        let second = second.await.unwrap();
        assert_eq!(second.status, 200, "{}", second.text());
        all_serve(&ring, &key, new.as_bytes()).await;
        assert_eq!(first.await.unwrap().status, 200);
        all_serve(&ring, &key, new.as_bytes()).await;
    }
}

/// A number that jumps about, the same in every run.
fn scattered(round: usize) -> usize {
    (round * 7919 + 13) % 1009
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_overwrites_at_any_node_are_seen_at_every_node() {
    let s3 = S3::start().await;
    for flags in [&[][..], &["--cache-on-write"][..]] {
        let ring = Ring::start(&s3.endpoint(), 3, flags).await;
        let reading = async {
            loop {
                join_all(ring.nodes.iter().map(|node| node.get("key"))).await;
            }
        };
        let writing = async {
            for round in 0..100 {
                let writer = &ring.nodes[scattered(round) % 3];
                let bytes = format!("version {round}");
                let url = format!("{}/upload", writer.url);
                let answer = upload(&url, "key", bytes.as_bytes()).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                all_serve(&ring, "key", bytes.as_bytes()).await;
            }
        };
        tokio::select! { () = writing => {}, () = reading => {} }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_through_one_node_is_gone_at_all() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    for (keys, query) in [
        (&["one"][..], "key=one"),
        (&["dir/a", "dir/b c", "dir/ü/#"][..], "prefix=dir%2F"),
    ] {
        s3.put("bucket", "other", "stays");
        for key in keys {
            s3.put("bucket", key, "bytes");
            all_serve(&ring, key, b"bytes").await;
        }
        all_serve(&ring, "other", b"stays").await;
        let url = format!("{}/delete?{query}", ring.nodes[1].url);
        let answer = http::whole(http::request(::http::Method::DELETE, &url, &[])).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["deleted"], keys.len());
        for key in keys {
            assert_eq!(s3.get("bucket", key), None);
            for node in &ring.nodes {
                assert_eq!(node.get(key).await.status, 404);
            }
        }
        all_serve(&ring, "other", b"stays").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_404_ends_with_an_upload_at_another_node() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 3, &["--negative-ttl=3600000"]).await;
    for writer in 0..3 {
        let key = format!("key-{writer}");
        for node in &ring.nodes {
            assert_eq!(node.get(&key).await.status, 404);
        }
        let asked = s3.counts();
        for node in &ring.nodes {
            assert_eq!(node.get(&key).await.status, 404);
        }
        assert_eq!(s3.counts(), asked, "the 404 was not remembered");
        let url = format!("{}/upload", ring.nodes[writer].url);
        let answer = upload(&url, &key, b"here").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        all_serve(&ring, &key, b"here").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_wrongly_taken_for_the_home_does_not_pass_on_its_copy() {
    let s3 = S3::start().await;
    // The first knows only the second, the second only the third.
    let ring = Ring::disagreeing(&s3.endpoint(), 3, |me, other| other == me + 1).await;
    let home = |place: usize, key: &str| {
        let object = ObjectId::new("bucket", key).unwrap();
        let owners = ring.nodes[place].node.members().ring();
        let owner = owners.borrow().owner(&object, 0).map(|o| o.name.clone());
        owner.as_deref() == Some(ring.nodes[place + 1].name())
    };
    let key = until("the rings are as wanted", || async {
        (0..1000)
            .map(|i| format!("key-{i}"))
            .find(|key| home(0, key) && home(1, key))
    })
    .await;
    s3.put("bucket", &key, "old");
    assert_eq!(ring.nodes[1].get(&key).await.source(), "origin");
    assert_eq!(ring.nodes[1].get(&key).await.source(), "memory");
    // Nobody has said so to the cache: a copy would still be the old one.
    s3.put("bucket", &key, "new");
    assert_eq!(&ring.nodes[0].get(&key).await.body[..], b"new");
    for (round, node) in ring.nodes.iter().enumerate() {
        let bytes = format!("newest {round}");
        s3.put("bucket", &key, bytes.clone());
        let answer = invalidate(node, &format!("key={key}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // All are told: a heartbeat has made known who is in nobody's list.
        assert_eq!(answer.json()["nodes"].as_array().unwrap().len(), 3);
        all_serve(&ring, &key, bytes.as_bytes()).await;
    }
}
