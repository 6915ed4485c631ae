//! What was judged is what is sent: bodies and sources are written anew, and what is not known is refused or asked of
//! S3.

use bytes::Bytes;
use http::{Method, Request};

use super::client;
use super::two_readings::{Case, RULES, send};
use crate::harness::http as plain;
use crate::harness::node::Ring;
use crate::harness::s3::S3;

/// A ring of one node before that S3, at which anybody may do all.
async fn open(s3: &S3) -> Ring {
    Ring::start(&s3.endpoint(), 1, &["--s3-auth=none"]).await
}

async fn ask(method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> plain::Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Bytes::copy_from_slice(body.as_bytes()));
    plain::whole(request.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_deletes_what_was_read_from_a_list_and_every_node_forgets_that() {
    let s3 = S3::start().await;
    for key in ["private/models/b", "models/b", "\u{1f600}"] {
        s3.put("bucket", key, "bytes");
    }
    let ring = open(&s3).await;
    let gateway = &ring.nodes[0].s3;
    let warm = format!("{gateway}/bucket/private/models/b");
    assert_eq!(plain::get(&warm).await.text(), "bytes");
    let body = "<s:Delete xmlns:s=\"urn:s\"><s:Object><s:Key><![CDATA[private/]]>models/b</s:Key></s:Object>\
                <s:Object><s:Key>&#x1F600;</s:Key></s:Object></s:Delete>";
    let url = format!("{gateway}/bucket?delete");
    let refused = ask(
        Method::POST,
        &url,
        &[("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")],
        body,
    )
    .await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("<Code>BadDigest</Code>"),
        "{}",
        refused.text()
    );
    assert_eq!(s3.count("DeleteObjects"), 0);
    let done = ask(Method::POST, &url, &[], body).await;
    assert_eq!(done.status, 200, "{}", done.text());
    for (key, there) in [
        ("private/models/b", false),
        ("models/b", true),
        ("\u{1f600}", false),
    ] {
        assert_eq!(s3.get("bucket", key).is_some(), there, "{key}");
    }
    assert_eq!(plain::get(&warm).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_not_known_is_asked_of_s3_and_not_of_the_cache() {
    let s3 = S3::start().await;
    s3.put("bucket", "models/a", "bytes");
    let ring = open(&s3).await;
    let object = format!("{}/bucket/models/a", ring.nodes[0].s3);
    assert_eq!(plain::get(&object).await.source(), "origin");
    assert_eq!(
        plain::get(&format!("{object}?x-id=GetObject"))
            .await
            .source(),
        "memory"
    );
    for query in [
        "annotation",
        "x-oss-process=image/resize",
        "x-amz-expected-bucket-owner=1",
    ] {
        let before = s3.count("GetObject");
        let asked = plain::get(&format!("{object}?{query}")).await;
        assert_eq!(asked.source(), "bypass", "{query}");
        assert_eq!(s3.count("GetObject"), before + 1, "{query}");
    }
    s3.forget_requests();
    for (method, query) in [
        (Method::PUT, "append&position=0"),
        (Method::DELETE, "annotation"),
        (Method::GET, "tagging&new"),
    ] {
        let refused = ask(method, &format!("{object}?{query}"), &[], "").await;
        assert_eq!(refused.status, 501, "{query}");
    }
    for query in [
        "uploadId=&partNumber=1",
        "uploadId=u",
        "acl&acl",
        "acl=1",
        "versionId=%FF",
    ] {
        let refused = ask(Method::PUT, &format!("{object}?{query}"), &[], "").await;
        assert_eq!(refused.status, 400, "{query}: {}", refused.text());
    }
    assert_eq!(s3.counts().into_iter().collect::<Vec<_>>(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_limited_rights_get_no_read_that_falcon_cannot_judge() {
    let s3 = S3::start().await;
    s3.put("bucket", "models/a", "bytes");
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), RULES).unwrap();
    let access = format!("--access-file={}", rules.path().display());
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=keys", &access]).await;
    let gateway = &ring.nodes[0].s3;
    let marked = Case::get("/bucket/models/a?watermark=cHJpdmF0ZS9h".to_owned());
    for (id, secret, status) in [("MODELS", "models-secret", 501), ("ALL", "all-secret", 200)] {
        let answer = send(&client(gateway, id, secret), gateway, &marked).await;
        assert_eq!(answer.0, status, "{id}: {}", answer.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_bare_slash_lists_the_buckets_and_as_few_as_are_asked_for() {
    let s3 = S3::start().await;
    for bucket in ["logs-a", "logs-b", "logs-c"] {
        s3.create_bucket(bucket);
    }
    s3.put("bucket", "key", "bytes");
    let flags = ["--s3-auth=none", "--buckets=logs-a,logs-b,logs-c"];
    let ring = Ring::start(&s3.endpoint(), 1, &flags).await;
    let gateway = &ring.nodes[0].s3;
    for path in ["//bucket/key", "//bucket", "//"] {
        let answer = plain::get(&format!("{gateway}{path}")).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(
            answer.text().contains("<Code>InvalidBucketName</Code>"),
            "{path}"
        );
    }
    let names = async |query: &str| {
        let answer = plain::get(&format!("{gateway}/{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        let of = |tag: &str| -> Vec<String> {
            let open = format!("<{tag}>");
            let parts = text.split(&open).skip(1);
            parts
                .map(|part| part.split('<').next().unwrap().to_owned())
                .collect()
        };
        (of("Name").join(" "), of("ContinuationToken").concat())
    };
    let all = ("bucket logs-a logs-b logs-c".to_owned(), String::new());
    assert_eq!(names("").await, all);
    let (first, token) = names("?prefix=logs-&max-buckets=2").await;
    assert_eq!(first, "logs-a logs-b");
    let next = names(&format!(
        "?prefix=logs-&max-buckets=2&continuation-token={token}"
    ))
    .await;
    assert_eq!(next, ("logs-c".to_owned(), String::new()));
    let refused = plain::get(&format!("{gateway}/?max-buckets=0")).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_s3_do_more_than_was_asked_is_not_sent_on() {
    let s3 = S3::start().await;
    s3.put("bucket", "private/a", "private");
    let ring = open(&s3).await;
    let object = format!("{}/bucket/models/a", ring.nodes[0].s3);
    s3.forget_requests();
    for (name, value, status) in [
        ("x-amz-meta-snowball-auto-extract", "true", 501),
        ("x-minio-force-delete", "true", 501),
        ("x-amz-rename-source", "/bucket/private/a", 501),
        ("x-http-method-override", "DELETE", 501),
        ("x_amz_copy_source", "bucket/private/a", 400),
        (
            "x-amz-copy-source",
            "bucket/private/a?versionId=1&versionId=2",
            400,
        ),
    ] {
        let refused = ask(Method::PUT, &object, &[(name, value)], "").await;
        assert_eq!(refused.status, status, "{name}: {}", refused.text());
        assert!(refused.text().contains(name), "{}", refused.text());
    }
    let twice = [
        ("x-amz-copy-source", "bucket/a"),
        ("x-amz-copy-source", "bucket/private/a"),
    ];
    let refused = ask(Method::PUT, &object, &twice, "").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(s3.counts().into_iter().collect::<Vec<_>>(), []);
    let copied = ask(
        Method::PUT,
        &object,
        &[("x-amz-copy-source", "/bucket/%70rivate%2Fa")],
        "",
    )
    .await;
    assert_eq!(copied.status, 200, "{}", copied.text());
    assert_eq!(s3.get("bucket", "models/a").unwrap(), "private");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_for_an_upload_by_form_opens_nothing_else() {
    let s3 = S3::start().await;
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), RULES).unwrap();
    let access = format!("--access-file={}", rules.path().display());
    for flags in [&["--s3-auth=none"][..], &["--s3-auth=keys", &access]] {
        let ring = Ring::start(&s3.endpoint(), 1, flags).await;
        s3.forget_requests();
        for query in ["", "?uploads", "?uploadId=1"] {
            let url = format!("{}/bucket/key{query}", ring.nodes[0].s3);
            let form = [("content-type", "multipart/form-data; boundary=b")];
            let refused = ask(Method::POST, &url, &form, "--b--\r\n").await;
            assert_eq!(refused.status, 501, "{flags:?} {query}: {}", refused.text());
        }
        assert_eq!(s3.counts().into_iter().collect::<Vec<_>>(), []);
    }
}
