//! Memory is a promise: what a node holds stays under its budget, and the process under budget and overhead, whatever
//! comes.

#![expect(
    clippy::cast_precision_loss,
    reason = "metrics are floats, and all of these far below 2^52"
)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::{Method, StatusCode};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::harness::http;
use crate::harness::node::{Process, free_ports, metric};
use crate::harness::s3::{S3, synthetic};

const MIB: u64 = 1 << 20;
const OBJECT: u64 = 16 * MIB;
const BUDGET: u64 = 128 * MIB;
/// Cold reads at one moment.
const FILLS: u64 = 64;
/// Of these, overwritten while they are read.
const CHANGED: Range<u64> = 0..20;
const SLOW: u64 = 200;
// Unoptimised, and on a machine that does other things too, one takes as long as ten.
const ROUNDS: u64 = if cfg!(debug_assertions) { 1 } else { 3 };

/// As ARCHITECTURE.md has it: what a process takes beside its budget.
fn overhead(connections: u64, streams: u64) -> u64 {
    64 * MIB + connections * 192 * 1024 + streams * 512 * 1024
}

/// A node as a process, with its admin port.
struct Node {
    process: Process,
    admin: String,
}

impl Node {
    async fn start(s3: &S3, flags: &[&str]) -> Option<Self> {
        let ports = free_ports(2);
        let mut all = vec![
            "--bucket=bucket".to_owned(),
            format!("--s3-endpoint={}", s3.endpoint()),
            "--s3-region=us-east-1".to_owned(),
            format!("--admin-port={}", ports[1]),
        ];
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let process = Process::start(ports[0], &all).await?;
        let admin = format!("http://localhost:{}", ports[1]);
        Some(Self { process, admin })
    }

    fn url(&self, key: &str) -> String {
        format!("{}/get?key={key}", self.process.url)
    }

    async fn invalidate(&self, key: &str) {
        let url = format!("{}/invalidate?key={key}", self.process.url);
        assert_eq!(http::post(&url).await.status, StatusCode::OK);
    }

    /// A line of the process' status in /proc, in bytes.
    fn status(&self, name: &str) -> u64 {
        let id = self.process.child.id().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }
}

/// Reads an object whole and compares it as it comes: the seed that its tag names, or why it did not come.
async fn read(node: &Node, key: &str, seeds: &[u64]) -> Result<u64, String> {
    let request = http::request(Method::GET, &node.url(key), &[]);
    let answer = http::send(request)
        .await
        .map_err(|error| error.to_string())?;
    let (head, mut body) = answer.into_parts();
    if head.status != StatusCode::OK {
        let why = body
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        return Err(format!(
            "{}: {}",
            head.status,
            String::from_utf8_lossy(&why)
        ));
    }
    let tag = head.headers["etag"].to_str().unwrap();
    let seed = *seeds
        .iter()
        .find(|seed| S3::synthetic_tag(**seed, OBJECT) == tag)
        .unwrap_or_else(|| panic!("{key}: {tag} is none of its versions"));
    let mut at = 0;
    while let Some(frame) = body.frame().await {
        let bytes = frame
            .map_err(|error| format!("cut at {at}: {error}"))?
            .into_data()
            .unwrap();
        assert!(
            synthetic::matches(seed, at, &bytes),
            "{key} is wrong after {at}"
        );
        at += bytes.len() as u64;
    }
    (at == OBJECT)
        .then_some(seed)
        .ok_or_else(|| format!("{at} bytes"))
}

