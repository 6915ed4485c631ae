//! Objects that are overwritten while they are read in parts: one version whole, or a cut connection; never a mixture.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::Method;
use bytes::BytesMut;
use futures::future::join_all;
use http_body_util::BodyExt;

use crate::harness::http;
use crate::harness::node::Ring;
use crate::harness::s3::{Fault, S3, synthetic};

const TASKS: u64 = 16;
/// Thousands where the code is built to run fast.
const READS: u64 = if cfg!(debug_assertions) { 20 } else { 150 };
/// Before one of so many reads the object becomes another one, under all the reads that run.
const PACE: u64 = 12;

/// What became of the reads.
#[derive(Debug, Default)]
struct Tally {
    whole: AtomicU64,
    cut: AtomicU64,
    refused: AtomicU64,
}

/// The versions there were: tag to seed and size.
#[derive(Default)]
struct Versions(Mutex<HashMap<String, (u64, u64)>>);

impl Versions {
    /// Overwrites the object with its next version.
    fn next(&self, s3: &S3) {
        let mut all = self.0.lock().unwrap();
        let seed = all.len() as u64;
        let size = 500_000 + seed / 8 % 13 * 50_021;
        let etag = s3.put_synthetic("bucket", "k", seed, size);
        all.insert(etag, (seed, size));
    }

    fn of(&self, etag: &str) -> (u64, u64) {
        *self
            .0
            .lock()
            .unwrap()
            .get(etag)
            .expect("a tag that S3 gave")
    }
}

/// One read of all or of `range`, which begins at `from`: right, or cut.
async fn read(url: &str, range: Option<(u64, u64)>, versions: &Versions, tally: &Tally) {
    let header = range.map(|(from, to)| format!("bytes={from}-{}", to - 1));
    let headers: Vec<_> = header
        .iter()
        .map(|value| ("range", value.as_str()))
        .collect();
    let answer = http::send(http::request(Method::GET, url, &headers)).await;
    let Ok(answer) = answer else {
        // Cut while the head was still on its way.
        tally.cut.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (head, mut body) = answer.into_parts();
    if head.status == 503 {
        let code = body.collect().await.unwrap().to_bytes();
        let code = String::from_utf8_lossy(&code).into_owned();
        assert!(code.contains("VersionChanged"), "{code}");
        tally.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    assert!(head.status.is_success(), "{}", head.status);
    let mut bytes = BytesMut::new();
    let mut cut = false;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => cut = true,
        }
        if cut {
            break;
        }
    }
    let (seed, size) = versions.of(head.headers["etag"].to_str().unwrap());
    let (from, to) = range.unwrap_or((0, size));
    assert!(
        synthetic::matches(seed, from, &bytes),
        "bytes of another version"
    );
    assert_eq!(
        head.headers["content-length"],
        (to - from).to_string().as_str()
    );
    if cut {
        tally.cut.fetch_add(1, Ordering::Relaxed);
    } else {
        assert_eq!(bytes.len() as u64, to - from, "short, with a clean end");
        tally.whole.fetch_add(1, Ordering::Relaxed);
    }
}

async fn storm(faults: &[Fault]) {
    let s3 = S3::start().await;
    for fault in faults {
        s3.fault(fault.clone());
    }
    let (versions, tally) = (Arc::new(Versions::default()), Arc::new(Tally::default()));
    versions.next(&s3);
    let ring = Ring::start_with(&s3.endpoint(), 3, &[], |settings| {
        settings.proxy.ttl = Some(Duration::ZERO);
        settings.proxy.blocks.size = 32 << 10;
        settings.proxy.part_bytes = 128 << 10;
        settings.proxy.parts_in_flight = 2;
    })
    .await;
    let urls: Vec<_> = ring
        .nodes
        .iter()
        .map(|node| super::url(node, "k"))
        .collect();
    let tasks = (0..TASKS).map(|task| {
        let (s3, urls) = (s3.clone(), urls.clone());
        let (versions, tally) = (versions.clone(), tally.clone());
        tokio::spawn(async move {
            let mut dice = task + 1;
            let mut roll = |sides: u64| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice % sides
            };
            for _ in 0..READS {
                if roll(PACE) == 0 {
                    versions.next(&s3);
                }
                let node = usize::try_from(roll(3)).unwrap();
                let from = roll(400_000);
                let range = (roll(3) > 0).then(|| (from, from + 1 + roll(500_000 - from)));
                read(&urls[node], range, &versions, &tally).await;
            }
        })
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        task.unwrap();
    }
    let overwritten = versions.0.lock().unwrap().len();
    println!("{overwritten} versions, {tally:?}");
    assert!(overwritten > 10, "{overwritten} versions");
    assert!(
        tally.whole.load(Ordering::Relaxed) > TASKS * READS / 10,
        "{tally:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reader_of_a_constantly_overwritten_object_gets_one_version() {
    storm(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_ignores_if_match_is_noticed_by_its_tag() {
    storm(&[Fault::ignore_conditions().of("GetObject")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_between_two_parts_cuts_the_connection() {
    for faults in [vec![], vec![Fault::ignore_conditions()]] {
        for place in [0, 1] {
            let s3 = S3::start().await;
            let ring = Ring::start(&s3.endpoint(), 2, &[]).await;
            let key = ring.key_of(0);
            s3.put_synthetic("bucket", &key, 1, 20 << 20);
            for fault in &faults {
                s3.fault(fault.clone());
            }
            let gets = AtomicU64::new(0);
            s3.at_get(move |s3, call| {
                if gets.fetch_add(1, Ordering::Relaxed) == 1 {
                    s3.put_synthetic("bucket", &call.key, 2, 20 << 20);
                }
            });
            let answer = super::begun(&super::url(&ring.nodes[place], &key)).await;
            let read = super::verified(answer.into_body(), 1, 0).await;
            assert!(read.is_err(), "{read:?} bytes and a clean end");
            let answer = super::begun(&super::url(&ring.nodes[place], &key)).await;
            assert_eq!(
                super::verified(answer.into_body(), 2, 0).await.unwrap(),
                20 << 20
            );
        }
    }
}
