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
        send_buffer: 64 * 1024,
        drain: LONG,
    }
}

async fn start(router: Router, limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, metrics) = (CancellationToken::new(), Arc::new(Metrics::new()));
    let door = Door {
        name: "blob",
        limits,
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
    let none = timeout(LONG, async {
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        while !server
            .metrics
            .prometheus()
            .contains("falcon_connections{door=\"blob\"} 0")
        {
            beat.tick().await;
        }
    });
    assert!(none.await.is_ok());
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
