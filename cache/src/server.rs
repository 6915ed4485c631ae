//! Accepts connections and serves HTTP/1.1 on them. Everything that a client can leave unfinished has a time limit:
//! silence, half a head, half a body, an answer that is not read. What is served is the caller's choice.

mod body;
mod conn_state;
mod connection;
mod deadline;
mod fast;
mod head_scanner;
mod host;
mod limits;
mod refusal;
mod write_scheduler;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

pub use body::BodyStalled;
pub use fast::{FastPath, FastResponse, PlainRequest, SentObserver};
pub use limits::Limits;
pub use refusal::ErrorBody;
pub use write_scheduler::WriteScheduler;

use crate::metrics::Metrics;
use body::{RequestBody, RequestGuard, ResponseBody};
use conn_state::ConnState;
use connection::Connection;
use head_scanner::Fault;
use write_scheduler::WriteTurn;

/// The most bytes of a request's head. A key of 1,024 bytes takes 3 KiB percent-encoded; S3's user metadata is at most
/// 2 KiB.
const HEAD_BYTES: usize = 64 * 1024;

/// The most fields of a request's head: user metadata of 2 KiB may be some hundred short entries.
const HEAD_FIELDS: usize = 1024;

/// What the HTTP library keeps of a connection's bytes, either way, beside the piece that passes this mark.
/// It has to hold a head.
const BUFFER_BYTES: usize = 2 * HEAD_BYTES;

/// Connections beyond the limit that are answered at one time; more are closed without an answer.
const REFUSALS: usize = 64;

/// Pause after an accept that failed because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One listening port: what it is called in metrics, its bounds, its end.
#[derive(Clone)]
pub struct Listener {
    /// The label of the metrics.
    pub name: &'static str,
    /// Its bounds.
    pub limits: Limits,
    /// The fast path, asked before the service.
    pub fast: Option<Arc<dyn FastPath>>,
    /// Shared by the connections of all listeners of the node.
    pub scheduler: Arc<WriteScheduler>,
    /// The form of errors that are answered before the service is asked.
    pub error_body: ErrorBody,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled: accept no more, end what runs, return.
    pub stop: CancellationToken,
}

/// Serves until `listener.stop` is cancelled and the running requests have ended, at most [`Limits::drain_timeout`]
/// later. Returns the number of connections that were cut because they had not ended by then.
pub async fn serve<S, B>(socket: TcpListener, service: S, listener: Listener) -> usize
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(listener.limits.max_connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let (running, cut) = (TaskTracker::new(), CancellationToken::new());
    let unfinished = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = listener.stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                wait_after(&error).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            listener.metrics.connection_refused(listener.name);
            if let Ok(turn) = Arc::clone(&refusals).try_acquire_owned() {
                let error_body = listener.error_body;
                tokio::spawn(async move {
                    refusal::too_many_connections(stream, error_body).await;
                    drop(turn);
                });
            }
            continue;
        };
        let (service, listener) = (service.clone(), listener.clone());
        // Child tokens: each has a lock of its own, so connections don't contend for one.
        let (stop, cut) = (listener.stop.child_token(), cut.child_token());
        let unfinished = Arc::clone(&unfinished);
        running.spawn(async move {
            listener.metrics.connection_opened(listener.name);
            if !serve_connection(stream, service, &listener, stop, cut).await {
                unfinished.fetch_add(1, Ordering::Relaxed);
            }
            listener.metrics.connection_closed(listener.name);
            drop(place);
        });
    }
    drop(socket);
    running.close();
    if timeout(listener.limits.drain_timeout, running.wait())
        .await
        .is_err()
    {
        cut.cancel();
        running.wait().await;
    }
    unfinished.load(Ordering::Relaxed)
}

/// Serves one connection to its end; `false` when it was cut.
async fn serve_connection<S, B>(
    stream: TcpStream,
    service: S,
    listener: &Listener,
    stop: CancellationToken,
    cut: CancellationToken,
) -> bool
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limits = &listener.limits;
    // Neither failure is a reason to refuse a client.
    stream.set_nodelay(true).ok();
    SockRef::from(&stream)
        .set_send_buffer_size(limits.send_buffer)
        .ok();
    let state = Arc::new(ConnState::default());
    let turn = WriteTurn::new(&listener.scheduler, limits);
    let connection = Connection::new(
        stream,
        Arc::clone(&state),
        listener.fast.clone(),
        turn,
        limits,
    );
    let (body_limit, quantum, error_body) = (limits.body, limits.quantum, listener.error_body);
    let scheduler = Arc::clone(&listener.scheduler);
    let handler = service_fn(move |request: Request<Incoming>| {
        let has_body = !http_body::Body::is_end_stream(request.body());
        let fault = state.begin(has_body).or_else(|| host_fault(&request));
        let refused = fault.map(|fault| refusal::bad_head(fault, error_body));
        let guard = RequestGuard(Arc::clone(&state));
        let (service, scheduler) = (service.clone(), Arc::clone(&scheduler));
        async move {
            let response = answer(request, refused, service, guard, body_limit).await;
            let bytes = http_body::Body::size_hint(response.body()).upper();
            scheduler.note_response(bytes.unwrap_or(u64::MAX), quantum, Instant::now());
            Ok::<_, Infallible>(response)
        }
    });
    let mut serving = pin!(
        http1::Builder::new()
            // `Connection` knows when it is idle; the library does not see what the fast path answers.
            .header_read_timeout(None)
            .max_header_size(HEAD_BYTES)
            .max_headers(HEAD_FIELDS)
            .max_buf_size(BUFFER_BYTES)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(connection), handler)
    );
    // An error here concerns one client: it hung up, or sent something that is not HTTP. hyper has answered what it
    // could.
    tokio::select! {
        biased;
        _ = serving.as_mut() => return true,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        biased;
        _ = serving => true,
        () = cut.cancelled() => false,
    }
}

/// What is wrong with the request's `Host`, if anything is.
fn host_fault(request: &Request<Incoming>) -> Option<Fault> {
    let acceptable = host::is_acceptable(request.version(), request.headers());
    (!acceptable).then_some(Fault::Host)
}

/// Answers one request, which has begun, unless it is `refused`; `guard` ends it.
async fn answer<S, B>(
    request: Request<Incoming>,
    refused: Option<Response<Body>>,
    service: S,
    guard: RequestGuard,
    body_limit: Duration,
) -> Response<ResponseBody<Body>>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let state = Arc::clone(&guard.0);
    let expects = request.headers().contains_key(header::EXPECT);
    let mut response = match refused {
        Some(response) => response,
        None => service
            .oneshot(request.map(|body| request_body(body, &state, body_limit)))
            .await
            .map_or_else(|never| match never {}, |response| response.map(Body::new)),
    };
    if state.has_open_body() && !read_away(&state, expects).await {
        // Where the next request begins is not known before this one's body has ended.
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response.map(|body| ResponseBody::new(body, guard))
}

fn request_body(body: Incoming, state: &Arc<ConnState>, limit: Duration) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return Body::empty();
    }
    Body::new(RequestBody::new(body, Arc::clone(state), limit))
}

/// Reads the rest of an answered request's body; false when it does not come.
async fn read_away(state: &ConnState, expects: bool) -> bool {
    let Some(body) = state.take_body() else {
        return false;
    };
    // A client that waits for `100 Continue` is not asked for a body that is not wanted.
    let ended = !expects && body::read_away(body).await;
    if ended {
        state.body_ended();
    }
    ended
}

/// Errors of the one connection that was to be accepted are over at once; others (no file descriptors) need time.
async fn wait_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    tracing::warn!(%error, "failed to accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests;
