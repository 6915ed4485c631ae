//! The server against raw sockets: what strangers leave unfinished, and what the others notice of it.

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::{get, post};
use futures::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::web::status;

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
        max_connections: 1000,
        head: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        body: Duration::from_millis(200),
        stall: Duration::from_millis(300),
        quantum: 64 * 1024,
        long_quantum: 512 * 1024,
        send_buffer: 64 * 1024,
        drain_timeout: LONG,
    }
}

async fn start(router: Router, limits: Limits) -> Server {
    start_with(router, limits, None).await
}

async fn start_with(router: Router, limits: Limits, fast: Option<Arc<dyn FastPath>>) -> Server {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, metrics) = (CancellationToken::new(), Arc::new(Metrics::new()));
    let listener = Listener {
        name: "blob",
        limits,
        fast,
        scheduler: Arc::default(),
        error_body: |code, message| {
            let body = format!(r#"{{"code":"{code}","message":"{message}"}}"#);
            ("application/json", body.into_bytes())
        },
        metrics: Arc::clone(&metrics),
        stop: stop.clone(),
    };
    let serving = tokio::spawn(serve(socket, router, listener));
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
        Err(error) => Err(status::of_body(&error, StatusCode::BAD_REQUEST).into_response()),
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until all connections have ended.
    async fn has_no_connection(&self) {
        let none = "falcon_connections{api=\"blob\"} 0";
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
async fn a_body_that_trickles_is_answered_408_and_one_that_is_slow_is_not() {
    let server = start(router(), limits()).await;
    let mut stream = server.connect().await;
    let head =
        "POST /take HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 4000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let trickle = async {
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        while writer.write_all(b"x").await.is_ok() {
            beat.tick().await;
        }
    };
    let mut answer = vec![0; 12];
    let answered = timeout(LONG, async {
        tokio::select! {
            read = reader.read_exact(&mut answer) => read.map(|_| ()),
            () = trickle => Ok(()),
        }
    });
    answered.await.expect("it is cut").unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    // Four pieces, each of which comes in time.
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut beat = tokio::time::interval(Duration::from_millis(150));
    for _ in 0..2 {
        beat.tick().await;
        stream.write_all(&[b'x'; 2000]).await.unwrap();
    }
    assert!(to_end(&mut stream).await.ends_with("4000 bytes"));
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
    limits.max_connections = 1;
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
    limits.drain_timeout = Duration::from_millis(100);
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

impl SentObserver for Sent {
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
    fn answer(&self, request: &PlainRequest<'_>, _now: Instant) -> Option<FastResponse> {
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
        Some(FastResponse::new(head.into(), pieces, Box::new(sent)))
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
async fn a_large_fast_answer_reaches_a_waiting_reader_and_is_then_counted() {
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

/// Answers at once, and leaves the request's body to a task that reads on.
async fn early(request: AxumRequest) -> &'static str {
    tokio::spawn(request.into_body().collect());
    "early"
}

#[tokio::test]
async fn what_is_left_of_a_body_after_its_answer_is_not_taken_for_the_next_head() {
    let router = router().route("/early", post(early));
    let server = start(router, limits()).await;
    let mut stream = server.connect().await;
    let body = "a#b HTTP/1.1\r\n\r\n";
    let head = format!(
        "POST /early HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    ask(&mut stream, head.as_bytes(), "early").await;
    // The server may have closed by now, but it must not misread.
    stream.write_all(body.as_bytes()).await.ok();
    stream.write_all(GET_SMALL).await.ok();
    let rest = to_end(&mut stream).await;
    assert!(rest.is_empty() || rest.ends_with("small"), "{rest:?}");
}

#[tokio::test]
async fn a_client_that_is_answered_before_it_has_sent_all_gets_its_answer() {
    let server = start(router(), limits()).await;
    let mut stream = server.connect().await;
    let head = format!("POST /none HTTP/1.1\r\nhost: h\r\ncontent-length: {LARGE}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..LARGE / piece.len() {
        // It looks for an answer only when it has sent all that it can.
        if writer.write_all(&piece).await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    timeout(LONG, reader.read_to_end(&mut answer))
        .await
        .unwrap()
        .ok();
    assert!(
        answer.starts_with(b"HTTP/1.1 404"),
        "{} bytes",
        answer.len()
    );
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_costs_no_connection() {
    let server = start(router(), limits()).await;
    let mut stream = server.connect().await;
    let unread = b"GET /small HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\na#\r\n";
    for _ in 0..3 {
        ask(&mut stream, unread, "small").await;
        ask(&mut stream, GET_SMALL, "small").await;
    }
}

#[tokio::test]
async fn a_head_that_was_sent_ahead_is_looked_over_like_the_first() {
    let server = start(router(), limits()).await;
    let bad = "GET /small?a#b HTTP/1.1\r\nhost: h\r\n\r\n";
    let good = "GET /small HTTP/1.1\r\nhost: h\r\n\r\n";
    let answers = server.talk(&format!("{good}{good}{bad}{good}")).await;
    let statuses: Vec<_> = answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answers[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answers:?}");
    // Behind a body nobody but the library knows where the next head begins.
    let body = "POST /take HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc";
    let answers = server.talk(&format!("{body}{bad}")).await;
    assert!(answers.contains("3 bytes") && answers.contains("HTTP/1.1 400"));
}

/// Answers `/fast/N` with N.
struct Numbers;

impl FastPath for Numbers {
    fn answer(&self, request: &PlainRequest<'_>, _now: Instant) -> Option<FastResponse> {
        let number = request.target.strip_prefix("/fast/")?;
        let text = format!("<{number}>");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
        let sent = Sent {
            left: head.len() + text.len(),
            whole: Arc::default(),
        };
        let body = [Bytes::from(text)].into();
        Some(FastResponse::new(head.into(), body, Box::new(sent)))
    }
}

/// Answers `/KIND/N` with N: at once, later, or in pieces of an unknown number.
fn numbers() -> Router {
    use axum::extract::Path;
    let later = |Path(number): Path<String>| async move {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        format!("<{number}>")
    };
    let pieces = |Path(number): Path<String>| async move {
        Body::from_stream(async_stream::stream! {
            for piece in [format!("<{number}>"), "end".to_owned()] {
                tokio::task::yield_now().await;
                yield Ok::<_, Infallible>(piece);
            }
        })
    };
    let at_once = |Path(number): Path<String>| async move { format!("<{number}>") };
    Router::new()
        .route("/fast/{number}", get(at_once))
        .route("/at-once/{number}", get(at_once))
        .route("/later/{number}", get(later))
        .route("/pieces/{number}", get(pieces))
}

/// A source of numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Reads until `count` answers have come, and holds their order to be that of their numbers.
async fn in_order(stream: &mut TcpStream, text: &mut String, count: usize) {
    let numbers = |text: &str| -> Vec<usize> {
        let pieces = text.split('<').skip(1);
        let whole = pieces.filter_map(|piece| piece.split_once('>'));
        whole.map(|(number, _)| number.parse().unwrap()).collect()
    };
    let mut buffer = [0; 4096];
    while numbers(text).len() < count {
        let read = timeout(LONG, stream.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("{count} answers in {text:?}"));
        let read = read.unwrap();
        assert!(read > 0, "{text:?}");
        *text += std::str::from_utf8(&buffer[..read]).unwrap();
    }
    let came = numbers(text);
    assert!(came.iter().copied().eq(0..came.len()), "{came:?}");
    assert_eq!(text.matches("HTTP/1.1 200").count(), came.len(), "{text:?}");
}

/// Sends these requests, cut there, and waits after some pieces for what was asked whole by then.
async fn pipeline(server: &Server, kinds: &[&str], cuts: &[usize], waits: impl Fn(usize) -> bool) {
    let requests = kinds.iter().enumerate();
    let requests: Vec<String> = requests
        .map(|(n, kind)| format!("GET /{kind}/{n} HTTP/1.1\r\nhost: h\r\n\r\n"))
        .collect();
    let all = requests.concat();
    let mut stream = server.connect().await;
    stream.set_nodelay(true).unwrap();
    let (mut sent, mut text) = (0, String::new());
    for (turn, cut) in cuts.iter().copied().chain([all.len()]).enumerate() {
        stream.write_all(&all.as_bytes()[sent..cut]).await.unwrap();
        sent = cut;
        if waits(turn) || cut == all.len() {
            let whole = all[..sent].matches("\r\n\r\n").count();
            in_order(&mut stream, &mut text, whole).await;
        }
    }
}

const KINDS: [&str; 4] = ["fast", "at-once", "later", "pieces"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_cut_at_any_byte_are_answered_in_their_order() {
    let mut limits = limits();
    (limits.head, limits.idle) = (LONG, LONG);
    let server = start_with(numbers(), limits, Some(Arc::new(Numbers))).await;
    // Each pair of kinds at each byte, with and without a pause at the cut.
    for (first, second) in KINDS.into_iter().zip(KINDS.into_iter().cycle().skip(1)) {
        let length = format!("GET /{first}/0 HTTP/1.1\r\nhost: h\r\n\r\n").len();
        for kinds in [[first, second], [second, first], [first, first]] {
            for cut in 1..length + 10 {
                pipeline(&server, &kinds, &[cut], |_| cut % 2 == 0).await;
                pipeline(&server, &kinds, &[cut], |_| cut % 2 == 1).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_pipelines_in_random_pieces_are_answered_in_their_order() {
    let mut limits = limits();
    (limits.head, limits.idle) = (LONG, LONG);
    let server = start_with(numbers(), limits, Some(Arc::new(Numbers))).await;
    join_all((0..16).map(|client| {
        let server = &server;
        async move {
            let mut dice = Dice(client);
            for _ in 0..25 {
                let kinds: Vec<&str> = (0..12).map(|_| KINDS[dice.below(4)]).collect();
                let mut cuts: Vec<usize> = (0..8).map(|_| 1 + dice.below(380)).collect();
                cuts.sort_unstable();
                let pauses = dice.below(256);
                pipeline(server, &kinds, &cuts, |turn| pauses >> turn & 1 == 1).await;
            }
        }
    }))
    .await;
}
