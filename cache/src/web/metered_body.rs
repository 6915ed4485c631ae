//! An answer's body that counts its bytes: metrics and access log are settled when it ends or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::access_log::AccessLogEntry;
use crate::metrics::Metrics;

/// What is known of an answer before its body is sent.
pub(super) struct ResponseMetrics {
    pub(super) metrics: Arc<Metrics>,
    /// The labels of the metrics.
    pub(super) api: &'static str,
    pub(super) source: &'static str,
    /// When the request's head had come.
    pub(super) started: Instant,
    /// `None` where the access log is off.
    pub(super) log_entry: Option<AccessLogEntry>,
}

/// The answer to a request of this method, metered.
pub(super) fn metered(response: Response, method: &Method, metrics: ResponseMetrics) -> Response {
    let progress = Progress {
        expected: expected(method, &response),
        sent: 0,
        ended: response.body().is_end_stream(),
        metrics,
    };
    response.map(|body| Body::new(MeteredBody { body, progress }))
}

/// Bytes after which the HTTP library takes the body for complete and asks no further.
fn expected(method: &Method, response: &Response) -> Option<u64> {
    if method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED {
        return Some(0);
    }
    let length = response.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// How far a body has been sent. Dropped with it, and settled then.
struct Progress {
    expected: Option<u64>,
    sent: u64,
    ended: bool,
    metrics: ResponseMetrics,
}

impl Drop for Progress {
    fn drop(&mut self) {
        let ResponseMetrics {
            metrics,
            api,
            source,
            started,
            log_entry,
        } = &self.metrics;
        let took = started.elapsed();
        let whole = self.ended || self.expected.is_some_and(|bytes| self.sent >= bytes);
        metrics.request_ended(api, source, took, whole);
        if self.sent > 0 {
            metrics.bytes(source, self.sent);
        }
        if let Some(entry) = log_entry {
            entry.write(self.sent, took, whole);
        }
    }
}

pin_project_lite::pin_project! {
    struct MeteredBody {
        #[pin]
        body: Body,
        progress: Progress,
    }
}

impl http_body::Body for MeteredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        let polled = this.body.as_mut().poll_frame(cx);
        match &polled {
            Poll::Ready(None) => this.progress.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                this.progress.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                // After the last piece of a body of known length the library does not poll again.
                this.progress.ended = this.body.is_end_stream();
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(
                    error = error as &dyn std::error::Error,
                    "failed to read the rest of an answer: it is cut"
                );
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

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_dropped_early_counts_as_cut() {
        let metrics = Arc::new(Metrics::new());
        for expected in [3, 4] {
            let pieces = futures::stream::iter([Ok::<_, axum::Error>("abc")]);
            let body = Body::from_stream(pieces.chain(futures::stream::pending()));
            let mut response = Response::new(body);
            let length = header::HeaderValue::from(expected);
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length);
            let figures = ResponseMetrics {
                metrics: Arc::clone(&metrics),
                api: "blob",
                source: "memory",
                started: Instant::now(),
                log_entry: None,
            };
            let mut body = metered(response, &Method::GET, figures).into_body();
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            assert!(frame.unwrap().is_ok());
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
