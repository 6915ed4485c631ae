//! Origins that are a little different: what they say is read leniently, handed on as it came, and believed no further
//! than it proves anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::{HeaderMap, Method};

use super::{MIB, begun, url, verified};
use crate::harness::http::{self, Answer};
use crate::harness::node::{Ring, TestNode};
use crate::harness::odd::{self, Odd};
use crate::harness::s3::{Fault, Gate, S3, synthetic};

const BOTH: [&str; 2] = ["--s3-port=0", "--s3-auth=none"];
const TAG: &[u8] = b"ETag: \"v1\"\r\n";

/// The object at the S3 gateway.
fn gateway(node: &TestNode, key: &str) -> String {
    format!("{}/bucket/{key}", node.s3)
}

/// The object at every node and both APIs, twice.
async fn everywhere(ring: &Ring, key: &str, headers: &[(&str, &str)]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..2 {
        for node in &ring.nodes {
            for url in [url(node, key), gateway(node, key)] {
                answers.push(http::get_with(&url, headers).await);
            }
        }
    }
    answers
}

async fn head(url: &str, headers: &[(&str, &str)]) -> Answer {
    http::whole(http::request(Method::HEAD, url, headers))
        .await
        .unwrap()
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
    let put = http::request(Method::PUT, &gateway(&ring.nodes[0], "k"), &headers);
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

#[tokio::test(flavor = "multi_thread")]
async fn two_sizes_under_one_tag_are_never_mixed() {
    let shrunk = Arc::new(AtomicBool::new(false));
    let now = shrunk.clone();
    let origin = Odd::start(move |asked| {
        let shrunk = now.load(Ordering::Relaxed);
        let bytes = if shrunk {
            synthetic::bytes(2, 0..MIB + 5)
        } else {
            synthetic::bytes(1, 0..3 * MIB)
        };
        odd::object(asked, &bytes, TAG)
    })
    .await;
    let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
    for answer in everywhere(&ring, "k", &[]).await {
        assert!(answer.body.len() as u64 == 3 * MIB && synthetic::matches(1, 0, &answer.body));
    }
    shrunk.store(true, Ordering::Relaxed);
    for answer in everywhere(&ring, "k", &[("cache-control", "no-cache")]).await {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body.len() as u64, MIB + 5);
        assert!(synthetic::matches(2, 0, &answer.body));
    }
}

/// Reads the object of `seed` at every node: whole and in part, each time from S3.
async fn read_past_the_cache(ring: &Ring, key: &str, seed: u64, size: u64) {
    for node in &ring.nodes {
        for _ in 0..2 {
            let answer = begun(&url(node, key)).await;
            assert_eq!(answer.headers()["x-falcon-cache"], "bypass");
            assert_eq!(answer.headers()["x-falcon-bypass"], "whole-only");
            let read = verified(answer.into_body(), seed, 0).await.unwrap();
            assert_eq!(read, size);
        }
        if size > 10 {
            let (first, last) = (size / 2, size - 2);
            let range = format!("bytes={first}-{last}");
            let answer = http::get_with(&gateway(node, key), &[("range", &range)]).await;
            assert_eq!(answer.status, 206);
            assert_eq!(
                answer.header("content-range"),
                format!("bytes {first}-{last}/{size}")
            );
            assert_eq!(answer.body.len() as u64, last + 1 - first);
            assert!(synthetic::matches(seed, first, &answer.body));
        }
        assert_eq!(super::blocks(node), 0);
    }
}

