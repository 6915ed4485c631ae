//! Hits: what one costs, in allocations, counted on the thread that answers; and that the fast path says what the
//! routes say.

use std::collections::BTreeMap;

use ::http::{HeaderMap, Request};
use allocation_counter::{AllocationInfo, measure};
use axum::Router;
use axum::body::Body;
use falcon_cache::api;
use http_body_util::BodyExt;
use tower::Service;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::DEADLINE;
use crate::harness::node::{Ring, TestNode};
use crate::harness::s3::{S3, StoredHeaders};

const SIZE: usize = 4096;
/// Now and then a set of labels is seen for the first time during a request.
const HITS: usize = 1000;
const MOST: u64 = 40;
const MOST_FAST: u64 = 16;

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

/// What a connection brings: the status line, the headers that don't tell one answer from the next, the body.
type Told = (String, BTreeMap<String, String>, Vec<u8>);

async fn told(stream: &mut TcpStream, request: &str) -> Told {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let (status, lines) = head.split_once("\r\n").unwrap();
    let mut headers = BTreeMap::new();
    for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
        let value = match name {
            "date" | "age" | "x-request-id" | "x-amz-request-id" => "set",
            _ => value,
        };
        let before = headers.insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "{head}");
    }
    let length: usize = headers["content-length"].parse().unwrap();
    let mut body = vec![
        0;
        if request.starts_with("HEAD") {
            0
        } else {
            length
        }
    ];
    stream.read_exact(&mut body).await.unwrap();
    if !status.contains(" 20") {
        body.clear(); // it tells the request's id
    }
    (status.to_owned(), headers, body)
}

/// An object with everything that an answer can have, and one with nothing of it.
fn put_objects(s3: &S3) {
    let some = |text: &str| Some(text.to_owned());
    let headers = StoredHeaders {
        content_type: some("text/plain"),
        cache_control: some("max-age=60"),
        content_encoding: some("identity"),
        content_disposition: some("attachment; filename=\"a\""),
        content_language: some("de"),
        metadata: [("colour".to_owned(), "blue".to_owned())].into(),
        ..StoredHeaders::default()
    };
    let content = crate::harness::s3::Content::Bytes(vec![7; SIZE].into());
    s3.put_with("bucket", "a b+c/ü", content, headers);
    s3.put("bucket", "plain", "0123456789");
    s3.put("bucket", "empty", "");
}

fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

#[tokio::test]
async fn the_fast_path_says_what_the_routes_say() {
    let s3 = S3::start().await;
    put_objects(&s3);
    let flags = ["--s3-port=0", "--s3-auth=none"];
    let ring = Ring::start(&s3.endpoint(), 1, &flags).await;
    let TestNode {
        url, s3: gateway, ..
    } = &ring.nodes[0];
    let keys = ["a+b%2Bc/%C3%BC", "plain", "empty"];
    let blobs = keys.map(|key| format!("/get?bucket=bucket&key={key}"));
    let objects = ["a%20b+c/%C3%BC", "plain?x-id=GetObject", "empty"];
    let objects = objects.map(|key| format!("/bucket/{key}"));
    let asked = [
        "",
        "Range: bytes=2-5\r\n",
        "Range: bytes=7-\r\n",
        "range: Bytes = -3\r\n",
        "Range: bytes=0-0,2-3\r\n",
        "Range: bytes=50-\r\n",
        "X-Request-Id: mine\r\nAuthorization: Bearer x\r\n",
        "x-amz-checksum-mode: ENABLED\r\nConnection: keep-alive\r\n",
    ];
    let mut compared = 0;
    for (url, targets) in [(url, blobs), (gateway, objects)] {
        let mut stream = TcpStream::connect(address(url)).await.unwrap();
        for target in targets {
            for method in ["GET", "HEAD"] {
                for headers in asked {
                    let plain = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
                    // A header that the fast path knows nothing of.
                    let strange = plain.replace("Host: h", "Host: h\r\nX-Strange: 1");
                    let cold = told(&mut stream, &strange).await;
                    let routed = told(&mut stream, &strange).await;
                    let fast = told(&mut stream, &plain).await;
                    assert_eq!(fast, routed, "{plain}");
                    assert_eq!(cold.2, fast.2, "{plain}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 96);
}

#[test]
fn a_hit_of_4_kib_on_the_fast_path_allocates_so_often_and_no_more() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let (mut stream, _running) = runtime.block_on(async {
        let s3 = S3::start().await;
        s3.put("bucket", "small", vec![7; SIZE]);
        let ring = Ring::start(&s3.endpoint(), 1, &[]).await;
        let stream = TcpStream::connect(address(&ring.nodes[0].url)).await;
        (stream.unwrap(), (s3, ring))
    });
    let mut answer = vec![0; 2 * SIZE];
    let mut counts: Vec<u64> = (0..HITS)
        .map(|_| {
            let talk = async {
                let request = b"GET /get?key=small HTTP/1.1\r\nHost: h\r\n\r\n";
                stream.write_all(request).await.unwrap();
                let mut read = 0;
                while read < SIZE {
                    read += stream.read(&mut answer[read..]).await.unwrap();
                }
            };
            let within = async { tokio::time::timeout(DEADLINE, talk).await.unwrap() };
            measure(|| runtime.block_on(within)).count_total
        })
        .collect();
    counts.sort_unstable();
    let (median, most) = (counts[HITS / 2], counts[HITS - 1]);
    println!("a hit on the fast path: {median} allocations; the most was {most}");
    assert!(median <= MOST_FAST, "{median}");
}
