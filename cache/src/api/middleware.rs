//! The middleware around every request: its id, its entry in the access log, its metrics, and the body of its failure.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::{Body as _, Frame as BodyFrame, SizeHint};
use tokio::time::Instant;

use super::answer::X_FALCON_CACHE;
use super::error::Failure;
use super::health::NOT_READY;
use super::request_id;
use crate::metrics::{Metrics, READ};
use crate::object::Source;

pub(super) const X_FALCON_NODE: HeaderName = HeaderName::from_static("x-falcon-node");
pub(super) const X_AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The label of answers that were not read from anywhere.
const NO_SOURCE: &str = "none";

/// Warnings in a second; what fails for one client often fails for all at the same moment.
const WARNINGS: u64 = 10;

/// How a port's failures look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Falcon's own.
    Blob,
    /// S3's.
    S3,
}

/// What the answers of one port have in common: the state of `handle`.
pub struct Middleware {
    pub(super) api: &'static str,
    pub(super) dialect: Dialect,
    pub(super) node: HeaderValue,
    pub(super) metrics: Arc<Metrics>,
    warnings: Limiter,
}

impl Middleware {
    /// That of the port that metrics call `api`, at the node `node`.
    pub fn new(api: &'static str, dialect: Dialect, node: &str, metrics: &Arc<Metrics>) -> Self {
        Self {
            api,
            dialect,
            // A name that is no header's value is a static peer's mistake; the answer goes without it.
            node: HeaderValue::from_str(node).unwrap_or(HeaderValue::from_static("")),
            metrics: Arc::clone(metrics),
            warnings: Limiter::new(),
        }
    }

    /// What is asked for by that path; at the S3 gateway a path is an object's.
    fn op_of(&self, path: &str) -> &'static str {
        if self.dialect == Dialect::S3 {
            return NO_OP;
        }
        let path = path.strip_prefix("/_falcon").unwrap_or(path);
        let word = path.split('/').nth(1).unwrap_or_default();
        let known = OPS.iter().find(|(known, _)| *known == word);
        known.map_or(NO_OP, |(_, op)| op)
    }
}

