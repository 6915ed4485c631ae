//! What the gateway does not do, and what it says then.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use http::Method;

use super::{client, everything_file};
use crate::harness::http as plain;
use crate::harness::node::Ring;
use crate::harness::s3::S3;

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_buckets_is_not_implemented_and_never_sent_on() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=none"]).await;
    s3.forget_requests();
    for (method, target) in [
        (Method::PUT, "/bucket"),
        (Method::DELETE, "/bucket"),
        (Method::PUT, "/bucket?policy"),
        (Method::GET, "/bucket?lifecycle"),
        (Method::POST, "/bucket"),
        (Method::POST, "/bucket/key?select&select-type=2"),
    ] {
        let url = format!("{}{target}", ring.nodes[0].s3);
        let answer = plain::whole(plain::request(method, &url, &[]))
            .await
            .unwrap();
        assert_eq!(answer.status, 501, "{target}");
        let text = answer.text();
        assert!(text.contains("<Code>NotImplemented</Code>"), "{text}");
        assert!(text.contains("<RequestId>"), "{text}");
        assert_eq!(answer.header("content-type"), "application/xml");
    }
    assert_eq!(s3.counts().into_iter().collect::<Vec<_>>(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_refused_as_s3_refuses_it() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "secret bytes");
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=keys", &access]).await;
    let gateway = &ring.nodes[0].s3;
    let code = |error: aws_sdk_s3::operation::get_object::GetObjectError| {
        error.meta().code().map(str::to_owned)
    };
    for (id, secret, why) in [
        ("ALL", "wrong", "SignatureDoesNotMatch"),
        ("NOBODY", "all-secret", "InvalidAccessKeyId"),
    ] {
        let get = client(gateway, id, secret)
            .get_object()
            .bucket("bucket")
            .key("key");
        let refused = get.send().await.unwrap_err().into_service_error();
        assert!(
            !refused.meta().message().unwrap_or_default().is_empty(),
            "{why}"
        );
        assert_eq!(code(refused).as_deref(), Some(why));
    }
    let unsigned = plain::get(&format!("{gateway}/bucket/key")).await;
    assert_eq!(unsigned.status, 403);
    assert!(
        unsigned.text().contains("<Code>AccessDenied</Code>"),
        "{}",
        unsigned.text()
    );
    let blob = plain::get(&format!("{}/get?key=key", ring.nodes[0].url)).await;
    assert_eq!(
        (blob.status.as_u16(), &blob.json()["code"]),
        (401, &"Unauthorized".into())
    );
    let token = [("authorization", "Bearer all-token")];
    let blob = plain::get_with(&format!("{}/get?key=key", ring.nodes[0].url), &token).await;
    assert_eq!(blob.text(), "secret bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_cache_takes_no_write_at_its_s3_gateway() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=none", "--read-only"]).await;
    let url = format!("{}/bucket/key", ring.nodes[0].s3);
    let answer = plain::whole(plain::request(Method::DELETE, &url, &[]))
        .await
        .unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("read-only"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_blanks_alone_is_a_key_like_any_other() {
    let s3 = S3::start().await;
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=none"]).await;
    let node = &ring.nodes[0];
    for key in ["%20", "%09", "%C2%A0"] {
        let url = format!("{}/bucket/{key}", node.s3);
        let put = http::Request::put(&url).body(key.into()).unwrap();
        assert_eq!(plain::whole(put).await.unwrap().status, 200, "{key}");
        assert_eq!(plain::get(&url).await.text(), key);
        let blob = plain::get(&format!("{}/get?key={key}", node.url)).await;
        assert_eq!((blob.source(), blob.text()), ("memory", key.to_owned()));
        let gone = plain::request(Method::DELETE, &url, &[]);
        assert_eq!(plain::whole(gone).await.unwrap().status, 204, "{key}");
        assert_eq!(plain::get(&url).await.status, 404, "{key}");
    }
}

/// Puts other bytes into a request that is signed already.
#[derive(Debug)]
struct Tampered;

impl Intercept for Tampered {
    fn name(&self) -> &'static str {
        "Tampered"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *context.request_mut().body_mut() = SdkBody::from("other bytes");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_the_signed_ones_are_refused_with_s3s_code() {
    let s3 = S3::start().await;
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=keys", &access]).await;
    let put = client(&ring.nodes[0].s3, "ALL", "all-secret")
        .put_object()
        .bucket("bucket")
        .key("key")
        .body(ByteStream::from_static(b"these bytes"));
    let refused = put.customize().interceptor(Tampered).send().await;
    let refused = refused.unwrap_err().into_service_error();
    assert_eq!(
        refused.code(),
        Some("XAmzContentSHA256Mismatch"),
        "{refused:?}"
    );
    assert_eq!(s3.get("bucket", "key"), None);
}
