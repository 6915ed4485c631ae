//! Writes, uploads in parts, deletes.

use bytes::Bytes;
use falcon_cache::object::ObjectId;
use falcon_cache::origin::{Error, Headers, Origin, Upload};

use super::{all, fields, made, object, origin, owned, secret, settings, strange_keys};
use crate::harness::s3::{Fault, Gate, S3};
use crate::harness::{until, weed};

fn headers() -> Headers {
    Headers {
        content_type: Some("text/x-test".into()),
        cache_control: Some("no-store".into()),
        content_encoding: Some("br".into()),
        content_disposition: Some("inline".into()),
        metadata: vec![("a".into(), "1".into())],
    }
}

/// Five MiB, the least that a part but the last holds.
fn part(fill: u8) -> Bytes {
    vec![fill; 5 << 20].into()
}

async fn nothing_unfinished(s3: &S3) {
    until("no upload is left", || async {
        s3.unfinished().is_empty().then_some(())
    })
    .await;
}

async fn started(origin: &Origin) -> Upload {
    let upload = origin.start_upload(&object("k"), &headers()).await.unwrap();
    upload.part(1, part(b'1')).await.unwrap();
    upload
}

#[tokio::test]
async fn what_was_put_is_read_with_its_headers() {
    let (s3, origin, _keys) = origin().await;
    let etag = origin
        .put(&object("k"), &headers(), "abc".into())
        .await
        .unwrap();
    let reply = origin.read(&object("k"), 0..3, Some(&etag)).await.unwrap();
    assert_eq!(
        fields(&reply.head),
        [
            ("cache-control", "no-store"),
            ("content-disposition", "inline"),
            ("content-encoding", "br"),
            ("content-type", "text/x-test"),
            ("x-amz-meta-a", "1"),
        ]
        .map(owned)
    );
    assert_eq!(all(reply.body).await.unwrap(), "abc");

    // A body in memory can be sent again.
    s3.fault(Fault::status(500, "InternalError").of("PutObject").times(1));
    origin
        .put(&object("k"), &headers(), "new".into())
        .await
        .unwrap();
    assert_eq!(s3.get("bucket", "k").unwrap(), "new");
}

#[tokio::test]
async fn strange_keys_are_exact_in_every_operation() {
    let (s3, origin, _keys) = origin().await;
    let mut keys = strange_keys();
    keys.push("control\u{1}character".to_owned());
    keys.push("line\r\nend".to_owned());
    for key in &keys {
        let bytes = Bytes::from(format!("of {key}"));
        origin
            .put(&object(key), &Headers::default(), bytes.clone())
            .await
            .unwrap();
        assert_eq!(s3.get("bucket", key).as_ref(), Some(&bytes), "{key:?}");
        let reply = origin.read(&object(key), 0..u64::MAX, None).await.unwrap();
        assert_eq!(all(reply.body).await.unwrap(), bytes, "{key:?}");
    }
    origin.delete(&object(&keys[0])).await.unwrap();
    assert!(s3.stored("bucket", &keys[0]).is_none());
    origin.delete(&object(&keys[0])).await.unwrap();
    assert_eq!(
        origin
            .delete_many("bucket", &keys[2..])
            .await
            .unwrap()
            .len(),
        0
    );
    let left = origin.list("bucket", "", 1000, None).await.unwrap().objects;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key, keys[1]);
}

