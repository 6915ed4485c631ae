//! S3 away.

use std::time::Duration;

use tokio::time::timeout;

use super::{Cluster, Objects};
use crate::harness::s3::S3;

#[tokio::test(flavor = "multi_thread")]
async fn without_s3_warm_reads_go_on_and_failures_of_cold_ones_are_forgotten() {
    let s3 = S3::start().await;
    let objects = Objects::put(&s3, 30, 1);
    let Some(cluster) = Cluster::start(&s3, &["--timeout=2000"]).await else {
        return;
    };
    objects.read_all(&cluster.nodes).await;
    let mut cold = Vec::new();
    for place in 0..3 {
        let key = cluster.key_of(place, "cold").await;
        s3.put("bucket", &key, key.clone());
        cold.push(key);
    }

    s3.stop().await;
    for _ in 0..2 {
        for node in &cluster.nodes {
            for key in &cold {
                // What the time-out of S3 allows, and as much again for a machine with other things to do.
                let answer = timeout(Duration::from_secs(4), node.get(key)).await;
                let answer = answer.expect("told in time");
                let status = answer.status.as_u16();
                assert!([502, 504].contains(&status), "{status}: {}", answer.text());
                let failure = answer.json();
                assert_eq!(
                    (&failure["key"], &failure["bucket"]),
                    (&key[..].into(), &"bucket".into())
                );
                for member in ["code", "message", "request_id"] {
                    assert!(!failure[member].as_str().unwrap().is_empty(), "{failure}");
                }
            }
        }
        objects.read_all(&cluster.nodes).await;
    }

    s3.start_again().await;
    for node in &cluster.nodes {
        for key in &cold {
            let answer = node.get(key).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, key.clone()));
        }
    }
}
