//! The server against raw sockets: what strangers leave unfinished, and what the others notice of it.

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::{get, post};
use futures::future::join_all;
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::api::error::Failure;

/// No test waits longer for anything.
const LONG: Duration = Duration::from_secs(20);

/// Larger than all buffers between the server and a reader that has stopped.
const LARGE: usize = 16 * 1024 * 1024;

/// Larger than the server's send buffer, and read in seconds by a slow reader.
const MEDIUM: usize = 512 * 1024;

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<usize>,
    metrics: Arc<Metrics>,
}

fn limits() -> Limits {
    Limits {
        connections: 1000,
        head: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        body: Duration::from_millis(200),
        stall: Duration::from_millis(300),
        slice: 64 * 1024,
        long_slice: 512 * 1024,
        send_buffer: 64 * 1024,
        drain: LONG,
    }
}

async fn start(router: Router, limits: Limits) -> Server {
    start_with(router, limits, None).await
}

async fn start_with(router: Router, limits: Limits, fast: Option<Arc<dyn FastPath>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, metrics) = (CancellationToken::new(), Arc::new(Metrics::new()));
    let door = Door {
        name: "blob",
        limits,
        fast,
        turns: Arc::default(),
        metrics: Arc::clone(&metrics),
        stop: stop.clone(),
    };
    let serving = tokio::spawn(serve(listener, router, door));
    Server {
        address,
        stop,
        serving,
        metrics,
    }
}

fn router() -> Router {
    let large = Bytes::from(vec![b'x'; LARGE]);
    Router::new()
        .route("/small", get(|| async { "small" }))
        .route(
            "/large",
            get(move || {
                let large = large.clone();
                async move { large }
            }),
        )
        .route("/fast", get(|| async { "fff" }))
        .route("/medium", get(|| async { vec![b'x'; MEDIUM] }))
        .route("/take", post(take))
}

async fn take(request: AxumRequest) -> Result<String, AxumResponse> {
    match request.into_body().collect().await {
        Ok(body) => Ok(format!("{} bytes", body.to_bytes().len())),
        Err(error) => Err(Failure::body(&error, StatusCode::BAD_REQUEST).into_response()),
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until all connections have ended.
    async fn has_no_connection(&self) {
        let none = "falcon_connections{door=\"blob\"} 0";
        let waited = timeout(LONG, async {
            let mut beat = tokio::time::interval(Duration::from_millis(10));
            while !self.metrics.prometheus().contains(none) {
                beat.tick().await;
            }
        });
        waited.await.expect("all connections end");
    }

    /// Sends `text` and reads until the server closes.
    async fn talk(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        to_end(&mut stream).await
    }
}

/// All that comes until the server closes; a reset is a close.
async fn to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    timeout(LONG, stream.read_to_end(&mut read))
        .await
        .expect("the server closes")
        .ok();
    String::from_utf8_lossy(&read).into_owned()
}

