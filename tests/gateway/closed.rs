//! What is closed to whoever has no key, and to whoever has one that is good for something else.

use axum::Router;
use falcon_cache::object::ObjectId;
use falcon_cache::peer::ReadRequest;
use http::Method;
use tokio::net::TcpListener;

use super::everything_file;
use crate::harness::http::{self as plain, Answer};
use crate::harness::node::Ring;
use crate::harness::s3::S3;
use crate::harness::until;

const ALL: (&str, &str) = ("authorization", "Bearer all-token");

async fn ask(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    let request = plain::request(method.parse().unwrap(), url, headers);
    plain::whole(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_no_route_of_any_port_answers_without_one() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "secret bytes");
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 2, &["--s3-auth=keys", &access]).await;
    let node = &ring.nodes[0];
    for open in [&node.url, &node.admin] {
        for route in ["healthz", "readyz"] {
            assert_eq!(
                ask("GET", &format!("{open}/{route}"), &[]).await.status,
                200
            );
        }
    }
    for (method, target) in [
        ("GET", "/get?key=key"),
        ("HEAD", "/get?key=key"),
        ("GET", "/get?key=absent"),
        ("POST", "/upload"),
        ("POST", "/invalidate?key=key"),
        ("GET", "/list"),
        ("DELETE", "/delete?key=key"),
        ("POST", "/prewarm?prefix=k"),
        ("GET", "/prewarm/0"),
        ("DELETE", "/prewarm/0"),
        ("GET", "/ring"),
        ("GET", "/ring?key=key"),
        ("POST", "/_falcon/heartbeat"),
        ("POST", "/_falcon/read"),
        ("POST", "/_falcon/warm"),
        ("POST", "/_falcon/write-through"),
        ("POST", "/_falcon/invalidate"),
    ] {
        let answer = ask(method, &format!("{}{target}", node.url), &[]).await;
        let status = answer.status.as_u16();
        assert!(matches!(status, 401 | 403), "{method} {target}: {status}");
        assert!(!answer.text().contains("secret"), "{method} {target}");
    }
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/bucket"),
        ("GET", "/bucket/key"),
        ("HEAD", "/bucket/absent"),
        ("PUT", "/bucket/key"),
        ("DELETE", "/bucket/key"),
        ("POST", "/bucket?delete"),
    ] {
        let answer = ask(method, &format!("{}{target}", node.s3), &[]).await;
        assert_eq!(answer.status.as_u16(), 403, "{method} {target}");
    }
    assert_eq!(s3.counts().get("GetObject"), None);
    assert_eq!(
        ask("GET", &format!("{}/ring?key=key", node.url), &[ALL])
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_served_is_not_served_to_peers() {
    let s3 = S3::start().await;
    s3.create_bucket("hidden");
    s3.put("hidden", "key", "secret bytes");
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 2, &["--s3-auth=keys", &access]).await;
    let ask = async |bucket: &str| {
        let url = format!("{}/_falcon/read", ring.nodes[0].url);
        let want = serde_json::to_vec(&ReadRequest::current(
            &ObjectId::new(bucket, "key").unwrap(),
        ));
        let request = http::Request::post(url)
            .header("content-type", "application/json")
            .header("x-falcon-peer-token", "token-of-the-tests");
        let answer = plain::whole(request.body(want.unwrap().into()).unwrap())
            .await
            .unwrap();
        (answer.status.as_u16(), answer.text())
    };
    let (status, text) = ask("hidden").await;
    assert!(
        status == 400 && text.contains("this cache serves"),
        "{status} {text}"
    );
    let (status, text) = ask("bucket").await;
    assert_eq!(status, 404, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_keys_and_no_token_has_no_routes_for_peers() {
    let s3 = S3::start().await;
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let flags = ["--s3-auth=keys", &access];
    let ring = Ring::start_with(&s3.endpoint(), 1, &flags, |settings| {
        settings.peer_token_file = None;
    })
    .await;
    let url = format!("{}/_falcon/heartbeat", ring.nodes[0].url);
    assert_eq!(ask("POST", &url, &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prewarm_is_shown_to_and_ended_by_its_owner_alone() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "bytes");
    let file = everything_file();
    let other =
        "- {name: other, token: other-token, buckets: ['*'], prefixes: ['*'], verbs: [read]}\n";
    let rules = std::fs::read_to_string(file.path()).unwrap();
    std::fs::write(file.path(), format!("{rules}\n{other}")).unwrap();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=keys", &access]).await;
    let url = &ring.nodes[0].url;
    let begun = ask("POST", &format!("{url}/prewarm?prefix=k"), &[ALL])
        .await
        .json();
    let id = begun["id"].as_str().unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    let job = format!("{url}/prewarm/{id}");
    for method in ["GET", "DELETE"] {
        let other = [("authorization", "Bearer other-token")];
        assert_eq!(ask(method, &job, &other).await.status, 404, "{method}");
    }
    assert_eq!(ask("GET", &job, &[ALL]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_version_2_are_refused_except_in_urls_that_read() {
    let s3 = S3::start().await;
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=keys", &access]).await;
    let key = format!("{}/bucket/key", ring.nodes[0].s3);
    let header = [
        ("authorization", "AWS ALL:c2lnbmF0dXJl"),
        ("date", "Tue, 27 Mar 2007 19:36:42 +0000"),
    ];
    let url = "AWSAccessKeyId=ALL&Signature=c2ln&Expires=";
    for (method, target, headers) in [
        ("GET", key.clone(), &header[..]),
        ("PUT", key.clone(), &header[..]),
        ("PUT", format!("{key}?{url}1&acl&acl"), &[]),
        ("GET", format!("{key}?{url}99999999999"), &[]),
    ] {
        let answer = ask(method, &target, headers).await;
        let text = answer.text();
        assert_eq!(answer.status, 400, "{method} {target}: {text}");
    }
    let late = ask("GET", &format!("{key}?{url}1"), &[]).await;
    assert!(late.text().contains("expired"), "{}", late.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_says_whose_the_bucket_must_be_is_asked_of_s3_each_time() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "bytes");
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=none"]).await;
    let url = format!("{}/bucket/key", ring.nodes[0].s3);
    assert_eq!(plain::get(&url).await.source(), "origin");
    assert_eq!(plain::get(&url).await.source(), "memory");
    for header in [
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-not-known-yet",
    ] {
        let answer = plain::get_with(&url, &[(header, "111122223333")]).await;
        assert_eq!(answer.source(), "bypass", "{header}");
        assert_eq!(answer.header("x-falcon-bypass"), "origin-only", "{header}");
    }
    let signed = [
        ("x-amz-date", "20260101T000000Z"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ];
    assert_eq!(plain::get_with(&url, &signed).await.source(), "memory");
}

/// An S3 whose list of one object goes on for ever with the same token.
async fn circling() -> String {
    let list = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>\
        <Contents><Key>key</Key><Size>1</Size></Contents></ListBucketResult>";
    let service = Router::new().fallback(move |method: Method| async move {
        if method == Method::POST {
            "<DeleteResult/>"
        } else {
            list
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, service).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_leads_back_to_where_it_was_ends_with_an_error() {
    let ring = Ring::start(&circling().await, 1, &[]).await;
    let url = &ring.nodes[0].url;
    let deleted = ask("DELETE", &format!("{url}/delete?prefix=k"), &[]).await;
    assert_eq!(deleted.status, 207);
    assert!(
        deleted.text().contains("repeats the continuation token"),
        "{}",
        deleted.text()
    );
    let lines = plain::request(
        Method::GET,
        &format!("{url}/list"),
        &[("accept", "application/x-ndjson")],
    );
    assert!(plain::whole(lines).await.is_err());
    let begun = ask("POST", &format!("{url}/prewarm?prefix=k"), &[])
        .await
        .json();
    let job = format!("{url}/prewarm/{}", begun["id"].as_str().unwrap());
    until("the prewarm has ended", || async {
        let shown = plain::get(&job).await.json();
        (shown["state"] == "failed").then_some(())
    })
    .await;
}