/// What was asked for, as metrics call it; put into the response's extensions where the path does not tell.
#[derive(Debug, Clone, Copy)]
pub struct Op(pub &'static str);

/// The label of what is not known.
const NO_OP: &str = "other";

/// The first words of paths that tell what is asked for.
const OPS: &[(&str, &str)] = &[
    ("get", READ),
    ("upload", "upload"),
    ("invalidate", "invalidate"),
    ("list", "list"),
    ("delete", "delete"),
    ("prewarm", "prewarm"),
    ("ring", "ring"),
    ("healthz", "health"),
    ("readyz", "health"),
    ("metrics", "metrics"),
    ("heartbeat", "heartbeat"),
    ("read", READ),
    ("warm", "warm"),
    ("write-through", "write-through"),
];

/// What a handler tells of its answer, put into the response's extensions.
#[derive(Debug, Clone)]
pub struct ResponseContext {
    /// The object or prefix it was about, for the log; `None` too where the log is off.
    pub key: Option<String>,
    /// The word of `x-falcon-cache`.
    pub source: &'static str,
}

impl ResponseContext {
    /// Put on an answer that was not read from anywhere.
    pub(super) fn about(key: String, mut response: Response) -> Response {
        let context = Self {
            key: Some(key),
            source: NO_SOURCE,
        };
        response.extensions_mut().insert(context);
        response
    }
}

/// The layer around all routes.
pub(crate) async fn handle(
    State(layer): State<Arc<Middleware>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request_id::from_headers(request.headers());
    let method = request.method().clone();
    let uri = request.uri().clone();
    let with_body = has_body(request.headers());
    request
        .headers_mut()
        .insert(request_id::X_REQUEST_ID, id.clone());
    let mut response = next.run(request).await;

    let failure = response.extensions_mut().remove::<Failure>();
    let context = response.extensions_mut().remove::<ResponseContext>();
    let source = context.as_ref().map_or(NO_SOURCE, |context| context.source);
    let status = response.status();
    let op = response.extensions_mut().remove::<Op>();
    let op = op.map_or_else(|| layer.op_of(uri.path()), |op| op.0);
    let api = if uri.path().starts_with("/_falcon/") {
        "peer"
    } else {
        layer.api
    };
    layer
        .metrics
        .request(api, op, source, status.as_u16(), started.elapsed());

    let headers = response.headers_mut();
    headers.insert(request_id::X_REQUEST_ID, id.clone());
    if !layer.node.is_empty() {
        headers.insert(X_FALCON_NODE, layer.node.clone());
    }
    if layer.dialect == Dialect::S3 {
        headers.entry(X_AMZ_REQUEST_ID).or_insert(id.clone());
        // A refusal is from nowhere: nothing of it is kept either.
        let refused = HeaderValue::from_static(Source::Bypass.as_str());
        headers.entry(X_FALCON_CACHE).or_insert(refused);
        if with_body && status.is_client_error() {
            // Who was refused before his body was read hears that the connection goes with it.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    if let Some(failure) = failure.as_ref() {
        let (media, text) = failure.render(layer.dialect, request_id::text(&id));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if method != Method::HEAD {
            *response.body_mut() = Body::from(text);
        }
    }
    let wanting = failure.as_ref().filter(|_| status.is_server_error());
    // A probe asks every few seconds, and gets what it asks for.
    if let Some(failure) = wanting.filter(|failure| failure.code() != NOT_READY) {
        warn(&layer, &method, uri.path(), failure, request_id::text(&id));
    }
    let line = is_on().then(|| AccessLogEntry {
        key: context
            .and_then(|context| context.key)
            .or_else(|| failure.as_ref().and_then(Failure::key).map(str::to_owned)),
        code: failure.map(|failure| failure.code().to_owned()),
        method: method.clone(),
        path: uri.path().to_owned(),
        id,
    });
    let figures = ResponseMetrics {
        expected: expected(&method, &response),
        started,
        layer,
        api,
        source,
        status,
        sent: 0,
        ended: response.body().is_end_stream(),
        line,
    };
    response.map(|body| Body::new(Metered { body, figures }))
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING)
}

/// True when each request has a line in the log.
pub(super) fn is_on() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// Bytes after which the body is over for the HTTP library, which then asks no further.
fn expected(method: &Method, response: &Response) -> Option<u64> {
    if method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED {
        return Some(0);
    }
    let length = response.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn warn(layer: &Middleware, method: &Method, path: &str, failure: &Failure, id: &str) {
    let Some(left_out) = layer.warnings.allow() else {
        return;
    };
    tracing::warn!(
        %method, path, key = failure.key(), bucket = failure.bucket(), status = failure.status().as_u16(),
        code = failure.code(), request_id = id, left_out, "{}", failure.message()
    );
}

/// What the access log says of a request, gathered only when it is on.
struct AccessLogEntry {
    method: Method,
    path: String,
    key: Option<String>,
    code: Option<String>,
    id: HeaderValue,
}

/// One request's figures; they are settled when its body is dropped.
struct ResponseMetrics {
    started: Instant,
    layer: Arc<Middleware>,
    api: &'static str,
    source: &'static str,
    status: StatusCode,
    expected: Option<u64>,
    sent: u64,
    ended: bool,
    line: Option<AccessLogEntry>,
}

impl Drop for ResponseMetrics {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let whole = self.ended || self.expected.is_some_and(|bytes| self.sent >= bytes);
        self.layer
            .metrics
            .request_ended(self.api, self.source, took, whole);
        if self.sent > 0 {
            self.layer.metrics.bytes(self.source, self.sent);
        }
        if let Some(line) = &self.line {
            tracing::debug!(
                method = %line.method, path = line.path, key = line.key, status = self.status.as_u16(), source = self.source,
                bytes = self.sent, ms = took.as_secs_f64() * 1000.0, request_id = request_id::text(&line.id), code = line.code,
                "{}", if whole { "answered" } else { "cut" }
            );
        }
    }
}

pin_project_lite::pin_project! {
    /// An answer's body that counts itself.
    struct Metered {
        #[pin]
        body: Body,
        figures: ResponseMetrics,
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        let polled = this.body.as_mut().poll_frame(cx);
        match &polled {
            Poll::Ready(None) => this.figures.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                this.figures.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                // After the last piece of a known body nobody asks again.
                this.figures.ended = this.body.is_end_stream();
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(error = error as &dyn std::error::Error, "the answer is cut");
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Lets some events of each second through.
struct Limiter {
    start: Instant,
    second: AtomicU64,
    count: AtomicU64,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limiter")
    }
}

impl Limiter {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            second: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// `None` when there were enough in this second; else how many were left out in the one before.
    fn allow(&self) -> Option<u64> {
        let now = self.start.elapsed().as_secs();
        let before = if self.second.swap(now, Ordering::Relaxed) == now {
            0
        } else {
            self.count.swap(0, Ordering::Relaxed)
        };
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        (count < WARNINGS).then(|| before.saturating_sub(WARNINGS))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn warnings_are_limited_and_the_rest_is_counted() {
        let limiter = Limiter::new();
        let let_through = (0..25).filter(|_| limiter.allow().is_some()).count();
        assert_eq!(let_through as u64, WARNINGS);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(limiter.allow(), Some(15));
        assert_eq!(limiter.allow(), Some(0));
    }

    #[tokio::test]
    async fn an_answer_in_one_piece_is_whole_without_an_announced_length() {
        let metrics = Arc::new(Metrics::new());
        let router = axum::Router::new()
            .route("/", axum::routing::get(|| async { "text" }))
            .layer(axum::middleware::from_fn_with_state(
                Arc::new(Middleware::new("blob", Dialect::Blob, "n", &metrics)),
                handle,
            ));
        let mut response = tower::ServiceExt::oneshot(router, Request::new(Body::empty()))
            .await
            .unwrap();
        // As the HTTP library reads it: one frame, and no further when the body says that it is over.
        let body = Pin::new(response.body_mut());
        let mut body = Box::pin(body);
        let layer = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        assert!(layer.unwrap().is_ok() && body.is_end_stream());
        drop(body);
        drop(response);
        let text = metrics.prometheus();
        assert!(!text.contains("falcon_cut_answers_total{"), "{text}");
        assert!(
            text.contains("falcon_request_seconds_count{api=\"blob\",source=\"none\"} 1"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_early_counts_as_cut() {
        let metrics = Arc::new(Metrics::new());
        let figures = |expected| ResponseMetrics {
            started: Instant::now(),
            layer: Arc::new(Middleware::new("blob", Dialect::Blob, "n", &metrics)),
            api: "blob",
            source: "memory",
            status: StatusCode::OK,
            expected,
            sent: 0,
            ended: false,
            line: None,
        };
        for expected in [3, 4] {
            let piece = futures::stream::iter([Ok::<_, axum::Error>("abc")]);
            let body = Metered {
                body: Body::from_stream(piece.chain(futures::stream::pending())),
                figures: figures(Some(expected)),
            };
            let mut body = Box::pin(body);
            let layer = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
            assert!(layer.unwrap().is_ok());
        }
        let text = metrics.prometheus();
        assert!(
            text.contains("falcon_cut_answers_total{api=\"blob\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("falcon_sent_bytes_total{source=\"memory\"} 6"),
            "{text}"
        );
    }
}
