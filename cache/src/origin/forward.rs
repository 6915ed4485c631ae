//! A client's request forwarded as it is, and the origin's answer returned as it is: method, query, headers and bytes.
//!
//! The SDK's GetObject is the envelope. It has the endpoint, the keys and the connections, and it signs; its content is
//! replaced before that. Neither side is interpreted, so whatever S3 supports goes through unchanged.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use tokio::time::{Instant, timeout};

use super::attempts::Attempts;
use super::credentials::Files;
use super::envelope::{Carrier, Content, Envelope};
use super::head::headers_of;
use super::outgoing::{BodyFailed, Flow, Incoming, streamed};
use super::raw::{Taken, status_of};
use super::{Error, Origin, PAIRS_TRIED, blank, error};

/// Prefixes of headers that make a request unrepeatable: conditions, as several vendors spell them, and sources that
/// may change in between.
const ONCE: &[&str] = &[
    "if-",
    "x-amz-if-",
    "x-amz-copy-source",
    "x-amz-rename-source",
    "x-amz-write-offset-bytes",
];

/// From this size on, S3 is asked whether it wants the body: what a refusal saves is worth a round trip.
const EXPECTING_BYTES: u64 = 1024 * 1024;

/// The key while the request is for the bucket itself.
const NO_KEY: &str = "_";

/// A request to S3.
#[derive(Debug)]
pub struct Forward {
    /// S3's name for the operation; the label of the metrics.
    pub op: &'static str,
    /// The method.
    pub method: Method,
    /// The bucket.
    pub bucket: String,
    /// The key; `None` is the bucket itself.
    pub key: Option<String>,
    /// The query, encoded as the client had it, without what belonged to a signature.
    pub query: String,
    /// The headers, without those of the connection and of the signature.
    pub headers: HeaderMap,
    /// The bytes.
    pub payload: Payload,
}

/// The bytes of a request on its way to S3.
#[derive(Debug)]
pub enum Payload {
    /// In memory: signed, and sent again where that may help.
    Held(Bytes),
    /// Passed on as they come.
    Streamed {
        /// The bytes; trailers after them are sent on.
        body: Incoming,
        /// How many they are.
        length: u64,
        /// The trailers' names, each with the length of its value.
        trailers: Vec<(HeaderName, u64)>,
    },
}

impl Payload {
    fn length(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Streamed { length, .. } => *length,
        }
    }
}

/// The bytes of S3's answer.
pub type ForwardedBody = BoxStream<'static, Result<Bytes, Error>>;

impl Forward {
    /// False if doing it twice differs from doing it once (RFC 9110 §9.2.2), or if its answer would: the second try of
    /// a conditional write meets what the first one wrote.
    fn is_repeatable(&self) -> bool {
        match self.method {
            Method::GET | Method::HEAD | Method::OPTIONS => true,
            Method::PUT | Method::DELETE => !self.headers.keys().any(|name| {
                let name = name.as_str();
                ONCE.iter().any(|prefix| name.starts_with(prefix))
            }),
            _ => false,
        }
    }

    /// It changes nothing.
    fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

impl Origin {
    /// Forwards a request. Whatever S3 answers is an answer, refusals too; an error means that no answer came, or none
    /// that tells what became of a write.
    ///
    /// `wait` is the time from the request's last byte to the answer's head; the time that the client takes to send
    /// does not count.
    pub async fn forward(
        &self,
        forward: Forward,
        wait: Duration,
    ) -> Result<Response<ForwardedBody>, Error> {
        let started = Instant::now();
        let (op, safe) = (forward.op, forward.is_safe());
        let (flow, attempts) = (Flow::default(), Attempts::default());
        // S3 may send parts of its answer for as long as it works on the request.
        let idle = self.0.idle_timeout.max(wait);
        let result = tokio::select! {
            sent = self.send_on(forward, &flow, &attempts) => match sent {
                (Ok(_), taken) => self.accepted(&taken, idle),
                (Err(error), _) => self.refused(error),
            },
            waited = flow.silence(self.write_wait(0).min(wait), wait) => Err(Error::Timeout {
                endpoint: Arc::clone(&self.0.name),
                waited,
            }),
        };
        let code = match &result {
            Ok(answer) if answer.status().as_u16() < 400 => "ok",
            Ok(answer) => error::implied(answer.status().as_u16()),
            Err(error) => error.code(),
        };
        self.0.metrics.origin_answered(op, code, started.elapsed());
        if !matches!(&result, Ok(answer) if answer.status().is_success()) {
            // The rest of the request no longer matters. Its connection has to know before the answer leaves.
            flow.stop();
        }
        match result {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => {
                let status = answer.status().as_u16();
                // A refused attempt proves nothing about those before it.
                if !safe && status < 500 && attempts.may_have_happened() {
                    return Err(attempts.judged(Error::from_answer(status, None, None)));
                }
                Ok(answer)
            }
            Err(error @ Error::Body(_)) => Err(error),
            Err(error) if safe => Err(error),
            Err(error) => Err(attempts.judged(error)),
        }
    }