const SIZES: [u64; 4] = [0, 11, MIB, 20 * MIB + 3];

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_a_tag_or_with_a_weak_one_is_read_and_not_kept() {
    for tag in ["", "ETag: W/\"v1\"\r\n"] {
        for size in SIZES {
            let bytes = synthetic::bytes(7, 0..size);
            let origin = Odd::start(move |asked| {
                let fields = format!("Content-Type: a/b\r\n{tag}");
                odd::object(asked, &bytes, fields.as_bytes())
            })
            .await;
            let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
            read_past_the_cache(&ring, "k", 7, size).await;
            let told = head(&url(&ring.nodes[0], "k"), &[]).await;
            assert_eq!(told.status, 200);
            assert_eq!(told.header("content-length"), size.to_string());
            assert_eq!(told.header("content-type"), "a/b");
            assert_eq!(told.headers.contains_key("etag"), !tag.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_an_object_of_unknown_length_announces_none() {
    let s3 = S3::start().await;
    s3.put("bucket", "k", "eleven bytes".to_owned());
    s3.fault(Fault::without("content-length").of("HeadObject"));
    let ring = Ring::start(&s3.endpoint(), 1, &BOTH).await;
    for url in [url(&ring.nodes[0], "k"), gateway(&ring.nodes[0], "k")] {
        let told = head(&url, &[]).await;
        assert_eq!((told.status.as_u16(), told.source()), (200, "bypass"));
        assert!(!told.headers.contains_key("content-length"), "{told:?}");
    }
    assert_eq!(ring.nodes[0].get("k").await.body, "eleven bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_knows_no_ranges_is_read_whole_at_any_size() {
    let bytes = synthetic::bytes(8, 0..20 * MIB);
    let origin = Odd::start(move |asked| odd::whole(asked, &bytes, TAG)).await;
    let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
    read_past_the_cache(&ring, "k", 8, 20 * MIB).await;
    // Where the head was known before.
    assert_eq!(head(&url(&ring.nodes[0], "k"), &[]).await.status, 200);
    let answer = begun(&url(&ring.nodes[0], "k")).await;
    assert_eq!(verified(answer.into_body(), 8, 0).await.unwrap(), 20 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_length_nobody_tells_is_read_to_its_end() {
    for size in SIZES {
        let bytes = synthetic::bytes(9, 0..size);
        let origin = Odd::start(move |asked| odd::chunked(asked, &bytes, TAG)).await;
        let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
        for range in [&[][..], &[("range", "bytes=3-5")]] {
            for answer in everywhere(&ring, "k", range).await {
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(answer.body.len() as u64, size);
                assert!(synthetic::matches(9, 0, &answer.body));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_refuses_checksum_headers_is_asked_without_them_next() {
    let xml = b"<Error><Code>NotImplemented</Code><Message>x-amz-checksum-mode</Message></Error>";
    let origin = Odd::start(|asked| {
        if asked.header("x-amz-checksum-mode").is_some() {
            let length = format!("Content-Length: {}\r\n", xml.len());
            return odd::says(asked, "501 Not Implemented", length.as_bytes(), xml);
        }
        odd::object(asked, b"bytes", TAG)
    })
    .await;
    let ring = Ring::start(&origin.endpoint, 1, &BOTH).await;
    for key in ["a", "b"] {
        let answer = ring.nodes[0].get(key).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"bytes"[..])
        );
        let told = head(&url(&ring.nodes[0], key), &[("cache-control", "no-cache")]).await;
        assert_eq!(told.status, 200);
    }
    let refused = origin.asked();
    let refused = refused
        .iter()
        .filter(|it| it.header("x-amz-checksum-mode").is_some());
    assert_eq!(refused.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_what_s3_said_beside_its_code() {
    let absent = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>gone</Message><Of>S3</Of></Error>";
    let frozen = "<Error><Code>InvalidObjectState</Code><Message>frozen</Message><StorageClass>GLACIER</StorageClass></Error>";
    let origin = Odd::start(move |asked| {
        let (status, xml) = match &*asked.target {
            target if target.contains("frozen") => ("403 Forbidden", frozen),
            _ => ("404 Not Found", absent),
        };
        let fields = format!(
            "Content-Type: application/xml\r\nContent-Length: {}\r\n\
             x-amz-delete-marker: true\r\nx-amz-version-id: 7\r\nx-amz-request-id: theirs\r\n",
            xml.len()
        );
        odd::says(asked, status, fields.as_bytes(), xml.as_bytes())
    })
    .await;
    let ring = Ring::start(&origin.endpoint, 3, &BOTH).await;
    for (key, status, xml) in [("gone", 404, absent), ("frozen", 403, frozen)] {
        for _ in 0..2 {
            for node in &ring.nodes {
                let answer = http::get(&gateway(node, key)).await;
                assert_eq!((answer.status.as_u16(), &*answer.text()), (status, xml));
                let told = head(&gateway(node, key), &[]).await;
                assert_eq!(told.status, status);
                let blob = node.get(key).await;
                assert_eq!(blob.status, status);
                let code = blob.json()["code"].clone();
                assert!(xml.contains(code.as_str().unwrap()), "{code}");
                for answer in [answer, told, blob] {
                    assert_eq!(answer.header("x-amz-delete-marker"), "true");
                    assert_eq!(answer.header("x-amz-version-id"), "7");
                    assert_ne!(answer.header("x-amz-request-id"), "theirs");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_object_is_called_by_its_name_where_s3_says_nothing() {
    let origin =
        Odd::start(|asked| odd::says(asked, "404 Not Found", b"Content-Length: 0\r\n", b"")).await;
    let ring = Ring::start(&origin.endpoint, 2, &BOTH).await;
    for node in &ring.nodes {
        let answer = node.get("no/such key").await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (404, &"NoSuchKey".into())
        );
        let message = answer.json()["message"].clone();
        assert_eq!(message, "no object \"no/such key\" in bucket \"bucket\"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_by_its_number_is_asked_of_s3_once_and_then_given_from_memory() {
    let bytes = synthetic::bytes(3, 0..7 * MIB);
    let origin = Odd::start(move |asked| {
        let number = asked.target.split("partNumber=").nth(1).map(|it| &it[..1]);
        let Some(number) = number else {
            return odd::object(asked, &bytes, TAG);
        };
        let (first, last) = if number == "1" {
            (0, 5 * MIB)
        } else {
            (5 * MIB, 7 * MIB)
        };
        let fields = format!(
            "ETag: \"v1\"\r\nx-amz-mp-parts-count: 2\r\nx-amz-checksum-crc32: part{number}==\r\n\
             Content-Length: {}\r\nContent-Range: bytes {first}-{}/{}\r\n",
            last - first,
            last - 1,
            bytes.len()
        );
        let part = &bytes[usize::try_from(first).unwrap()..usize::try_from(last).unwrap()];
        odd::says(asked, "206 Partial Content", fields.as_bytes(), part)
    })
    .await;
    let ring = Ring::start(&origin.endpoint, 1, &BOTH).await;
    let node = &ring.nodes[0];
    for round in 0..3 {
        for (number, first, last) in [(1, 0, 5 * MIB), (2, 5 * MIB, 7 * MIB)] {
            let url = format!("{}?partNumber={number}", gateway(node, "k"));
            let answer = http::get(&url).await;
            assert_eq!(answer.status, 206);
            assert_eq!(answer.header("x-amz-mp-parts-count"), "2");
            let range = format!("bytes {first}-{}/{}", last - 1, 7 * MIB);
            assert_eq!(answer.header("content-range"), range);
            assert_eq!(answer.body.len() as u64, last - first);
            assert!(synthetic::matches(3, first, &answer.body));
            let told = head(&url, &[("x-amz-checksum-mode", "ENABLED")]).await;
            assert_eq!(
                (told.status.as_u16(), told.header("content-range")),
                (206, &*range)
            );
            assert_eq!(told.header("x-amz-mp-parts-count"), "2");
            assert_eq!(
                told.header("x-amz-checksum-crc32"),
                format!("part{number}==")
            );
        }
        if round == 0 {
            origin.forget_requests();
        }
    }
    assert_eq!(origin.asked().len(), 0, "{:?}", origin.asked());
    // It is known of the version, and forgotten with it.
    let forget = format!("{}/invalidate?key=k", node.url);
    assert_eq!(http::post(&forget).await.status, 200);
    assert_eq!(
        http::get(&format!("{}?partNumber=1", gateway(node, "k")))
            .await
            .status,
        206
    );
    assert!(origin.count("HEAD") >= 1, "{:?}", origin.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn that_s3_has_no_checksums_of_an_object_is_asked_once() {
    let s3 = S3::start().await;
    s3.put("bucket", "k", "bytes");
    let ring = Ring::start(&s3.endpoint(), 2, &BOTH).await;
    assert_eq!(ring.nodes[0].get("k").await.status, 200);
    for node in &ring.nodes {
        let told = head(&gateway(node, "k"), &[("x-amz-checksum-mode", "ENABLED")]).await;
        assert_eq!(
            (told.status.as_u16(), told.header("content-length")),
            (200, "5")
        );
    }
    s3.forget_requests();
    for node in ring.nodes.iter().chain(&ring.nodes) {
        let told = head(&gateway(node, "k"), &[("x-amz-checksum-mode", "ENABLED")]).await;
        assert_eq!(
            (told.status.as_u16(), told.header("content-length")),
            (200, "5")
        );
    }
    assert_eq!(s3.counts().into_iter().collect::<Vec<_>>(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_late_first_byte_in_the_middle_of_an_object_is_asked_for_again() {
    for place in [0, 1] {
        let s3 = S3::start().await;
        let ring = Ring::start(&s3.endpoint(), 2, &["--timeout=1000"]).await;
        let key = ring.key_of(0);
        s3.put_synthetic("bucket", &key, 16, 40 * MIB);
        let (gate, late) = (Gate::new(), AtomicBool::new(false));
        let held = gate.clone();
        s3.at_get(move |s3, call| {
            let middle = call.range.as_deref() == Some("bytes=16777216-25165823");
            if middle && !late.swap(true, Ordering::Relaxed) {
                s3.fault(Fault::hold(&held).of("GetObject").times(1));
            }
        });
        let answer = begun(&url(&ring.nodes[place], &key)).await;
        let read = verified(answer.into_body(), 16, 0).await;
        assert_eq!(read.ok(), Some(40 * MIB));
        gate.reached(1).await;
        gate.open();
    }
}
