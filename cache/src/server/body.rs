//! Bodies with an end: a request's body must keep coming; an answer's body says when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::deadline::Deadline;
use super::io::Pulse;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The request's body stopped before its end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no byte of the request's body came for {} s", .0.as_secs_f32())]
pub struct BodyStalled(pub Duration);

/// A request's body that ends in [`BodyStalled`] when no byte comes while somebody waits for one.
pub(super) struct Arriving {
    body: Incoming,
    after: Duration,
    deadline: Deadline,
}

impl Arriving {
    pub(super) fn new(body: Incoming, after: Duration) -> Self {
        Self {
            body,
            after,
            deadline: Deadline::new(after),
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.deadline.disarm();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                this.deadline.arm();
                if this.deadline.expired(cx) {
                    this.deadline.disarm();
                    return Poll::Ready(Some(Err(Box::new(BodyStalled(this.after)))));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends the request for the connection's socket when dropped.
pub(super) struct Busy(pub(super) Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}

pin_project_lite::pin_project! {
    /// An answer's body; its request runs until it is dropped.
    pub(super) struct Leaving<B> {
        #[pin]
        body: B,
        busy: Busy,
    }
}

impl<B> Leaving<B> {
    pub(super) fn new(body: B, busy: Busy) -> Self {
        Self { body, busy }
    }
}

impl<B: Body> Body for Leaving<B> {
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
