//! Keys that change while requests are on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{all, made, object, secret, settings, write_secret};
use crate::harness::s3::S3;

#[tokio::test]
async fn only_the_right_keys_are_let_in() {
    let s3 = S3::start().await;
    s3.put("bucket", "k", "abc");
    s3.demand(&[("id", "right")]);
    let keys = secret("id", "wrong");
    let origin = made(settings(&s3.endpoint(), &keys)).await;
    let error = origin.read(&object("k"), 0..3, None).await.unwrap_err();
    assert_eq!(error.code(), "SignatureDoesNotMatch");
    // Corrected, it works with the next request: no restart, no wait.
    write_secret(&keys, "id", "right");
    assert!(origin.read(&object("k"), 0..3, None).await.is_ok());
    s3.demand(&[("other", "right")]);
    let error = origin.read(&object("k"), 0..3, None).await.unwrap_err();
    assert_eq!(error.code(), "InvalidAccessKeyId");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_keys_rotate() {
    let s3 = S3::start().await;
    s3.put_synthetic("bucket", "k", 3, 10_000);
    let pairs: Vec<_> = (0..6)
        .map(|n| (format!("id-{n}"), format!("secret-{n}")))
        .collect();
    let pair = |n: usize| (pairs[n].0.as_str(), pairs[n].1.as_str());
    s3.demand(&[pair(0)]);
    let keys = secret(pair(0).0, pair(0).1);
    let origin = made(settings(&s3.endpoint(), &keys)).await;

    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let (origin, stop) = (origin.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut done = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    if n % 2 == 0 {
                        let reply = origin.read(&object("k"), 0..10_000, None).await.unwrap();
                        assert_eq!(all(reply.body).await.unwrap().len(), 10_000);
                    } else {
                        origin.head(&object("k")).await.unwrap();
                    }
                    done += 1;
                }
                done
            })
        })
        .collect();

    for n in 1..pairs.len() {
        // As operators do it: both pairs are good, the files change one by one, then the old pair ends.
        s3.demand(&[pair(n - 1), pair(n)]);
        write_secret(&keys, pair(n).0, pair(n).1);
        s3.demand(&[pair(n)]);
        let before = s3.counts().values().sum::<u64>();
        crate::harness::until("requests with the new keys", || async {
            (s3.counts().values().sum::<u64>() > before + 100).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}
