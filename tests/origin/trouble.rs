//! What the origin does when S3 is away, slow, wrong or refuses.

use std::time::Duration;

use falcon_cache::origin::Error;
use tokio::time::Instant;

use super::{all, made, object, origin, secret, settings};
use crate::harness::s3::{Fault, Gate, KEY_ID, S3, SECRET};

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_wherever_it_does() {
    let (s3, origin, _keys) = origin().await;
    s3.put_synthetic("bucket", "k", 1, 40_000);
    for cut in [0, 1, 4096, 20_000, 39_999] {
        s3.fault(Fault::cut_body(cut).times(1));
        let reply = origin.read(&object("k"), 0..40_000, None).await.unwrap();
        let error = all(reply.body).await.unwrap_err();
        assert!(matches!(&*error, Error::Broken(_)), "{cut}: {error}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_must_still_have_the_right_one() {
    let (s3, origin, _keys) = origin().await;
    s3.put_synthetic("bucket", "k", 1, 10_000);
    for (more, good) in [
        (0, true),
        (-1, false),
        (1, false),
        (-10_000, false),
        (70_000, false),
    ] {
        s3.fault(Fault::chunked(more).times(1));
        let reply = origin.read(&object("k"), 0..10_000, None).await.unwrap();
        let read = all(reply.body).await;
        assert_eq!(read.is_ok(), good, "{more}");
        if let Err(error) = read {
            assert!(matches!(&*error, Error::Broken(_)), "{more}: {error}");
        }
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let s3 = S3::start().await;
    let keys = secret(KEY_ID, SECRET);
    let mut settings = settings(&s3.endpoint(), &keys);
    settings.idle_timeout = Duration::from_millis(200);
    let origin = made(settings).await;
    s3.put_synthetic("bucket", "k", 1, 100_000);
    let gate = Gate::new();
    s3.fault(Fault::hold_body(50_000, &gate));
    let reply = origin.read(&object("k"), 0..100_000, None).await.unwrap();
    let error = all(reply.body).await.unwrap_err();
    assert!(matches!(&*error, Error::Timeout { .. }), "{error}");
    assert!(error.is_outage());
    gate.open();
}

#[tokio::test]
async fn the_first_byte_is_waited_for_as_long_as_told_and_no_longer() {
    let s3 = S3::start().await;
    let keys = secret(KEY_ID, SECRET);
    let mut settings = settings(&s3.endpoint(), &keys);
    settings.timeout = Duration::from_millis(300);
    let origin = made(settings).await;
    s3.put("bucket", "k", "abc");
    let gate = Gate::new();
    s3.fault(Fault::hold(&gate));
    let started = Instant::now();
    let error = origin.read(&object("k"), 0..3, None).await.unwrap_err();
    let took = started.elapsed();
    assert!(
        matches!(error, Error::Timeout { .. }) && error.is_outage(),
        "{error}"
    );
    assert!(error.to_string().contains(&s3.endpoint()), "{error}");
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(5),
        "{took:?}"
    );
    gate.reached(1).await;
    gate.open();
    s3.calm();
    // A delay within the time costs time only. The object may be slow to come; that is another wait.
    s3.fault(Fault::delay(Duration::from_millis(20)));
    assert!(origin.read(&object("k"), 0..3, None).await.is_ok());
}

#[tokio::test]
async fn one_failure_is_tried_again_and_a_second_is_told() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "abc");
    for (status, code) in [
        (500, "InternalError"),
        (502, "BadGateway"),
        (503, "SlowDown"),
    ] {
        s3.forget_requests();
        s3.fault(Fault::status(status, code).times(1));
        assert!(
            origin.read(&object("k"), 0..3, None).await.is_ok(),
            "{code}"
        );
        assert_eq!(s3.count("GetObject"), 2, "{code}");

        s3.forget_requests();
        s3.fault(Fault::status(status, code).times(2));
        let error = origin.read(&object("k"), 0..3, None).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.is_outage(), "{code}");
        assert_eq!(s3.count("GetObject"), 2, "{code}");
    }
    s3.fault(Fault::status(503, "SlowDown").times(2));
    let slow = origin.head(&object("k")).await.unwrap_err();
    assert!(matches!(slow, Error::SlowDown { .. }), "{slow}");
}