/// What comes first, at least `bytes` of it.
async fn some(stream: &mut TcpStream, bytes: usize) -> String {
    let mut read = vec![0; bytes];
    timeout(LONG, stream.read_exact(&mut read))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let mut limits = limits();
    limits.idle = 10 * LONG;
    let server = start(router(), limits).await;
    let started = Instant::now();
    assert_eq!(server.talk("").await, "");
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn half_a_head_is_closed_even_when_it_trickles() {
    let mut limits = limits();
    limits.idle = 10 * LONG;
    let server = start(router(), limits).await;
    assert!(
        !server
            .talk("GET /small HTTP/1.1\r\nHo")
            .await
            .contains("200 OK")
    );
    let mut stream = server.connect().await;
    let (mut reader, mut writer) = stream.split();
    let trickle = async {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while writer.write_all(b"x").await.is_ok() {
            beat.tick().await;
        }
    };
    let mut sink = Vec::new();
    let closed = timeout(LONG, async {
        tokio::select! {
            () = trickle => {}
            _ = reader.read_to_end(&mut sink) => {}
        }
    });
    assert!(closed.await.is_ok());
}

#[tokio::test]
async fn a_kept_alive_connection_outlives_the_heads_limit_and_not_the_idle_one() {
    let server = start(router(), limits()).await;
    let mut stream = server.connect().await;
    let started = Instant::now();
    for _ in 0..3 {
        stream
            .write_all(b"GET /small HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        assert!(some(&mut stream, 15).await.contains("200 OK"));
        let mut rest = [0; 4096];
        assert!(stream.read(&mut rest).await.unwrap() > 0);
    }
    assert_eq!(to_end(&mut stream).await, "");
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn a_body_that_stops_is_answered_408_and_closed() {
    let server = start(router(), limits()).await;
    for head in [
        "content-length: 100\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let answer = server
            .talk(&format!("POST /take HTTP/1.1\r\nhost: h\r\n{head}"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}");
    }
    let whole =
        "POST /take HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    assert!(server.talk(whole).await.ends_with("3 bytes"));
}

#[tokio::test]
async fn what_the_library_would_mend_in_silence_is_refused() {
    let server = start(router(), limits()).await;
    for text in [
        "POST /take HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /take HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        "GET /small?key=a#b HTTP/1.1\r\nhost: h\r\n\r\n",
    ] {
        let answer = server.talk(text).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn the_second_head_of_a_connection_is_looked_over_too() {
    let server = start(router(), limits()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /small HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let mut rest = [0; 4096];
    assert!(
        timeout(LONG, stream.read(&mut rest))
            .await
            .unwrap()
            .unwrap()
            > 0
    );
    stream
        .write_all(b"GET /small?a#b HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    assert!(to_end(&mut stream).await.contains("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_holds_up_nobody() {
    let server = start(router(), limits()).await;
    let stopped = join_all((0..300).map(|_| async {
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /large HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        // The answer has begun; no more of it is read.
        some(&mut stream, 15).await;
        stream
    }))
    .await;
    let fast = server
        .talk("GET /large HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .await;
    assert!(fast.len() > LARGE);
    // All are cut without a byte more being asked for: only then is the count of connections back at nought.
    server.has_no_connection().await;
    drop(stopped);
}

#[tokio::test]
async fn a_slow_reader_that_takes_bytes_is_served_to_the_end() {
    let mut limits = limits();
    limits.stall = Duration::from_millis(100);
    let server = start(router(), limits).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream
        .write_all(b"GET /medium HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    // A third of the server's send buffer takes this reader longer than the limit on standing still.
    let mut buffer = vec![0; 8 * 1024];
    let mut beat = tokio::time::interval(Duration::from_millis(40));
    let mut total = 0;
    loop {
        beat.tick().await;
        match timeout(LONG, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap()
        {
            0 => break,
            bytes => total += bytes,
        }
    }
    assert!(total > MEDIUM, "{total}");
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let mut limits = limits();
    limits.connections = 1;
    limits.idle = LONG;
    let server = start(router(), limits).await;
    let mut first = server.connect().await;
    first
        .write_all(b"GET /small HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    some(&mut first, 15).await;
    let answer = server.talk("GET /small HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1"));
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{answer:?}"
    );
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["code"], "TooManyConnections");
    // Its place is free again as soon as it is gone.
    drop(first);
    let freed = timeout(LONG, async {
        let again = "GET /small HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        while !server.talk(again).await.contains("200 OK") {}
    });
    assert!(freed.await.is_ok());
}

/// A route that answers when it is let to.
fn waiting() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (come, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let both = (Arc::clone(&come), Arc::clone(&go));
    let handler = move || {
        let (arrival, permit) = (Arc::clone(&both.0), Arc::clone(&both.1));
        async move {
            arrival.notify_one();
            permit.notified().await;
            "done"
        }
    };
    (Router::new().route("/wait", get(handler)), come, go)
}

#[tokio::test]
async fn a_stop_lets_running_requests_finish_and_closes_the_rest() {
    let (router, come, go) = waiting();
    let mut limits = limits();
    (limits.head, limits.idle) = (LONG, LONG);
    let server = start(router, limits).await;
    let mut silent = server.connect().await;
    let mut running = server.connect().await;
    running
        .write_all(b"GET /wait HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    timeout(LONG, come.notified()).await.unwrap();
    server.stop.cancel();
    assert_eq!(to_end(&mut silent).await, "");
    go.notify_one();
    assert!(to_end(&mut running).await.ends_with("done"));
    assert_eq!(timeout(LONG, server.serving).await.unwrap().unwrap(), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_deadline_and_counted() {
    let (router, come, _go) = waiting();
    let mut limits = limits();
    limits.drain = Duration::from_millis(100);
    let server = start(router, limits).await;
    let mut running = server.connect().await;
    running
        .write_all(b"GET /wait HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    timeout(LONG, come.notified()).await.unwrap();
    server.stop.cancel();
    assert_eq!(timeout(LONG, server.serving).await.unwrap().unwrap(), 1);
    assert_eq!(to_end(&mut running).await, "");
}

/// Knows `/fast`, a body of so many bytes in pieces, and counts how often it was asked for it and how often it got out.
#[derive(Default)]
struct Fast {
    bytes: usize,
    asked: AtomicUsize,
    whole: Arc<AtomicUsize>,
}

struct Sent {
    left: usize,
    whole: Arc<AtomicUsize>,
}

impl Tally for Sent {
    fn sent(&mut self, bytes: usize) {
        self.left -= bytes;
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.left == 0 {
            self.whole.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FastPath for Fast {
    fn answer(&self, request: &Plain<'_>, _now: Instant) -> Option<FastAnswer> {
        if request.target != "/fast" {
            return None;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", self.bytes);
        let body = vec![b'f'; self.bytes];
        let pieces = body.chunks(1000).map(Bytes::copy_from_slice).collect();
        let sent = Sent {
            left: head.len() + self.bytes,
            whole: Arc::clone(&self.whole),
        };
        Some(FastAnswer::new(head.into(), pieces, Box::new(sent)))
    }
}

impl Fast {
    fn of(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            ..Self::default()
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn start_fast(fast: &Arc<Fast>, limits: Limits) -> Server {
    let path: Arc<dyn FastPath> = Arc::<Fast>::clone(fast);
    start_with(router(), limits, Some(path)).await
}

const GET_FAST: &[u8] = b"GET /fast HTTP/1.1\r\nhost: h\r\n\r\n";
const GET_SMALL: &[u8] = b"GET /small HTTP/1.1\r\nhost: h\r\n\r\n";

/// Sends a request and reads its answer, which ends with `end`.
async fn ask(stream: &mut TcpStream, request: &[u8], end: &str) -> String {
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    let mut buffer = vec![0; 64 * 1024];
    while !text.ends_with(end) {
        let read = timeout(LONG, stream.read(&mut buffer)).await;
        let read = read.expect("it answers").unwrap();
        assert!(read > 0, "{text:?}");
        text += &String::from_utf8_lossy(&buffer[..read]);
    }
    text
}

#[tokio::test]
async fn fast_answers_and_those_of_the_routes_take_turns_on_a_connection() {
    let fast = Fast::of(3);
    let server = start_fast(&fast, limits()).await;
    let mut stream = server.connect().await;
    for round in 1..=3 {
        assert!(
            ask(&mut stream, GET_FAST, "fff")
                .await
                .starts_with("HTTP/1.1 200 OK")
        );
        assert!(
            ask(&mut stream, GET_SMALL, "small")
                .await
                .starts_with("HTTP/1.1 200 OK")
        );
        assert_eq!(fast.asked(), round);
    }
}

#[tokio::test]
async fn a_connection_of_fast_answers_is_idle_only_when_nothing_comes() {
    let fast = Fast::of(3);
    let mut limits = limits();
    limits.idle = Duration::from_millis(200);
    let server = start_fast(&fast, limits).await;
    let mut stream = server.connect().await;
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..10 {
        beat.tick().await;
        ask(&mut stream, GET_FAST, "fff").await;
    }
    let started = Instant::now();
    assert_eq!(to_end(&mut stream).await, "");
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn no_byte_of_a_body_is_taken_for_a_request() {
    let fast = Fast::of(3);
    let server = start_fast(&fast, limits()).await;
    let mut stream = server.connect().await;
    // Refused before its body is read: there is no such route.
    let head = format!(
        "POST /none HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        GET_FAST.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = some(&mut stream, 12).await;
    assert_eq!(answer, "HTTP/1.1 404");
    // The server may have closed by now.
    stream.write_all(GET_FAST).await.ok();
    let rest = to_end(&mut stream).await;
    assert!(!rest.contains("HTTP/1.1"), "{rest:?}");
    assert_eq!(fast.asked(), 0);
}

#[tokio::test]
async fn answers_to_requests_sent_ahead_come_in_their_order() {
    let fast = Fast::of(3);
    let server = start_fast(&fast, limits()).await;
    let mut stream = server.connect().await;
    let both = ask(&mut stream, &[GET_SMALL, GET_FAST].concat(), "fff").await;
    assert!(both.find("small") < both.find("fff"), "{both:?}");
    // The library has all of the first answer, and can't get rid of it yet.
    let mut stream = server.connect().await;
    let medium = b"GET /medium HTTP/1.1\r\nhost: h\r\n\r\n";
    stream.write_all(medium).await.unwrap();
    some(&mut stream, 12).await;
    let both = ask(&mut stream, GET_FAST, "fff").await;
    let (body, last) = both.split_once("HTTP/1.1").unwrap();
    assert!(body.ends_with(&"x".repeat(MEDIUM)), "{last:?}");
}

#[tokio::test]
async fn a_large_fast_answer_reaches_a_reader_that_waits_and_is_counted_once_it_is_out() {
    let fast = Fast::of(LARGE);
    let server = start_fast(&fast, limits()).await;
    let mut stream = server.connect().await;
    stream.write_all(GET_FAST).await.unwrap();
    some(&mut stream, 15).await;
    assert_eq!(fast.whole.load(Ordering::Relaxed), 0);
    // A stop waits for it, too.
    server.stop.cancel();
    let rest = to_end(&mut stream).await;
    assert_eq!(rest.bytes().filter(|byte| *byte == b'f').count(), LARGE);
    assert_eq!(timeout(LONG, server.serving).await.unwrap().unwrap(), 0);
    assert_eq!(fast.whole.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_of_a_fast_answer_is_cut() {
    let fast = Fast::of(LARGE);
    let server = start_fast(&fast, limits()).await;
    let mut stream = server.connect().await;
    stream.write_all(GET_FAST).await.unwrap();
    some(&mut stream, 15).await;
    server.has_no_connection().await;
    assert_eq!(fast.whole.load(Ordering::Relaxed), 0);
}
