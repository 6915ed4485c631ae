//! Reads, heads and revalidation.

use std::collections::HashMap;
use std::time::Duration;

use falcon_cache::object::ETag;
use falcon_cache::origin::Error;

use super::{all, fields, object, origin, owned};
use crate::harness::s3::{Content, Fault, Read, StoredHeaders, synthetic};

#[tokio::test]
async fn a_read_gives_the_bytes_asked_for_and_the_head_of_their_version() {
    let (s3, origin, _keys) = origin().await;
    let headers = StoredHeaders {
        content_type: Some("text/x-test".into()),
        cache_control: Some("no-store".into()),
        content_encoding: Some("gzip".into()),
        content_disposition: Some("inline".into()),
        content_language: Some("de".into()),
        metadata: HashMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
        ..StoredHeaders::default()
    };
    let etag = s3.put_with("bucket", "k", Content::Bytes("0123456789".into()), headers);
    let reply = origin.read(&object("k"), 2..5, None).await.unwrap();
    assert_eq!(reply.range, 2..5);
    assert_eq!(reply.head.etag, ETag::from(etag));
    assert_eq!(reply.head.size, 10);
    assert_eq!(
        fields(&reply.head),
        [
            ("cache-control", "no-store"),
            ("content-disposition", "inline"),
            ("content-encoding", "gzip"),
            ("content-language", "de"),
            ("content-type", "text/x-test"),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-b", "2"),
        ]
        .map(owned)
    );
    assert!(reply.head.last_modified.is_some());
    let head = origin.head(&object("k")).await.unwrap();
    assert!(head.checksums_known && !reply.head.checksums_known);
    assert_eq!((head.etag, head.size), (reply.head.etag, 10));
    assert_eq!(head.fields, reply.head.fields);
    // "gzip" is what the object says of itself; nobody takes it apart.
    assert_eq!(all(reply.body).await.unwrap(), "234");
    assert_eq!(
        s3.reads(),
        [Read {
            bucket: "bucket".into(),
            key: "k".into(),
            range: 2..5,
            sent: 3
        }]
    );
}

#[tokio::test]
async fn a_range_may_end_beyond_the_object_and_must_not_begin_there() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "0123456789");
    for end in [10, 11, 1 << 40, u64::MAX] {
        let reply = origin.read(&object("k"), 8..end, None).await.unwrap();
        assert_eq!(reply.range, 8..10);
        assert_eq!(all(reply.body).await.unwrap(), "89");
    }
    let beyond = origin.read(&object("k"), 10..11, None).await;
    assert!(matches!(beyond, Err(Error::RangeNotSatisfiable)));
    s3.put("bucket", "empty", "");
    let empty = origin.read(&object("empty"), 0..1, None).await;
    assert!(matches!(empty, Err(Error::RangeNotSatisfiable)));
    assert_eq!(origin.head(&object("empty")).await.unwrap().size, 0);
}

#[tokio::test]
async fn an_object_of_three_gib_is_read_from_any_place_once() {
    let (s3, origin, _keys) = origin().await;
    let size = 3 << 30;
    s3.put_synthetic("bucket", "huge", 7, size);
    let from = (2 << 30) + 12_345;
    let reply = origin
        .read(&object("huge"), from..from + (1 << 20), None)
        .await
        .unwrap();
    assert_eq!(reply.head.size, size);
    assert!(synthetic::matches(7, from, &all(reply.body).await.unwrap()));
    assert_eq!(s3.sent_bytes(), 1 << 20);

    s3.put_synthetic("bucket", "large", 8, (5 << 20) + 3);
    for part in [0, 2 << 20, 4 << 20] {
        let reply = origin
            .read(&object("large"), part..part + (2 << 20), None)
            .await
            .unwrap();
        assert!(synthetic::matches(8, part, &all(reply.body).await.unwrap()));
    }
    s3.assert_read_once("bucket", "large");
}

#[tokio::test]
async fn another_version_than_the_wanted_one_is_never_read() {
    let (s3, origin, _keys) = origin().await;
    let old = ETag::from(s3.put("bucket", "k", "old"));
    assert!(origin.read(&object("k"), 0..3, Some(&old)).await.is_ok());
    s3.put("bucket", "k", "new");
    let changed = origin.read(&object("k"), 0..3, Some(&old)).await;
    assert!(matches!(changed, Err(Error::VersionChanged)));
    s3.fault(Fault::ignore_conditions());
    let ignored = origin.read(&object("k"), 0..3, Some(&old)).await;
    assert!(matches!(ignored, Err(Error::VersionChanged)));
}

#[tokio::test]
async fn an_object_that_changes_between_two_parts_is_noticed() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "aaaaaaaa");
    s3.at_get(|s3, call| {
        if call.range.as_deref() == Some("bytes=4-7") {
            s3.put("bucket", "k", "bbbbbbbb");
        }
    });
    let first = origin.read(&object("k"), 0..4, None).await.unwrap();
    let second = origin
        .read(&object("k"), 4..8, Some(&first.head.etag))
        .await;
    assert!(matches!(second, Err(Error::VersionChanged)));
}

#[tokio::test]
async fn an_origin_without_ranges_gives_all_to_the_end_of_the_object() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "0123456789");
    s3.fault(Fault::ignore_range());
    let whole = origin.read(&object("k"), 0..4, None).await.unwrap();
    assert_eq!((whole.range, whole.head.size), (0..10, 10));
    assert!(whole.head.whole_only);
    assert_eq!(all(whole.body).await.unwrap(), "0123456789");
    let middle = origin.read(&object("k"), 4..8, None).await.unwrap();
    assert_eq!((middle.range, middle.head.size), (4..10, 10));
    assert_eq!(all(middle.body).await.unwrap(), "456789");
    let beyond = origin.read(&object("k"), 10..12, None).await;
    assert!(matches!(beyond, Err(Error::RangeNotSatisfiable)));
}

#[tokio::test]
async fn an_answer_that_contradicts_the_question_is_broken() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "0123456789");
    for range in [
        "bytes 1-4/10",
        "bytes 0-3/*",
        "bytes 0-4/10",
        "bytes 0-9/10",
        "nonsense",
    ] {
        s3.fault(Fault::header("content-range", range).times(1));
        let reply = origin.read(&object("k"), 0..4, None).await;
        assert!(matches!(reply, Err(Error::Broken(_))), "{range}: {reply:?}");
    }
    s3.fault(Fault::without("etag"));
    let nameless = origin.read(&object("k"), 0..4, None).await.unwrap();
    assert!(nameless.head.whole_only);
    assert!(origin.head(&object("k")).await.unwrap().whole_only);
}

#[tokio::test]
async fn asking_what_s3_holds_now_costs_no_bytes_and_finds_changed_headers() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "old");
    let known = origin.head(&object("k")).await.unwrap();
    assert_eq!(origin.head(&object("k")).await.unwrap(), known);
    // The same bytes with other headers: the tag does not tell.
    s3.change("bucket", "k", |stored| {
        stored.headers.content_type = Some("a/b".to_owned());
        stored.modified += Duration::from_secs(9);
    });
    let again = origin.head(&object("k")).await.unwrap();
    assert_eq!(again.etag, known.etag);
    assert!(again.last_modified > known.last_modified);
    assert_eq!(again.fields.get("content-type"), Some(&b"a/b"[..]));

    s3.put("bucket", "k", "new");
    assert_ne!(origin.head(&object("k")).await.unwrap().etag, known.etag);
    s3.remove("bucket", "k");
    let gone = origin.head(&object("k")).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    assert_eq!(s3.count("GetObject"), 0);
}
