//! The Rust SDK as a client, with nothing changed but the endpoint.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use bytes::Bytes;

use super::{client, everything_file};
use crate::harness::node::Ring;
use crate::harness::s3::S3;

/// Bytes that are nowhere the same for long.
fn bytes(length: usize) -> Bytes {
    (0..length)
        .map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap())
        .collect::<Vec<u8>>()
        .into()
}

/// Put, get, range, list, multipart, copy, delete: at one node, read at another.
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn a_working_day(here: aws_sdk_s3::Client, there: aws_sdk_s3::Client) {
    let small = bytes(70_000);
    let put = here
        .put_object()
        .bucket("bucket")
        .key("a b/ü#1")
        .metadata("color", "blue");
    put.content_type("text/x-test")
        .body(ByteStream::from(small.clone()))
        .send()
        .await
        .unwrap();
    for client in [&here, &there] {
        let got = client
            .get_object()
            .bucket("bucket")
            .key("a b/ü#1")
            .send()
            .await
            .unwrap();
        assert_eq!(got.content_type(), Some("text/x-test"));
        assert_eq!(got.metadata().unwrap()["color"], "blue");
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), small);
        let part = client
            .get_object()
            .bucket("bucket")
            .key("a b/ü#1")
            .range("bytes=10-19");
        let part = part.send().await.unwrap();
        assert_eq!(part.content_range(), Some("bytes 10-19/70000"));
        assert_eq!(
            part.body.collect().await.unwrap().into_bytes(),
            small[10..20]
        );
    }

    let upload = here.create_multipart_upload().bucket("bucket").key("large");
    let id = upload.send().await.unwrap().upload_id.unwrap();
    let large = bytes(3 * 5 * 1024 * 1024);
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(large.chunks(5 * 1024 * 1024)) {
        let sent = here
            .upload_part()
            .bucket("bucket")
            .key("large")
            .upload_id(&id);
        let body = ByteStream::from(part.to_vec());
        let sent = sent.part_number(number).body(body).send().await.unwrap();
        let done = CompletedPart::builder().part_number(number);
        parts.push(
            done.set_e_tag(sent.e_tag)
                .set_checksum_crc32(sent.checksum_crc32)
                .build(),
        );
    }
    let whole = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = here
        .complete_multipart_upload()
        .bucket("bucket")
        .key("large");
    complete
        .upload_id(&id)
        .multipart_upload(whole)
        .send()
        .await
        .unwrap();
    let got = there
        .get_object()
        .bucket("bucket")
        .key("large")
        .send()
        .await
        .unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), large);

    let copy = here
        .copy_object()
        .bucket("bucket")
        .key("copied")
        .copy_source("bucket/large");
    copy.send().await.unwrap();
    let head = there
        .head_object()
        .bucket("bucket")
        .key("copied")
        .send()
        .await
        .unwrap();
    assert_eq!(
        head.content_length(),
        Some(i64::try_from(large.len()).unwrap())
    );

    let keys = |listed: aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output| {
        let all = listed.contents().iter();
        all.map(|object| object.key().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let listed = there
        .list_objects_v2()
        .bucket("bucket")
        .send()
        .await
        .unwrap();
    assert_eq!(keys(listed), ["a b/ü#1", "copied", "large"]);
    let one = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
    let all = Delete::builder()
        .objects(one("a b/ü#1"))
        .objects(one("copied"));
    here.delete_objects()
        .bucket("bucket")
        .delete(all.build().unwrap())
        .send()
        .await
        .unwrap();
    here.delete_object()
        .bucket("bucket")
        .key("large")
        .send()
        .await
        .unwrap();
    for key in ["a b/ü#1", "copied", "large"] {
        let gone = there
            .get_object()
            .bucket("bucket")
            .key(key)
            .send()
            .await
            .unwrap_err();
        assert!(gone.into_service_error().is_no_such_key(), "{key}");
    }
    let listed = there
        .list_objects_v2()
        .bucket("bucket")
        .send()
        .await
        .unwrap();
    assert!(keys(listed).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_reads_and_writes_at_an_open_gateway() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 2, &["--s3-auth=none"]).await;
    let at = |place: usize| client(&ring.nodes[place].s3, "whoever", "whatever");
    a_working_day(at(0), at(1)).await;
    assert!(s3.unfinished().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_reads_and_writes_with_a_key_of_the_access_file() {
    let s3 = S3::start().await;
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 2, &["--s3-auth=keys", &access]).await;
    let at = |place: usize| client(&ring.nodes[place].s3, "ALL", "all-secret");
    a_working_day(at(0), at(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_through_the_gateway_costs_s3_one_request() {
    let s3 = S3::start().await;
    s3.put("bucket", "small", bytes(5_000));
    let ring = Ring::start(&s3.endpoint(), 3, &["--s3-auth=none"]).await;
    s3.forget_requests();
    for node in &ring.nodes {
        for _ in 0..2 {
            let got = client(&node.s3, "k", "s")
                .get_object()
                .bucket("bucket")
                .key("small");
            let got = got.send().await.unwrap().body.collect().await.unwrap();
            assert_eq!(got.into_bytes(), bytes(5_000));
        }
    }
    assert_eq!(
        s3.counts().into_iter().collect::<Vec<_>>(),
        [("GetObject", 1)]
    );
}
