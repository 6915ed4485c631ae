//! A node that nobody reaches, and two that go by one name.

use falcon_cache::api::Ready;
use tokio::time::Instant;

use super::{all_serve, holds, invalidate};
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::S3;
use crate::harness::{DEADLINE, until, until_within};

/// What it says while it is not ready.
async fn is_not_ready(node: &TestNode, why: &str) {
    let mut ready = node.node.ready();
    let told = |ready: &Ready| matches!(ready, Ready::No(what) if what.contains(why));
    tokio::time::timeout(DEADLINE, ready.wait_for(told))
        .await
        .unwrap_or_else(|_| panic!("in vain: {why}"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_cut_off_and_given_up_serves_nothing_from_before() {
    let s3 = S3::start().await;
    let (ring, cut) = Ring::start_with_a_cut(&s3.endpoint(), 3, &["--ttl=0"]).await;
    let keys: Vec<String> = (0..3).map(|place| ring.key_of(place)).collect();
    for key in &keys {
        s3.put("bucket", key, "old");
        all_serve(&ring, key, b"old").await;
    }
    cut.off();
    cut.taken_out();
    for key in &keys {
        s3.put("bucket", key, "new");
    }
    let answer = invalidate(&ring.nodes[0], "prefix=key-").await;
    assert_eq!(
        answer.status,
        207,
        "it may still believe: {}",
        answer.text()
    );
    // Each node gives it up in its own time, and hears of it once more from those that have not yet.
    until_within(2 * DEADLINE, "an invalidation without it", || async {
        let answer = invalidate(&ring.nodes[0], "prefix=key-").await;
        (answer.status == 200).then_some(())
    })
    .await;
    for key in &keys {
        all_serve(&ring, key, b"new").await;
    }
    // Nobody tells it of this, and nobody would.
    for key in &keys {
        s3.put("bucket", key, "newer");
        assert_eq!(ring.nodes[2].get(key).await.text(), "newer");
    }
    let before = s3.put("bucket", "another", "stays");
    ring.nodes[2].get("another").await;
    cut.heals();
    until("its lease is back", || async {
        let members = ring.nodes[2].node.members();
        members.holds_lease(Instant::now()).then_some(())
    })
    .await;
    assert_ne!(
        holds(&ring.nodes[2], "another"),
        Some(before),
        "it was forgotten"
    );
    let answer = invalidate(&ring.nodes[1], "prefix=key-").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains(ring.nodes[2].name()), "it is told");
    for key in &keys {
        all_serve(&ring, key, b"newer").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_one_name_is_not_ready_and_the_first_notices() {
    let s3 = S3::start().await;
    let mut ring = Ring::start(&s3.endpoint(), 3, &["--ttl=0"]).await;
    let key = ring.key_of(2);
    s3.put("bucket", &key, "old");
    all_serve(&ring, &key, b"old").await;
    let second = ring.namesake(2).await;
    is_not_ready(&second, "another process goes by the name").await;
    for bytes in ["new", "newer"] {
        assert_eq!(second.get(&key).await.status, 200);
        s3.put("bucket", &key, bytes);
        let answer = invalidate(&ring.nodes[0], &format!("key={key}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        all_serve(&ring, &key, bytes.as_bytes()).await;
        assert_eq!(second.get(&key).await.text(), bytes);
    }
    for node in &ring.nodes {
        assert_eq!(*node.node.ready().borrow(), Ready::Yes);
    }
    ring.nodes.pop().unwrap().node.leave().await;
    second.ready().await;
    s3.put("bucket", &key, "newest");
    until("the first is gone", || async {
        let answer = invalidate(&ring.nodes[0], &format!("key={key}")).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(second.get(&key).await.text(), "newest");
}
