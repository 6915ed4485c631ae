//! What a hit costs: allocations, counted on the thread that answers, from the routes' first line to the body's last byte.

use ::http::{HeaderMap, Request};
use allocation_counter::{AllocationInfo, measure};
use axum::Router;
use axum::body::Body;
use falcon_cache::api;
use http_body_util::BodyExt;
use tower::Service;

use crate::harness::node::Ring;
use crate::harness::s3::S3;

const SIZE: usize = 4096;
/// Now and then moka, which holds the heads, keeps house during a request, and a set of labels is seen for the first time.
const HITS: usize = 1000;
const MOST: u64 = 40;

/// The answer's head, and how many bytes it brought, read as the server reads them.
async fn asked(router: &mut Router, request: Request<Body>) -> (HeaderMap, usize) {
    let (head, mut body) = router.call(request).await.unwrap().into_parts();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().unwrap().len();
    }
    (head.headers, bytes)
}

fn request() -> Request<Body> {
    let request = Request::get("/get?key=small").header("host", "localhost");
    request.body(Body::empty()).unwrap()
}

#[test]
fn a_hit_of_4_kib_allocates_so_often_and_no_more() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let (mut router, _running) = runtime.block_on(async {
        let s3 = S3::start().await;
        s3.put("bucket", "small", vec![7; SIZE]);
        let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
        let mut router = api::router(ring.nodes[0].node.api(), Router::new());
        let (_, bytes) = asked(&mut router, request()).await;
        assert_eq!(bytes, SIZE);
        (router, (s3, ring))
    });
    let mut counts: Vec<AllocationInfo> = (0..HITS)
        .map(|_| {
            let (request, mut answer) = (request(), None);
            let count = measure(|| answer = Some(runtime.block_on(asked(&mut router, request))));
            let (headers, bytes) = answer.unwrap();
            assert_eq!(headers["x-falcon-cache"], "memory");
            assert_eq!(bytes, SIZE);
            count
        })
        .collect();
    counts.sort_by_key(|count| count.count_total);
    let (median, most) = (counts[HITS / 2], counts[HITS - 1]);
    println!(
        "a hit: {} allocations of {} bytes together; the most was {}",
        median.count_total, median.bytes_total, most.count_total
    );
    assert!(median.count_total <= MOST, "{median:?}");
}
