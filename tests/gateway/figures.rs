//! What metrics tell of what clients did: reads apart from the rest, and what was not kept with its reason.

use falcon_cache::metrics::READ;

use crate::harness::http::{self as plain, get, get_with};
use crate::harness::node::Ring;
use crate::harness::s3::S3;

/// The figures of the lines that begin so, added up: there is one for each status.
fn figure(page: &str, line: &str) -> u64 {
    let found = page.lines().filter(|it| it.starts_with(line));
    found
        .filter_map(|it| it.rsplit_once(' '))
        .map(|(_, figure)| figure.parse::<u64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_ratio_can_be_computed_from_reads_alone() {
    let s3 = S3::start().await;
    let flags = ["--s3-auth=none", "--max-blob-size=1"];
    let ring = Ring::start(&s3.endpoint(), 1, &flags).await;
    let node = &ring.nodes[0];
    s3.put("bucket", "small", vec![1; 1000]);
    s3.put("bucket", "large", vec![1; 3 << 20]);
    for key in ["small", "small", "small", "large"] {
        assert_eq!(get(&format!("{}/bucket/{key}", node.s3)).await.status, 200);
    }
    for _ in 0..2 {
        get(&format!("{}/bucket?list-type=2", node.s3)).await;
    }
    let put = plain::request(
        ::http::Method::PUT,
        &format!("{}/bucket/new", node.s3),
        &[("content-length", "0")],
    );
    let put = plain::whole(put).await.unwrap();
    assert_eq!(
        (put.status.as_u16(), put.header("x-falcon-bypass")),
        (200, "write")
    );
    let key = [("x-amz-server-side-encryption-customer-algorithm", "AES256")];
    let answer = get_with(&format!("{}/bucket/small", node.s3), &key).await;
    assert_eq!(answer.header("x-falcon-bypass"), "customer-key");
    let page = get(&format!("{}/metrics", node.admin)).await.text();
    let requests = |op: &str, source: &str| {
        let labels = format!("api=\"s3\",op=\"{op}\",source=\"{source}\"");
        figure(&page, &format!("falcon_requests_total{{{labels}"))
    };
    assert_eq!(requests(READ, "memory"), 2, "{page}");
    assert_eq!(requests(READ, "origin"), 1);
    assert_eq!(requests(READ, "bypass"), 2);
    assert_eq!(requests("ListObjects", "bypass"), 2);
    assert_eq!(requests("PutObject", "bypass"), 1);
    let bypassed = |reason: &str| {
        let line = format!("falcon_bypassed_bytes_total{{reason=\"{reason}\"}}");
        figure(&page, &line)
    };
    assert_eq!(bypassed("too-large"), 3 << 20);
    assert_eq!(bypassed("customer-key"), 1000);
}