#[tokio::test]
async fn thousands_are_deleted_a_thousand_at_a_time() {
    let (s3, origin, _keys) = origin().await;
    let keys: Vec<String> = (0..2_500).map(|n| format!("k{n}")).collect();
    for key in &keys {
        s3.put("bucket", key, "x");
    }
    assert!(
        origin
            .delete_many("bucket", &keys)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(s3.count("DeleteObjects"), 3);
    assert!(
        origin
            .list("bucket", "", 10, None)
            .await
            .unwrap()
            .objects
            .is_empty()
    );
}

#[tokio::test]
async fn an_upload_in_parts_becomes_one_object() {
    let (s3, origin, _keys) = origin().await;
    let upload = origin.start_upload(&object("k"), &headers()).await.unwrap();
    let (second, first) = tokio::join!(upload.part(2, "end".into()), upload.part(1, part(b'1')));
    first.unwrap();
    second.unwrap();
    let unfinished = &s3.unfinished()[0];
    assert_eq!(
        (unfinished.bucket.as_str(), unfinished.key.as_str()),
        ("bucket", "k")
    );
    assert_eq!(unfinished.parts.len(), 2);
    let etag = upload.complete().await.unwrap();
    let head = origin.head(&object("k")).await.unwrap();
    assert_eq!((&head.etag, head.size), (&etag, (5 << 20) + 3));
    assert_eq!(head.fields.get("content-type"), Some(&b"text/x-test"[..]));
    assert!(etag.as_str().ends_with("-2\""), "{etag}");
    assert!(s3.get("bucket", "k").unwrap().ends_with(b"1end"));
    assert!(s3.unfinished().is_empty());
}

#[tokio::test]
async fn an_upload_that_is_given_up_or_dropped_leaves_nothing() {
    let (s3, origin, _keys) = origin().await;
    started(&origin).await.abort().await;
    assert!(s3.unfinished().is_empty());

    // The first try to abort fails; nobody else would clean up.
    s3.fault(
        Fault::status(503, "SlowDown")
            .of("AbortMultipartUpload")
            .times(2),
    );
    drop(started(&origin).await);
    origin.settled().await;
    assert!(s3.unfinished().is_empty());
    assert!(s3.stored("bucket", "k").is_none());
}

#[tokio::test]
async fn an_upload_whose_task_is_cancelled_leaves_nothing() {
    let (s3, origin, _keys) = origin().await;
    let gate = Gate::new();
    s3.fault(Fault::hold(&gate).of("UploadPart"));
    let task = tokio::spawn(async move { drop(started(&origin).await) });
    gate.reached(1).await;
    task.abort();
    nothing_unfinished(&s3).await;
    gate.open();
}

#[tokio::test]
async fn an_upload_that_cannot_be_completed_leaves_nothing() {
    let (s3, origin, _keys) = origin().await;
    s3.fault(Fault::status(500, "InternalError").of("CompleteMultipartUpload"));
    let error = started(&origin).await.complete().await.unwrap_err();
    // A 500 does not prove that the parts were not joined.
    assert!(matches!(&error, Error::Unknown(_)), "{error}");
    assert_eq!(error.code(), "InternalError");
    assert_eq!(s3.count("CompleteMultipartUpload"), 1);
    assert!(s3.unfinished().is_empty());
    assert!(s3.stored("bucket", "k").is_none());
}

#[tokio::test]
async fn a_real_server_is_read_written_listed_and_cleaned_up() {
    let Some(weed) = weed::Weed::start().await else {
        return;
    };
    let keys = secret(weed::KEY_ID, weed::SECRET);
    let origin = made(settings(&weed.endpoint(), &keys)).await;
    weed.create_bucket("bucket").await;

    let etag = origin
        .put(&object("a b+c"), &headers(), "0123456789".into())
        .await
        .unwrap();
    let reply = origin
        .read(&object("a b+c"), 2..5, Some(&etag))
        .await
        .unwrap();
    assert_eq!((reply.range, reply.head.size), (2..5, 10));
    let known = reply.head;
    assert_eq!(all(reply.body).await.unwrap(), "234");
    let still = origin.head(&object("a b+c")).await.unwrap();
    assert_eq!(
        (still.etag, still.last_modified),
        (known.etag, known.last_modified)
    );
    let other = falcon_cache::object::ETag::from("\"another\"");
    let changed = origin.read(&object("a b+c"), 0..1, Some(&other)).await;
    assert!(matches!(changed, Err(Error::VersionChanged)));
    let gone = origin.read(&object("nothing"), 0..1, None).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    let elsewhere = ObjectId::new("no-such-bucket", "k").unwrap();
    assert!(matches!(
        origin.read(&elsewhere, 0..1, None).await,
        Err(Error::NotFound { .. })
    ));
    let beyond = origin.read(&object("a b+c"), 10..11, None).await;
    assert!(matches!(beyond, Err(Error::RangeNotSatisfiable)));

    let upload = started(&origin).await;
    upload.part(2, "end".into()).await.unwrap();
    upload.complete().await.unwrap();
    drop(started(&origin).await);
    origin.settled().await;
    assert_eq!(origin.head(&object("k")).await.unwrap().size, (5 << 20) + 3);

    let listed = origin.list("bucket", "", 10, None).await.unwrap();
    let listed: Vec<_> = listed.objects.into_iter().map(|entry| entry.key).collect();
    assert_eq!(listed, ["a b+c", "k"]);
    assert!(
        origin
            .delete_many("bucket", &listed)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        origin
            .list("bucket", "", 10, None)
            .await
            .unwrap()
            .objects
            .is_empty()
    );
}