/// Takes a KiB of an object now and then, until `stop`.
async fn slow_reader(port: String, key: String, stop: Arc<AtomicBool>) {
    let mut stream = TcpStream::connect(port).await.unwrap();
    let request = format!("GET /get?key={key} HTTP/1.1\r\nhost: falcon\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut piece = [0; 1024];
    while !stop.load(Ordering::Relaxed) {
        // It may be refused or cut: it is not the one that must be served.
        if !matches!(stream.read(&mut piece).await, Ok(1..)) {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_stays_within_the_budget_and_costs_no_good_reader_its_answer() {
    let s3 = S3::start().await;
    let Some(node) = Node::start(&s3, &["--max-cache-size=128", "--timeout=60000"]).await else {
        return;
    };
    let idle = node.status("VmRSS");
    for i in 0..SLOW {
        s3.put_synthetic("bucket", &format!("slow-{i}"), 1000 + i, OBJECT);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let address = node.process.url.strip_prefix("http://").unwrap().to_owned();
    let mut slow = JoinSet::new();
    for i in 0..SLOW {
        slow.spawn(slow_reader(
            address.clone(),
            format!("slow-{i}"),
            stop.clone(),
        ));
    }
    for round in 0..ROUNDS {
        let began = Instant::now();
        let failures: Vec<String> = join_all((0..FILLS).map(|i| stormy(&s3, &node, round, i)))
            .await
            .into_iter()
            .flatten()
            .collect();
        println!(
            "round {round}: {:?}; accounted {} MiB, rss {} MiB, {} slow readers left",
            began.elapsed(),
            metric(&node.admin, "falcon_memory_peak_bytes").await / MIB as f64,
            node.status("VmRSS") / MIB,
            slow.len(),
        );
        assert!(
            failures.is_empty(),
            "{}: {:#?}",
            failures.len(),
            &failures[..failures.len().min(8)]
        );
    }
    stop.store(true, Ordering::Relaxed);
    slow.shutdown().await;
    let peak = metric(&node.admin, "falcon_memory_peak_bytes").await;
    let rss = node.status("VmHWM");
    println!(
        "budget {} MiB, accounted {} MiB, peak RSS {} MiB, idle {} MiB",
        BUDGET / MIB,
        peak / MIB as f64,
        rss / MIB,
        idle / MIB
    );
    assert!(peak <= BUDGET as f64);
    assert!(rss <= BUDGET + overhead(SLOW + FILLS, 64));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_far_more_than_fits_cost_s3_hardly_more_than_they_read() {
    const READERS: u64 = 16;
    const EACH: u64 = 4;
    let s3 = S3::start().await;
    let Some(node) = &Node::start(&s3, &["--max-cache-size=128", "--timeout=60000"]).await else {
        return;
    };
    for i in 0..READERS * EACH {
        let key = format!("ahead-{i}");
        s3.put_synthetic("bucket", &key, i, OBJECT);
        // Known, it is planned as a whole; else its first part comes with its head, whatever else is on its way.
        let head = http::send(http::request(Method::HEAD, &node.url(&key), &[]));
        assert_eq!(head.await.unwrap().status(), StatusCode::OK);
    }
    join_all((0..READERS).map(|first| async move {
        for i in (0..EACH).map(|turn| first + turn * READERS) {
            read(node, &format!("ahead-{i}"), &[i]).await.unwrap();
        }
    }))
    .await;
    let (read, sent) = (READERS * EACH * OBJECT, s3.sent_bytes());
    println!("{} MiB read, {} MiB sent by S3", read / MIB, sent / MIB);
    // What was read ahead may now and then be evicted before its reader comes to it.
    assert!(sent <= read + read / 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_objects_stay_within_a_small_budget_with_their_heads() {
    const OBJECTS: usize = if cfg!(debug_assertions) {
        5_000
    } else {
        50_000
    };
    const CONNECTIONS: usize = 8;
    let s3 = S3::start().await;
    let Some(node) = Node::start(&s3, &["--max-cache-size=16", "--timeout=60000"]).await else {
        return;
    };
    for i in 0..OBJECTS {
        s3.put("bucket", &format!("tiny-{i}"), format!("{i}"));
    }
    let address = node.process.url.strip_prefix("http://").unwrap();
    join_all((0..CONNECTIONS).map(|first| async move {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut client, connection) = handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for i in (first..OBJECTS).step_by(CONNECTIONS) {
            let request =
                ::http::Request::get(format!("/get?key=tiny-{i}")).header("host", "falcon");
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let answer = client.send_request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("{i}"));
            client.ready().await.unwrap();
        }
    }))
    .await;
    let (peak, heads) = (
        metric(&node.admin, "falcon_memory_peak_bytes").await,
        metric(&node.admin, "falcon_heads").await,
    );
    let rss = node.status("VmHWM");
    println!(
        "{OBJECTS} objects: accounted {peak}, {heads} heads, peak RSS {} MiB",
        rss / MIB
    );
    assert!(heads > 0.0 && peak <= (16 * MIB) as f64);
    assert!(rss <= 16 * MIB + overhead(8, 64));
}

/// A PUT or a POST at the S3 gateway that sends so many bytes after its head, or until it is answered.
async fn sends(gateway: &str, head: &str, bytes: u64) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 256 * 1024];
    let mut answer = [0; 1];
    for _ in 0..bytes / piece.len() as u64 {
        tokio::select! {
            biased;
            _ = stream.peek(&mut answer) => break,
            sent = async { stream.writable().await } => sent.unwrap(),
        }
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_before_they_are_known_takes_no_memory() {
    const STRANGERS: u64 = 40;
    let s3 = S3::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules = r#"- {name: all, accessKeyId: ALL, secretAccessKey: all-secret, buckets: ["*"], prefixes: ["*"], verbs: [read, write]}"#;
    std::fs::write(file.path(), rules).unwrap();
    let gateway = free_ports(1)[0];
    let flags = [
        "--max-cache-size=16".to_owned(),
        "--s3-auth=keys".to_owned(),
        format!("--s3-port={gateway}"),
        format!("--access-file={}", file.path().display()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let Some(node) = Node::start(&s3, &flags).await else {
        return;
    };
    let idle = node.status("VmRSS");
    // Fields of a form, none of which is its file: what signs a form stands among them.
    let field = "--X\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n";
    let length = 19 * MIB + field.len() as u64;
    let head = format!(
        "POST /bucket HTTP/1.1\r\nhost: falcon\r\ncontent-type: multipart/form-data; boundary=X\r\ncontent-length: {length}\r\n\r\n{field}"
    );
    let address = format!("localhost:{gateway}");
    let open = join_all((0..STRANGERS).map(|_| sends(&address, &head, 18 * MIB))).await;
    let rss = node.status("VmHWM");
    println!(
        "{STRANGERS} strangers: RSS {} MiB, idle {} MiB",
        rss / MIB,
        idle / MIB
    );
    assert!(rss <= 16 * MIB + overhead(STRANGERS, 64));
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_of_a_streamed_upload_is_no_buffer() {
    let s3 = S3::start().await;
    let gateway = free_ports(1)[0];
    let port = format!("--s3-port={gateway}");
    let Some(node) = Node::start(&s3, &["--max-cache-size=64", "--s3-auth=none", &port]).await
    else {
        return;
    };
    let idle = node.status("VmRSS");
    let chunk = 1024 * MIB;
    let head = format!(
        "PUT /bucket/chunk HTTP/1.1\r\nhost: falcon\r\nx-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n\
         x-amz-decoded-content-length: {chunk}\r\ncontent-length: {}\r\n\r\n{chunk:x}\r\n",
        chunk + 17
    );
    let open = sends(&format!("localhost:{gateway}"), &head, 256 * MIB).await;
    let rss = node.status("VmHWM");
    println!("RSS {} MiB, idle {} MiB", rss / MIB, idle / MIB);
    assert!(rss <= 64 * MIB + overhead(1, 64));
    drop(open);
}

/// One of the good readers, and the writer of its key; what went wrong.
async fn stormy(s3: &S3, node: &Node, round: u64, i: u64) -> Option<String> {
    let key = format!("{round}-{i}");
    let (old, new) = (round * 1000 + i, round * 1000 + 500 + i);
    s3.put_synthetic("bucket", &key, old, OBJECT);
    if !CHANGED.contains(&i) {
        let got = read(node, &key, &[old]).await;
        return got.err().map(|error| format!("{key}: {error}"));
    }
    // A reader of the old version may be cut when S3 has it no more; what it got until then is checked in `read`.
    let overwrite = async {
        sleep(Duration::from_millis(20 * i)).await;
        s3.put_synthetic("bucket", &key, new, OBJECT);
        node.invalidate(&key).await;
        read(node, &key, &[new]).await
    };
    let either = [old, new];
    let (_, again) = tokio::join!(read(node, &key, &either), overwrite);
    again.err().map(|error| format!("{key} again: {error}"))
}
