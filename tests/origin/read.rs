//! Reads, heads and revalidation.

use std::collections::HashMap;
use std::time::Duration;

use falcon_cache::object::ETag;
use falcon_cache::origin::{Error, Revalidation};

use super::{all, object, origin};
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
        reply.head.fields.iter().collect::<Vec<_>>(),
        [
            ("cache-control", "no-store"),
            ("content-type", "text/x-test"),
            ("content-encoding", "gzip"),
            ("content-disposition", "inline"),
            ("content-language", "de"),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-b", "2"),
        ]
    );
    assert!(reply.head.last_modified.is_some());
    let head = origin.head(&object("k")).await.unwrap();
    assert_eq!(head, reply.head);
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
async fn an_origin_without_ranges_gives_the_whole_object_from_its_start_only() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "0123456789");
    s3.fault(Fault::ignore_range());
    let whole = origin.read(&object("k"), 0..4, None).await.unwrap();
    assert_eq!((whole.range, whole.head.size), (0..10, 10));
    assert_eq!(all(whole.body).await.unwrap(), "0123456789");
    let middle = origin.read(&object("k"), 4..8, None).await;
    assert!(matches!(middle, Err(Error::Broken(_))));
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
    let nameless = origin.read(&object("k"), 0..4, None).await;
    assert!(matches!(nameless, Err(Error::Broken(_))));
    assert!(matches!(
        origin.head(&object("k")).await,
        Err(Error::Broken(_))
    ));
}

#[tokio::test]
async fn a_version_that_is_still_there_costs_no_bytes() {
    let (s3, origin, _keys) = origin().await;
    s3.put("bucket", "k", "old");
    let known = origin.head(&object("k")).await.unwrap();
    let same = origin.revalidate(&object("k"), &known).await.unwrap();
    assert!(matches!(same, Revalidation::Unchanged));

    s3.fault(Fault::ignore_conditions());
    let forgetful = origin.revalidate(&object("k"), &known).await.unwrap();
    assert!(matches!(forgetful, Revalidation::Unchanged));
    // The same bytes stored again, perhaps with other headers: the tag alone does not tell.
    s3.change("bucket", "k", |stored| {
        stored.modified += Duration::from_secs(9);
    });
    let again = origin.revalidate(&object("k"), &known).await.unwrap();
    assert!(matches!(again, Revalidation::Changed(head) if head.etag == known.etag));
    s3.calm();

    s3.put("bucket", "k", "new");
    let Revalidation::Changed(new) = origin.revalidate(&object("k"), &known).await.unwrap() else {
        panic!("the new version was not noticed");
    };
    assert_ne!(new.etag, known.etag);
    s3.remove("bucket", "k");
    let gone = origin.revalidate(&object("k"), &known).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    assert_eq!(s3.count("GetObject"), 0);
}