    async fn send_on(&self, forward: Forward, flow: &Flow, attempts: &Attempts) -> (Sent, Taken) {
        let repeatable = forward.is_repeatable();
        let Forward {
            method,
            bucket,
            key,
            query,
            mut headers,
            payload,
            ..
        } = forward;
        let expected = headers.remove(header::EXPECT).is_some();
        let length = payload.length();
        if matches!(payload, Payload::Held(_)) && matches!(method, Method::PUT | Method::POST) {
            // Even if it is zero: S3 demands it.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        let (held, mut streamed) = match payload {
            Payload::Held(bytes) => (bytes, None),
            Payload::Streamed {
                body,
                length,
                trailers,
            } => (
                Bytes::new(),
                Some(streamed(body, length, &trailers, &mut headers, flow)),
            ),
        };
        let gone_when_sent = streamed.is_some();
        let expects = gone_when_sent && (expected || length >= EXPECTING_BYTES);
        for attempt in 1.. {
            let (body, trailing) = streamed
                .take()
                .unwrap_or_else(|| (SdkBody::from(held.clone()), false));
            let envelope = Arc::new(Envelope::new(Content {
                method: method.clone(),
                whole_bucket: key.is_none(),
                query: query.clone(),
                headers: headers.clone(),
                body,
                trailing,
                expects,
            }));
            let taken = Taken::default();
            let before = self.0.files.as_ref().map(Files::generation);
            let mut config = aws_sdk_s3::Config::builder();
            if gone_when_sent || !repeatable {
                config = config.retry_config(RetryConfig::disabled());
            }
            let request = self.0.client.get_object().bucket(&bucket);
            let request = request
                .key(key.as_deref().map_or(NO_KEY.into(), blank::sendable))
                .customize()
                .config_override(config)
                .interceptor(Carrier(envelope))
                .interceptor(taken.clone())
                .interceptor(attempts.clone());
            let sent = Box::pin(request.send()).await;
            if let (Err(refusal), Some(files), Some(before)) = (&sent, &self.0.files, before)
                && !gone_when_sent
                && attempt < PAIRS_TRIED
                && error::refuses_keys(refusal)
                && files.changed_since(before).await
            {
                continue;
            }
            return (sent, taken);
        }
        unreachable!("the last attempt returns")
    }

    fn accepted(&self, taken: &Taken, idle: Duration) -> Result<Response<ForwardedBody>, Error> {
        let answer = taken.answer()?;
        let state = (ByteStream::new(answer.body), self.clone());
        let body = stream::unfold(Some(state), move |state| async move {
            let (mut body, origin) = state?;
            let item = origin.piece(&mut body, idle).await?;
            let next = item.is_ok().then_some((body, origin));
            Some((item, next))
        });
        Ok(response(answer.status, answer.headers, body.boxed()))
    }

    async fn piece(&self, body: &mut ByteStream, idle: Duration) -> Option<Result<Bytes, Error>> {
        match timeout(idle, body.next()).await {
            Ok(Some(Ok(bytes))) => Some(Ok(bytes)),
            Ok(Some(Err(error))) => Some(Err(Error::Broken(format!("it broke off: {error}")))),
            Ok(None) => None,
            Err(_) => Some(Err(Error::Timeout {
                endpoint: Arc::clone(&self.0.name),
                waited: idle,
            })),
        }
    }

    fn refused(
        &self,
        error: SdkError<GetObjectError, HttpResponse>,
    ) -> Result<Response<ForwardedBody>, Error> {
        match error {
            SdkError::ServiceError(refusal) => {
                let raw = refusal.into_raw();
                let status = status_of(&raw)?;
                let headers = headers_of(&raw);
                let bytes = raw.into_body().bytes().map(Bytes::copy_from_slice);
                let body = stream::iter(bytes.filter(|bytes| !bytes.is_empty()).map(Ok));
                Ok(response(status, headers, body.boxed()))
            }
            error => Err(match error::find::<BodyFailed>(&error) {
                Some(_) => Error::Body(Box::new(error)),
                None => Error::from_sdk(error, &self.0.name),
            }),
        }
    }
}

type Sent = Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>>;

fn response(
    status: StatusCode,
    headers: HeaderMap,
    body: ForwardedBody,
) -> Response<ForwardedBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
