//! The middleware around every request: its id, its metrics, its entry in the access log, and the body of its failure.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, Method, Uri, header};
use tokio::time::Instant;

use super::access_log::{self, AccessLogEntry, Warnings};
use super::dialect::Dialect;
use super::failure::Failure;
use super::metered_body::{ResponseMetrics, metered};
use super::response_context::{NO_SOURCE, Op, ResponseContext};
use super::response_headers::{X_AMZ_REQUEST_ID, X_FALCON_BYPASS, X_FALCON_CACHE, X_FALCON_NODE};
use super::{error_document, request_id};
use crate::metrics::Metrics;
use crate::object::{BypassReason, Source};

/// The operation of a request when neither its path nor its handler identifies it.
const OTHER: &str = "other";

/// What metrics call a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Labels {
    /// The API.
    pub(crate) api: &'static str,
    /// What was asked for.
    pub(crate) op: &'static str,
}

/// What the answers of one port have in common: the state of [`handle`].
pub(crate) struct Middleware {
    pub(super) api: &'static str,
    pub(super) dialect: Dialect,
    pub(super) node: HeaderValue,
    pub(super) metrics: Arc<Metrics>,
    labels: fn(path: &str) -> Option<Labels>,
    warnings: Warnings,
}

impl Middleware {
    /// For the port that metrics call `api`, at the node `node`.
    pub(crate) fn new(
        api: &'static str,
        dialect: Dialect,
        node: &str,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            api,
            dialect,
            // A name that can't stand in a header is a mistake in a static list; answers go without it.
            node: HeaderValue::from_str(node).unwrap_or(HeaderValue::from_static("")),
            metrics: Arc::clone(metrics),
            labels: |_| None,
            warnings: Warnings::new(),
        }
    }

    /// The same, with labels by path.
    #[must_use]
    pub(crate) fn with_labels(self, labels: fn(path: &str) -> Option<Labels>) -> Self {
        Self { labels, ..self }
    }

    fn labels(&self, path: &str, op: Option<Op>) -> Labels {
        let told = (self.labels)(path).unwrap_or(Labels {
            api: self.api,
            op: OTHER,
        });
        Labels {
            op: op.map_or(told.op, |Op(op)| op),
            ..told
        }
    }

    fn set_headers(&self, response: &mut Response, id: &HeaderValue, source: Option<Source>) {
        let headers = response.headers_mut();
        if let Some(reason) = source.and_then(Source::bypass_reason) {
            let reason = HeaderValue::from_static(reason.as_str());
            headers.insert(X_FALCON_BYPASS, reason);
        }
        headers.insert(request_id::X_REQUEST_ID, id.clone());
        if !self.node.is_empty() {
            headers.insert(X_FALCON_NODE, self.node.clone());
        }
        if self.dialect == Dialect::S3 {
            headers.entry(X_AMZ_REQUEST_ID).or_insert(id.clone());
            // A refusal was not read from the cache, and is not kept there.
            let source = HeaderValue::from_static(source.map_or("bypass", Source::as_str));
            headers.entry(X_FALCON_CACHE).or_insert(source);
        }
    }

    fn set_error_body(
        &self,
        response: &mut Response,
        failure: &Failure,
        method: &Method,
        id: &HeaderValue,
    ) {
        let (media, body) = error_document::render(failure, self.dialect, request_id::text(id));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if method != Method::HEAD {
            *response.body_mut() = Body::from(body);
        }
    }
}

/// What is kept of a request while its handler runs.
struct RequestLine {
    started: Instant,
    id: HeaderValue,
    method: Method,
    uri: Uri,
}

impl RequestLine {
    /// Notes what is needed of the request, and gives it its id.
    fn take(request: &mut Request) -> Self {
        let id = request_id::from_headers(request.headers());
        let headers = request.headers_mut();
        headers.insert(request_id::X_REQUEST_ID, id.clone());
        Self {
            started: Instant::now(),
            id,
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }
}

/// What the handler left in the response's extensions.
struct HandlerNotes {
    failure: Option<Failure>,
    context: Option<ResponseContext>,
    op: Option<Op>,
}

impl HandlerNotes {
    fn take(response: &mut Response) -> Self {
        let extensions = response.extensions_mut();
        Self {
            failure: extensions.remove(),
            context: extensions.remove(),
            op: extensions.remove(),
        }
    }

    fn read_from(&self) -> Option<Source> {
        self.context.as_ref().and_then(|context| context.source)
    }

    fn source(&self) -> &'static str {
        let context = self.context.as_ref();
        context.map_or(NO_SOURCE, ResponseContext::source)
    }

    fn into_log_entry(self, line: &RequestLine, response: &Response) -> AccessLogEntry {
        let (source, failure) = (self.source(), self.failure.as_ref());
        let bypass = self.read_from().and_then(Source::bypass_reason);
        let failed_key = failure.and_then(Failure::key).map(str::to_owned);
        AccessLogEntry {
            method: line.method.clone(),
            path: line.uri.path().to_owned(),
            code: failure.map(|failure| failure.code().to_owned()),
            key: self.context.and_then(|context| context.key).or(failed_key),
            status: response.status(),
            source,
            bypass: bypass.map(BypassReason::as_str),
            id: line.id.clone(),
        }
    }
}

/// The layer around all routes.
pub(crate) async fn handle(
    State(layer): State<Arc<Middleware>>,
    mut request: Request,
    next: Next,
) -> Response {
    let line = RequestLine::take(&mut request);
    let mut response = next.run(request).await;
    let notes = HandlerNotes::take(&mut response);

    let Labels { api, op } = layer.labels(line.uri.path(), notes.op);
    let (source, status) = (notes.source(), response.status());
    let first_byte = line.started.elapsed();
    layer
        .metrics
        .request(api, op, source, status.as_u16(), first_byte);

    layer.set_headers(&mut response, &line.id, notes.read_from());
    if let Some(failure) = &notes.failure {
        layer.set_error_body(&mut response, failure, &line.method, &line.id);
        if failure.is_worth_a_warning() {
            let (method, path) = (&line.method, line.uri.path());
            layer.warnings.warn(method, path, failure, &line.id);
        }
    }
    let figures = ResponseMetrics {
        metrics: Arc::clone(&layer.metrics),
        api,
        source,
        started: line.started,
        log_entry: access_log::is_on().then(|| notes.into_log_entry(&line, &response)),
    };
    metered(response, &line.method, figures)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use http_body::Body as _;

    use super::*;

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
        let mut body = Pin::new(response.body_mut());
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        assert!(frame.unwrap().is_ok() && body.is_end_stream());
        drop(response);
        let text = metrics.prometheus();
        assert!(!text.contains("falcon_cut_answers_total{"), "{text}");
        assert!(
            text.contains("falcon_request_seconds_count{api=\"blob\",source=\"none\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn a_handler_knows_better_than_the_path_what_was_asked_for() {
        let metrics = Arc::new(Metrics::new());
        let layer = Middleware::new("s3", Dialect::S3, "n", &metrics);
        let told = |layer: &Middleware, op| {
            let Labels { api, op } = layer.labels("/get", op);
            (api, op)
        };
        assert_eq!(told(&layer, None), ("s3", "other"));
        assert_eq!(told(&layer, Some(Op("PutObject"))), ("s3", "PutObject"));
        let layer = layer.with_labels(|_| {
            let (api, op) = ("peer", "read");
            Some(Labels { api, op })
        });
        assert_eq!(told(&layer, None), ("peer", "read"));
    }
}