#[tokio::test]
async fn a_storm_of_slow_downs_is_not_answered_by_a_storm_of_retries() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "abc");
    s3.fault(Fault::status(503, "SlowDown"));
    let asked = 1_000;
    let object = object("k");
    let reads = (0..asked).map(|_| origin.read(&object, 0..3, None));
    let answers = futures::future::join_all(reads).await;
    assert!(answers.iter().all(Result::is_err));
    let tried = s3.count("GetObject");
    assert!(
        tried <= asked + asked / 8,
        "{tried} tries for {asked} reads"
    );
}

#[tokio::test]
async fn refusals_keep_s3s_code_and_words() {
    let (s3, origin, _keys) = origin().await;
    let error = origin
        .read(&object("nothing"), 0..1, None)
        .await
        .unwrap_err();
    let Error::NotFound { code, message, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("NoSuchKey", "the key does not exist")
    );
    assert!(!error.is_outage());
    let headless = origin.head(&object("nothing")).await.unwrap_err();
    assert_eq!(headless.code(), "NoSuchKey");

    let elsewhere = falcon_cache::object::ObjectId::new("no-such-bucket", "k").unwrap();
    let error = origin.read(&elsewhere, 0..1, None).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound { code, .. } if code == "NoSuchBucket"),
        "{error}"
    );

    s3.put("bucket", "k", "abc");
    s3.fault(Fault::status(403, "AccessDenied").on("bucket", "k"));
    let denied = origin.read(&object("k"), 0..1, None).await.unwrap_err();
    assert!(
        matches!(&denied, Error::Denied { code, .. } if code == "AccessDenied"),
        "{denied}"
    );
    let denied = origin.head(&object("k")).await.unwrap_err();
    assert!(
        matches!(&denied, Error::Denied { code, .. } if code == "AccessDenied"),
        "{denied}"
    );
}

#[tokio::test]
async fn an_origin_that_is_away_costs_an_error_with_a_way_out_and_nothing_else() {
    let s3 = S3::start().await;
    let keys = secret(KEY_ID, SECRET);
    s3.put("bucket", "k", "abc");
    s3.stop().await;
    let origin = made(settings(&s3.endpoint(), &keys)).await;
    let error = origin.read(&object("k"), 0..3, None).await.unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.is_outage(),
        "{error:?}"
    );
    let words = error.to_string();
    assert!(
        words.contains(&s3.endpoint()) && words.contains("nothing listens there"),
        "{words}"
    );

    s3.start_again().await;
    let reply = origin.read(&object("k"), 0..3, None).await.unwrap();
    assert_eq!(all(reply.body).await.unwrap(), "abc");
    // Connections that were left in the pool are dead now; nobody notices.
    s3.stop().await;
    s3.start_again().await;
    assert!(origin.read(&object("k"), 0..3, None).await.is_ok());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_said_so() {
    let keys = secret(KEY_ID, SECRET);
    let origin = made(settings("http://no-such-host.invalid:9000", &keys)).await;
    let words = origin.head(&object("k")).await.unwrap_err().to_string();
    assert!(
        words.contains("no-such-host.invalid") && words.contains("does not resolve"),
        "{words}"
    );
}

#[tokio::test]
async fn missing_keys_are_named_with_the_way_out() {
    let s3 = S3::start().await;
    let keys = tempfile::tempdir().unwrap();
    let origin = made(settings(&s3.endpoint(), &keys)).await;
    let error = origin.head(&object("k")).await.unwrap_err();
    let words = error.to_string();
    assert!(matches!(error, Error::Unreachable { .. }), "{words}");
    assert!(
        words.contains("access-key-id") && words.contains("Secret"),
        "{words}"
    );
    assert_eq!(s3.count("HeadObject"), 0);
}
