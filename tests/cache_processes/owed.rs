//! What a node that hung owes to an invalidation: it is told, though the coordinator is gone; and it believes nothing
//! when it hung for so long that nobody may be left to tell it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, url};
use crate::harness::http;
use crate::harness::s3::S3;
use crate::harness::{until, until_within};

const NO_EXPIRY: &str = "--ttl=0";

/// Every key, at these nodes, is what S3 holds by now.
async fn serve_new(cluster: &Cluster, places: &[usize], keys: &[String]) {
    for place in places {
        for key in keys {
            let what = format!("{key} at {place} is new");
            until_within(Duration::from_secs(15), &what, || async {
                let answer = cluster.nodes[*place].get(key).await;
                (answer.text() == "new").then_some(())
            })
            .await;
        }
    }
}

/// Hangs one node, invalidates at another, which answers 207 and ends by `signal`; then the first wakes.
async fn outlives_its_coordinator(signal: &str) {
    let s3 = S3::start().await;
    let Some(mut cluster) = Cluster::start(&s3, &[NO_EXPIRY]).await else {
        return;
    };
    let mut keys = Vec::new();
    for key in 0..12 {
        let key = cluster.key_of(key % 3, &format!("key-{key}")).await;
        s3.put("bucket", &key, "old");
        for node in &cluster.nodes {
            assert_eq!(node.get(&key).await.text(), "old");
        }
        keys.push(key);
    }
    cluster.nodes[2].signal("STOP").await;
    cluster.sees(0, 2, "unreachable").await;
    for key in &keys {
        s3.put("bucket", key, "new");
    }
    let answer = http::post(&format!("{}/invalidate?prefix=key-", cluster.nodes[0].url)).await;
    assert_eq!(answer.status, 207, "{}", answer.text());
    assert!(answer.text().contains(&url(cluster.ports[2])));
    cluster.nodes[0].signal(signal).await;
    cluster.nodes[0].child.wait().await.unwrap();
    cluster.nodes[2].signal("CONT").await;
    serve_new(&cluster, &[1, 2], &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_that_hung_owes_outlives_a_coordinator_that_is_killed() {
    outlives_its_coordinator("KILL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_that_hung_owes_outlives_a_coordinator_that_leaves() {
    outlives_its_coordinator("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_outslept_its_lease_serves_nothing_old_even_when_alone() {
    let s3 = S3::start().await;
    let Some(mut cluster) = Cluster::start(&s3, &[NO_EXPIRY]).await else {
        return;
    };
    let mut keys = Vec::new();
    for place in 0..3 {
        let key = cluster.key_of(place, "key").await;
        s3.put("bucket", &key, "old");
        assert_eq!(cluster.nodes[2].get(&key).await.text(), "old");
        keys.push(key);
    }
    cluster.nodes[2].signal("STOP").await;
    let stopped = Instant::now();
    for key in &keys {
        s3.put("bucket", key, "new");
    }
    until("its lease has run out", || async {
        (stopped.elapsed() > Duration::from_secs(9)).then_some(())
    })
    .await;
    for place in [0, 1] {
        cluster.nodes[place].signal("KILL").await;
        cluster.nodes[place].child.wait().await.unwrap();
    }
    cluster.nodes[2].signal("CONT").await;
    for key in &keys {
        assert_eq!(cluster.nodes[2].get(key).await.text(), "new");
    }
}
