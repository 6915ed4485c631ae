//! Bodies that end: a request's body must keep coming, and an answer's body says when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::conn_state::ConnState;
use super::deadline::Deadline;

/// How much of an unwanted body is read to keep the connection: a form's fields, a list of keys.
const LEFT_BYTES: usize = 64 * 1024;

/// How long that may take: the answer waits for it.
const LEFT_TIME: Duration = Duration::from_millis(50);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body that brings less than this in its time counts as stalled.
const LEAST_BYTES: usize = 1024;

/// The request's body stalled before its end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the request's body must bring at least 1 KiB in {} s", .0.as_secs_f32())]
pub struct BodyStalled(pub Duration);

/// A request's body that ends in [`BodyStalled`] when next to nothing comes while it is being read. Dropped before its
/// end, it leaves the rest to its connection.
pub(super) struct RequestBody {
    body: Option<Incoming>,
    state: Arc<ConnState>,
    after: Duration,
    deadline: Deadline,
    /// Since when bytes are waited for.
    since: Option<Instant>,
    /// For how long they were waited for, and how many came.
    waited: Duration,
    came: usize,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, state: Arc<ConnState>, after: Duration) -> Self {
        Self {
            body: Some(body),
            state,
            after,
            deadline: Deadline::new(after),
            since: None,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// Counts bytes that came. The wait for them is over; it counts on unless they are enough.
    fn record(&mut self, bytes: usize) {
        self.deadline.disarm();
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.came += bytes;
        if self.came >= LEAST_BYTES {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
    }

    /// True when bytes have been waited for too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            let began = now.checked_sub(self.waited).unwrap_or(now);
            self.deadline.arm_at(began);
        }
        self.deadline.expired(cx)
    }

    /// Lets the connection know when the HTTP library has read the body to its end.
    fn check_end(&mut self, over: bool) {
        if over || self.body.as_ref().is_some_and(Body::is_end_stream) {
            self.body = None;
            self.state.body_ended();
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            self.state.leave_body(body);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let data = frame
                    .as_ref()
                    .and_then(|frame| frame.as_ref().ok()?.data_ref());
                this.record(data.map_or(0, Bytes::len));
                this.check_end(frame.is_none());
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                if this.is_late(cx) {
                    this.record(LEAST_BYTES);
                    return Poll::Ready(Some(Err(Box::new(BodyStalled(this.after)))));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, Body::size_hint)
    }
}

/// Reads the rest of a request's body after its answer. True when it was short and has come, so that another request
/// may follow on the connection.
pub(super) async fn read_away(mut body: Incoming) -> bool {
    let mut left = LEFT_BYTES;
    let rest = async {
        while !body.is_end_stream() {
            match body.frame().await {
                None => break,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    let Some(less) = left.checked_sub(bytes) else {
                        return false;
                    };
                    left = less;
                }
                Some(Err(_)) => return false,
            }
        }
        true
    };
    timeout(LEFT_TIME, rest).await.unwrap_or(false)
}

/// Ends the request for the connection's socket when dropped.
pub(super) struct RequestGuard(pub(super) Arc<ConnState>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

pin_project_lite::pin_project! {
    /// An answer's body; its request runs until it is dropped.
    pub(super) struct ResponseBody<B> {
        #[pin]
        body: B,
        guard: RequestGuard,
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn new(body: B, guard: RequestGuard) -> Self {
        Self { body, guard }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
