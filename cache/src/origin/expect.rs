//! `Expect: 100-continue` toward S3: a large body is not sent before S3 has looked at the request's head.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long to wait for S3's `100 Continue`, as AWS's own SDKs do.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same where the last request got none: a server that ignores expectations costs little from then on.
const LITTLE_PATIENCE: Duration = Duration::from_millis(50);

/// Whether this origin answered the last expectation.
#[derive(Debug, Clone, Default)]
pub(super) struct Expectations {
    unanswered: Arc<AtomicBool>,
}

/// A body that may have to wait for `100 Continue`.
pub(super) struct Permitted {
    body: SdkBody,
    permission: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Expectations {
    /// The request, with a body that waits if its head says so.
    pub(super) fn hold(&self, request: Request<SdkBody>) -> Request<Permitted> {
        let expects = request.headers().contains_key(header::EXPECT);
        let mut request = request.map(|body| Permitted {
            body,
            permission: None,
        });
        if !expects {
            return request;
        }
        let permitted = Arc::new(Notify::new());
        let given = Arc::clone(&permitted);
        hyper::ext::on_informational(&mut request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                given.notify_one();
            }
        });
        let unanswered = Arc::clone(&self.unanswered);
        request.body_mut().permission = Some(Box::pin(async move {
            let patience = if unanswered.load(Ordering::Relaxed) {
                LITTLE_PATIENCE
            } else {
                PATIENCE
            };
            let given = timeout(patience, permitted.notified()).await;
            unanswered.store(given.is_err(), Ordering::Relaxed);
        }));
        request
    }
}

impl Body for Permitted {
    type Data = Bytes;
    type Error = <SdkBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(permission) = &mut self.permission {
            ready!(permission.as_mut().poll(context));
            self.permission = None;
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}
