//! Schedules by hand: the ways in which a node once went on with what had been invalidated.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::sleep;

use super::checker::Outcome;
use super::client::Writer;
use super::dice::Dice;
use super::rig::{BUCKET, KEYS, Rig};
use super::{HEALED, folder, until_current};
use crate::harness::http::{self, encoded};
use crate::harness::until;

/// A ring before an object under each key, which each node holds.
async fn warm(name: &str) -> Option<Rig> {
    let flags = ["--ttl=0", "--timeout=5000"].map(str::to_owned);
    let rig = Rig::start(&folder(name), &flags).await?;
    rig.well_within(HEALED).await.unwrap();
    let mut writer = writer(&rig);
    for (key, name) in KEYS.iter().enumerate() {
        let (_, bytes) = writer.version(key);
        rig.s3.put(BUCKET, name, bytes);
        for place in &rig.places {
            let url = format!("{}/get?key={}", place.blob, encoded(name));
            assert_eq!(http::get(&url).await.status, 200);
        }
    }
    Some(rig)
}

fn writer(rig: &Rig) -> Writer<'_> {
    Writer {
        rig,
        dice: Dice::new(1, 1),
        me: 0,
        sequence: u64::from(u32::MAX),
    }
}

/// Node 2 hangs while node 0 invalidates everything that was overwritten, node 0 ends, node 2 comes back.
async fn a_debt_outlives_its_coordinator(name: &str, gently: bool) {
    let Some(rig) = warm(name).await else {
        return;
    };
    let mut writer = Writer {
        sequence: 0,
        ..writer(&rig)
    };
    let meanwhile = async {
        for (key, name) in KEYS.iter().enumerate() {
            let (_, bytes) = writer.version(key);
            rig.s3.put(BUCKET, name, bytes);
        }
        let told = join_all((0..KEYS.len()).map(|key| writer.invalidate_key(key, 0)));
        for told in told.await {
            let unanswered = vec![2];
            assert_eq!(told, Outcome::Done { unanswered });
        }
        rig.end(0, gently).await;
    };
    rig.hang(2, true, meanwhile).await;
    until("the two that are left see each other", || async {
        let seen = http::try_get(&format!("{}/ring", rig.places[1].blob))
            .await
            .ok()?
            .json();
        let members = seen["members"].as_array()?;
        let serving = members.iter().filter(|member| member["state"] == "serving");
        (serving.count() == 2).then_some(())
    })
    .await;
    let wrong = until_current(&rig, &[1, 2]).await;
    assert!(
        wrong.is_empty(),
        "{} of {}: {}",
        wrong.len(),
        4 * KEYS.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_asked_for_what_it_owes_although_the_coordinator_ended() {
    a_debt_outlives_its_coordinator("told-to-end", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_owes_is_asked_of_it_although_the_coordinator_was_killed() {
    a_debt_outlives_its_coordinator("killed", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_one_name_serves_nothing_from_before_a_barrier() {
    let Some(rig) = warm("twins").await else {
        return;
    };
    let (mut twin, url) = rig.twin(2);
    let get = |name: &str| format!("{url}/get?key={}", encoded(name));
    // Long enough for a start and some heartbeats; it may end by itself or never be ready.
    for _ in 0..100 {
        let ready = http::try_get(&format!("{url}/readyz")).await;
        let ended = twin.child.try_wait().unwrap();
        assert_ne!(
            ended.and_then(|status| status.code()),
            Some(2),
            "a twin has right flags"
        );
        if ended.is_some() || ready.is_ok_and(|answer| answer.status == 200) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let mut writer = writer(&rig);
    writer.sequence *= 2;
    for (key, name) in KEYS.iter().enumerate() {
        let Ok(old) = http::try_get(&get(name)).await else {
            return;
        };
        if old.status != 200 {
            return;
        }
        let (_, bytes) = writer.version(key);
        rig.s3.put(BUCKET, name, bytes.clone());
        let told = writer.invalidate_key(key, key % 2).await;
        let complete = told == Outcome::Done { unanswered: vec![] };
        let Ok(new) = http::try_get(&get(name)).await else {
            return;
        };
        let stale = new.status == 200 && new.body != bytes;
        assert!(!(complete && stale), "{name} is old at the twin of node 2");
    }
    let wrong = until_current(&rig, &[0, 1, 2]).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
