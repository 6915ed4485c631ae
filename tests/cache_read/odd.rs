//! Origins that are a little different: what they say is read leniently, handed on as it came, and believed no further than
//! it proves anything.

use std::time::Duration;

use ::http::{HeaderMap, Method};

use super::{MIB, url};
use crate::harness::http::{self, Answer};
use crate::harness::node::{Ring, TestNode};
use crate::harness::odd::{self, Odd};
use crate::harness::s3::{S3, synthetic};

const BOTH: [&str; 2] = ["--s3-port=0", "--s3-auth=none"];
const TAG: &[u8] = b"ETag: \"v1\"\r\n";

/// The object at the S3 door.
fn door(node: &TestNode, key: &str) -> String {
    format!("{}/bucket/{key}", node.s3)
}

/// The object at every node and both doors, twice.
async fn everywhere(ring: &Ring, key: &str, headers: &[(&str, &str)]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..2 {
        for node in &ring.nodes {
            for url in [url(node, key), door(node, key)] {
                answers.push(http::get_with(&url, headers).await);
            }
        }
    }
    answers
}

fn raw<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let values = headers.get_all(name).iter();
    values.map(::http::HeaderValue::as_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_in_latin_1_reaches_the_client_byte_for_byte() {
    let origin = Odd::start(|asked| {
        let fields = b"ETag: \"v1\"\r\nContent-Disposition: attachment; filename=\"r\xe9sum\xe9.txt\"\r\nx-amz-meta-who: Ren\xe9\r\n";
        odd::object(asked, b"bytes", fields)
    })
    .await;
    let ring = Ring::start(&origin.endpoint, 3, &BOTH).await;
    for answer in everywhere(&ring, "k", &[]).await {
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"bytes"[..])
        );
        let disposition = raw(&answer.headers, "content-disposition");
        assert_eq!(disposition, [b"attachment; filename=\"r\xe9sum\xe9.txt\""]);
        assert_eq!(raw(&answer.headers, "x-amz-meta-who"), [b"Ren\xe9"]);
    }
    assert_eq!(origin.asked().len(), 1, "{:?}", origin.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_date_a_line_twice_and_an_odd_word_make_no_object_unreadable() {
    for date in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        let origin = Odd::start(move |asked| {
            let fields = format!(
                "ETag: \"v1\"\r\nLast-Modified: {date}\r\nCache-Control: max-age=9\r\nCache-Control: public\r\n\
                 x-amz-server-side-encryption-bucket-key-enabled: True\r\nx-amz-tagging-count: many\r\n\
                 Expires: 0\r\nx-amz-object-lock-retain-until-date: tomorrow\r\n"
            );
            odd::object(asked, b"bytes", fields.as_bytes())
        })
        .await;
        let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
        for answer in everywhere(&ring, "k", &[]).await {
            assert_eq!(
                (answer.status.as_u16(), &answer.body[..]),
                (200, &b"bytes"[..])
            );
            assert_eq!(
                answer.header("last-modified"),
                "Sun, 06 Nov 1994 08:49:37 GMT"
            );
            let control = raw(&answer.headers, "cache-control");
            assert_eq!(control, [&b"max-age=9"[..], &b"public"[..]]);
            let enabled = "x-amz-server-side-encryption-bucket-key-enabled";
            assert_eq!(answer.header(enabled), "True");
            assert_eq!(answer.header("x-amz-tagging-count"), "many");
            assert_eq!(
                answer.header("x-amz-object-lock-retain-until-date"),
                "tomorrow"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_entries_of_user_metadata_come_through_both_ways() {
    let metadata: Vec<_> = (0..300)
        .map(|i| format!("x-amz-meta-{i}: {i}\r\n"))
        .collect();
    let metadata = metadata.concat();
    let fields = format!("ETag: \"v1\"\r\n{metadata}");
    let origin = Odd::start(move |asked| {
        let put = b"Content-Length: 0\r\nETag: \"v2\"\r\n";
        match &*asked.method {
            "PUT" => odd::says(asked, "200 OK", put, b""),
            _ => odd::object(asked, b"bytes", fields.as_bytes()),
        }
    })
    .await;
    let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
    for answer in everywhere(&ring, "k", &[]).await {
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"bytes"[..])
        );
        assert_eq!(answer.header("x-amz-meta-299"), "299");
    }
    let metadata: Vec<_> = (0..300)
        .map(|i| (format!("x-amz-meta-{i}"), i.to_string()))
        .collect();
    let headers: Vec<_> = metadata
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let put = http::request(Method::PUT, &door(&ring.nodes[0], "k"), &headers);
    let answer = http::whole(put).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = origin
        .asked()
        .into_iter()
        .find(|it| it.method == "PUT")
        .unwrap();
    assert_eq!(sent.header("x-amz-meta-299"), Some("299"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_change_under_one_tag_are_seen_when_s3_is_asked_again() {
    let s3 = S3::start().await;
    let etag = s3.put("bucket", "k", "bytes");
    let ring = Ring::start(&s3.endpoint(), 3, &[]).await;
    for node in &ring.nodes {
        assert_eq!(node.get("k").await.body, "bytes");
    }
    for (kind, later) in [("text/one", 9), ("text/two", 0)] {
        s3.change("bucket", "k", |stored| {
            stored.headers.content_type = Some(kind.to_owned());
            stored
                .headers
                .metadata
                .insert("kind".to_owned(), kind.to_owned());
            stored.modified += Duration::from_secs(later);
        });
        for node in &ring.nodes {
            let answer = http::get_with(&url(node, "k"), &[("cache-control", "no-cache")]).await;
            assert_eq!(answer.header("content-type"), kind);
            assert_eq!(answer.header("x-amz-meta-kind"), kind);
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(
                (answer.source(), &answer.body[..]),
                ("revalidated", &b"bytes"[..])
            );
            assert_eq!(node.get("k").await.header("content-type"), kind);
        }
    }
    assert_eq!(s3.count("GetObject"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_bytes_of_an_empty_object_are_none_and_no_error() {
    let s3 = S3::start().await;
    s3.put("bucket", "empty", "");
    let ring = Ring::start(&s3.endpoint(), 2, &BOTH).await;
    for answer in everywhere(&ring, "empty", &[("range", "bytes=-8")]).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-length"), "0");
        assert_eq!(answer.header("content-range"), "");
    }
    for range in ["bytes=0-", "bytes=0-0", "bytes=-0"] {
        for answer in everywhere(&ring, "empty", &[("range", range)]).await {
            assert_eq!(answer.status, 416, "{range}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_object_whose_range_is_answered_206_is_empty() {
    for said in ["bytes 0-0/0", "bytes 0--1/0", "bytes */0"] {
        let origin = Odd::start(move |asked| {
            let fields = format!("ETag: \"v1\"\r\nContent-Length: 0\r\nContent-Range: {said}\r\n");
            odd::says(asked, "206 Partial Content", fields.as_bytes(), b"")
        })
        .await;
        let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
        for answer in everywhere(&ring, "empty", &[]).await {
            assert_eq!(answer.status, 200, "{said}: {}", answer.text());
            assert_eq!(answer.header("content-length"), "0");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_does_not_say_of_what_is_never_taken_for_the_whole() {
    let bytes = synthetic::bytes(1, 0..9 * MIB);
    let origin = Odd::start(move |asked| {
        let part = &bytes[..bytes.len().min(8 << 20)];
        let fields = format!("ETag: \"v1\"\r\nContent-Length: {}\r\n", part.len());
        match &*asked.method {
            "HEAD" => odd::whole(asked, &bytes, TAG),
            _ => odd::says(asked, "206 Partial Content", fields.as_bytes(), part),
        }
    })
    .await;
    let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
    for answer in everywhere(&ring, "k", &[]).await {
        assert_eq!(answer.status, 502, "{} bytes", answer.body.len());
    }
}
