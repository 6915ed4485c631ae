//! Pages of other origins: the bucket's rules are S3's, and what is cached is told by them.

use http::Method;

use super::everything_file;
use crate::harness::http as plain;
use crate::harness::node::Ring;
use crate::harness::s3::S3;

const PAGE: &str = "https://page.example";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_s3_lets_read_sees_what_is_cached_and_another_does_not() {
    let s3 = S3::start().await;
    s3.put("bucket", "key", "bytes");
    s3.let_read(PAGE);
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=none"]).await;
    let url = format!("{}/bucket/key", ring.nodes[0].s3);
    // Warmed by who is no page: what is remembered of the object says nothing of pages.
    assert_eq!(
        plain::get(&url).await.header("access-control-allow-origin"),
        ""
    );
    for page in [PAGE, "https://other.example", PAGE] {
        let allowed = if page == PAGE { PAGE } else { "" };
        let answer = plain::get_with(&url, &[("origin", page)]).await;
        assert_eq!(
            (answer.source(), answer.text().as_str()),
            ("memory", "bytes")
        );
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        if page == PAGE {
            assert_eq!(answer.header("access-control-expose-headers"), "ETag");
            assert_eq!(answer.header("vary"), "Origin");
        }
    }
    // Asked once for each page, and the object's bytes once for all.
    assert_eq!((s3.count("Preflight"), s3.count("GetObject")), (2, 1));
    let absent = plain::get_with(&format!("{url}-absent"), &[("origin", PAGE)]).await;
    assert_eq!(absent.status, 404);
    assert_eq!(absent.header("access-control-allow-origin"), PAGE);
    assert!(
        absent.text().contains("<Code>NoSuchKey</Code>"),
        "{}",
        absent.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_browser_asks_before_a_request_is_s3s_to_answer_unsigned() {
    let s3 = S3::start().await;
    s3.create_bucket("hidden");
    s3.let_read(PAGE);
    let file = everything_file();
    let access = format!("--access-file={}", file.path().display());
    let ring = Ring::start(&s3.endpoint(), 1, &["--s3-auth=keys", &access]).await;
    let gateway = &ring.nodes[0].s3;
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        let request = plain::request(Method::OPTIONS, &format!("{gateway}{path}"), headers);
        plain::whole(request).await.unwrap()
    };
    let method = ("access-control-request-method", "GET");
    let signed = "/bucket/key?X-Amz-Signature=0&partNumber=1";
    let let_in = ask(signed, &[("origin", PAGE), method]).await;
    assert_eq!(let_in.status, 200, "{}", let_in.text());
    assert_eq!(let_in.header("access-control-allow-origin"), PAGE);
    let refused = ask(signed, &[("origin", "https://other.example"), method]).await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("AccessForbidden"),
        "{}",
        refused.text()
    );
    let before = s3.count("Preflight");
    let none = ask("/bucket/key", &[method]).await;
    assert_eq!(none.status, 400, "{}", none.text());
    let unserved = ask("/hidden/key", &[("origin", PAGE), method]).await;
    assert_eq!(unserved.status, 403);
    assert_eq!(s3.count("Preflight"), before);
}
