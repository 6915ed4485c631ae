//! A node that is killed, and one that hangs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{BLOCK, Cluster, Load, Objects, RUN_BYTES};
use crate::harness::s3::S3;

/// Which runs of which objects a node owns.
struct Share(HashSet<(String, u64)>);

impl Share {
    async fn of(place: usize, cluster: &Cluster, objects: &Objects) -> Self {
        let mut share = HashSet::new();
        for (key, bytes) in objects.0.iter() {
            let runs = (bytes.len() as u64).div_ceil(RUN_BYTES);
            for (run, owner) in cluster.owners(0, key).await.into_iter().enumerate() {
                if owner == place && (run as u64) < runs {
                    share.insert((key.clone(), run as u64));
                }
            }
        }
        Self(share)
    }

    fn has_some_of(&self, key: &str) -> bool {
        self.0.iter().any(|(owned, _)| owned == key)
    }

    /// Panics if S3 was asked for anything else, or for more than both others want at the moment in which only one of
    /// them knows of the loss.
    fn assert_alone_was_read(&self, s3: &S3, asked: &Mutex<HashSet<String>>) {
        for key in asked.lock().unwrap().drain() {
            assert!(self.has_some_of(&key), "S3 was asked for {key}");
        }
        let mut bytes: HashMap<(String, u64), u64> = HashMap::new();
        for read in s3.reads() {
            let run = (read.key.clone(), read.range.start / RUN_BYTES);
            assert!(self.0.contains(&run), "S3 was read: {read:?}");
            *bytes.entry(run).or_default() += read.range.end - read.range.start;
        }
        for ((key, run), bytes) in bytes {
            let size = s3.get("bucket", &key).unwrap().len() as u64;
            let length = size.min((run + 1) * RUN_BYTES) - run * RUN_BYTES;
            assert!(
                bytes <= 2 * length,
                "{key} {run}: {bytes} of {length} bytes"
            );
        }
        assert_eq!(s3.count("HeadObject"), 0);
    }
}

/// Notes the keys that S3 is asked for, whatever it answers.
fn note_asked(s3: &S3) -> Arc<Mutex<HashSet<String>>> {
    let asked = Arc::new(Mutex::new(HashSet::new()));
    let notes = asked.clone();
    s3.at_get(move |_, call| {
        notes.lock().unwrap().insert(call.key.clone());
    });
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_costs_no_request_and_only_its_own_share_is_read_again() {
    let s3 = S3::start().await;
    let objects = Objects::put(&s3, 200, 4);
    // No copies of what others own, so that what is lost is lost.
    let Some(mut cluster) = Cluster::start(&s3, &[BLOCK, "--replica-share=0"]).await else {
        return;
    };
    let lost = Share::of(2, &cluster, &objects).await;
    assert!((40..120).contains(&lost.0.len()), "{}", lost.0.len());
    objects.read_all(&cluster.nodes).await;
    s3.forget_requests();
    let asked = note_asked(&s3);

    let load = Load::start(&objects, &cluster.nodes[..2], 3);
    load.more(100).await;
    assert!(s3.reads().is_empty(), "warm before: {:?}", s3.reads());
    cluster.nodes[2].signal("KILL").await;
    for at in [0, 1] {
        cluster.sees(at, 2, "unreachable").await;
    }
    load.more(500).await;
    objects.read_all(&cluster.nodes[..2]).await;
    lost.assert_alone_was_read(&s3, &asked);
    assert!(!s3.reads().is_empty(), "something was lost");

    s3.forget_requests();
    cluster.start_again(2);
    cluster.all_serve().await;
    load.more(500).await;
    let back = Share::of(2, &cluster, &objects).await;
    assert_eq!(back.0, lost.0);
    objects.read_all(&cluster.nodes).await;
    load.end().await;
    lost.assert_alone_was_read(&s3, &asked);

    s3.forget_requests();
    objects.read_all(&cluster.nodes).await;
    assert!(s3.reads().is_empty(), "warm again: {:?}", s3.reads());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_node_costs_one_bounded_wait_and_is_asked_when_it_wakes() {
    let s3 = S3::start().await;
    let objects = Objects::put(&s3, 100, 0);
    let Some(cluster) = Cluster::start(&s3, &["--replica-share=0"]).await else {
        return;
    };
    objects.read_all(&cluster.nodes).await;
    let mut owned = Vec::new();
    for key in objects.keys() {
        if cluster.owners(0, key).await[0] == 2 {
            owned.push(key);
        }
    }
    assert!(owned.len() > 10, "{owned:?}");

    cluster.nodes[2].signal("STOP").await;
    for node in &cluster.nodes[..2] {
        let mut slow = 0;
        for key in &owned {
            let began = Instant::now();
            let answer = timeout(Duration::from_secs(2), objects.check(&node.url, key));
            answer.await.expect("an answer in time").unwrap();
            slow += u32::from(began.elapsed() > Duration::from_millis(250));
        }
        assert!(slow <= 2, "{slow} of {} waited", owned.len());
    }

    cluster.nodes[2].signal("CONT").await;
    cluster.all_serve().await;
    for key in &owned {
        assert_eq!(cluster.owners(0, key).await[0], 2);
    }
    objects.read_all(&cluster.nodes).await;
}
