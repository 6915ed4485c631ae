//! A limit on what the form parser keeps in memory: it reads as long as there is something to read, and keeps the head
//! of a part until that ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Bytes of a part's head, boundary included; a browser sends some 200.
const HEAD_BYTES: u64 = 64 * 1024;

/// How many more bytes may be read now.
#[derive(Clone, Default)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// A part's head comes next.
    pub(super) fn head(&self) {
        self.0.store(HEAD_BYTES, Ordering::Relaxed);
    }

    /// A file's content comes next: it is passed on as it comes.
    pub(super) fn content(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    /// False when a part's head has taken all it may.
    fn spend(&self, bytes: u64) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left == 0 {
            return false;
        }
        if left < u64::MAX {
            self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
        true
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the head of a part of the form is longer than 64 KiB")]
struct HeadTooLong;

struct Bounded {
    body: Body,
    allowance: Allowance,
    gave: bool,
}

/// `body`, which gives one frame at a time and ends in an error when it gives more than `allowance`.
pub(super) fn limit(body: Body, allowance: &Allowance) -> Body {
    Body::new(Bounded {
        body,
        allowance: allowance.clone(),
        gave: false,
    })
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.gave) {
            // Makes the parser stop reading and look at what it has.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.gave = true;
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            if !this.allowance.spend(bytes) {
                return Poll::Ready(Some(Err(axum::Error::new(HeadTooLong))));
            }
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
    use std::convert::Infallible;

    use axum::extract::{FromRequest, Multipart, Request};
    use futures::stream;
    use http::StatusCode;

    use super::*;
    use crate::web::status;

    fn form(pieces: Vec<Bytes>, allowance: &Allowance) -> Request {
        let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
        Request::builder()
            .header("content-type", "multipart/form-data; boundary=X")
            .body(limit(body, allowance))
            .unwrap()
    }

    #[tokio::test]
    async fn a_head_without_end_is_not_collected() {
        let allowance = Allowance::default();
        allowance.head();
        let mut pieces = vec![Bytes::from_static(
            b"--X\r\ncontent-disposition: form-data; name=\"",
        )];
        pieces.extend((0..1000).map(|_| Bytes::from(vec![b'a'; 1024])));
        let mut form = Multipart::from_request(form(pieces, &allowance), &())
            .await
            .unwrap();
        let error = form.next_field().await.err().unwrap();
        let failure = status::of_body(&error, StatusCode::BAD_REQUEST);
        assert_eq!(failure.status().as_u16(), 400);
        assert!(
            failure.message().contains("64 KiB"),
            "{}",
            failure.message()
        );
    }

    #[tokio::test]
    async fn a_file_of_any_size_goes_through() {
        let allowance = Allowance::default();
        allowance.head();
        let mut pieces = vec![Bytes::from_static(
            b"--X\r\ncontent-disposition: form-data; name=\"files\"; filename=\"f\"\r\n\r\n",
        )];
        pieces.extend((0..200).map(|_| Bytes::from(vec![b'a'; 1024])));
        pieces.push(Bytes::from_static(b"\r\n--X--\r\n"));
        let mut form = Multipart::from_request(form(pieces, &allowance), &())
            .await
            .unwrap();
        let mut field = form.next_field().await.unwrap().unwrap();
        allowance.content();
        let mut bytes = 0;
        while let Some(chunk) = field.chunk().await.unwrap() {
            bytes += chunk.len();
        }
        assert_eq!(bytes, 200 * 1024);
        drop(field);
        allowance.head();
        assert!(form.next_field().await.unwrap().is_none());
    }
}
