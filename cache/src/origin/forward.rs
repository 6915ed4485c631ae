//! A client's request sent on as it is, and the origin's answer handed back as it is: method, query, headers and bytes.
//!
//! The SDK's GetObject is the envelope. It knows the endpoint, the keys and the connections, and it signs; what is in it
//! is exchanged before that. Nothing of either side is read, so whatever S3 knows goes through, in its own words.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_runtime::auth::PayloadSigningOverride;
use aws_runtime::content_encoding::{AwsChunkedBody, AwsChunkedBodyOptions};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, timeout};

use super::credentials::Files;
use super::head::headers_of;
use super::raw::{Taken, status_of};
use super::{Error, Origin, PAIRS_TRIED, blank, error};

/// Stands for the key while the bucket itself is meant.
const NO_KEY: &str = "_";

type BoxError = Box<dyn StdError + Send + Sync>;

/// The bytes of a client's request.
pub type Incoming = UnsyncBoxBody<Bytes, BoxError>;

/// What goes to S3.
#[derive(Debug)]
pub struct Forward {
    /// What S3 calls it; the label of the metrics.
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

/// The client's bytes broke off while they were passed on.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub(super) struct BodyFailed(#[source] BoxError);

/// The bytes of S3's answer.
pub type Answer = BoxStream<'static, Result<Bytes, Error>>;

impl Origin {
    /// Sends a request on. Whatever S3 answers is an answer, refusals too; an error means that there was none.
    ///
    /// `wait` is to the answer's head, the time that the request's bytes take included.
    pub async fn forward(
        &self,
        forward: Forward,
        wait: Duration,
    ) -> Result<Response<Answer>, Error> {
        let started = Instant::now();
        let op = forward.op;
        let sent = timeout(wait, self.send_on(forward)).await;
        let result = match sent {
            Ok((Ok(_), taken)) => self.accepted(&taken),
            Ok((Err(error), _)) => self.refused(error),
            Err(_) => Err(Error::Timeout {
                endpoint: Arc::clone(&self.0.name),
                waited: wait,
            }),
        };
        let code = match &result {
            Ok(answer) if answer.status().as_u16() < 400 => "ok",
            Ok(answer) => error::implied(answer.status().as_u16()),
            Err(error) => error.code(),
        };
        self.0.metrics.origin_answered(op, code, started.elapsed());
        result
    }

    async fn send_on(&self, forward: Forward) -> (Sent, Taken) {
        let Forward {
            method,
            bucket,
            key,
            query,
            mut headers,
            payload,
            ..
        } = forward;
        let (held, mut streamed) = match payload {
            Payload::Held(bytes) => (bytes, None),
            Payload::Streamed {
                body,
                length,
                trailers,
            } => (
                Bytes::new(),
                Some(streamed(body, length, &trailers, &mut headers)),
            ),
        };
        let once = streamed.is_some();
        for attempt in 1.. {
            let (body, trailing) = streamed
                .take()
                .unwrap_or_else(|| (SdkBody::from(held.clone()), false));
            let envelope = Arc::new(Envelope {
                content: Mutex::new(Some(Content {
                    method: method.clone(),
                    whole_bucket: key.is_none(),
                    query: query.clone(),
                    headers: headers.clone(),
                    body,
                    trailing,
                })),
            });
            let taken = Taken::default();
            let before = self.0.files.as_ref().map(Files::generation);
            let mut request = self
                .0
                .client
                .get_object()
                .bucket(&bucket)
                .key(key.as_deref().map_or(NO_KEY.into(), blank::sendable))
                .customize()
                .interceptor(Carrier(envelope))
                .interceptor(taken.clone());
            if once {
                let never = RetryConfig::disabled();
                request =
                    request.config_override(aws_sdk_s3::Config::builder().retry_config(never));
            }
            let sent = Box::pin(request.send()).await;
            if let (Err(refusal), Some(files), Some(before)) = (&sent, &self.0.files, before)
                && !once
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

    fn accepted(&self, taken: &Taken) -> Result<Response<Answer>, Error> {
        let answer = taken.answer()?;
        let state = (ByteStream::new(answer.body), self.clone());
        let body = stream::unfold(Some(state), |state| async move {
            let (mut body, origin) = state?;
            let item = origin.piece(&mut body).await?;
            let next = item.is_ok().then_some((body, origin));
            Some((item, next))
        });
        Ok(response(answer.status, answer.headers, body.boxed()))
    }

    async fn piece(&self, body: &mut ByteStream) -> Option<Result<Bytes, Error>> {
        let idle = self.0.idle_timeout;
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
    ) -> Result<Response<Answer>, Error> {
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

fn response(status: StatusCode, headers: HeaderMap, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The body as S3 is to get it, with the headers that say so; `true`: trailers follow it.
fn streamed(
    body: Incoming,
    length: u64,
    trailers: &[(HeaderName, u64)],
    headers: &mut HeaderMap,
) -> (SdkBody, bool) {
    let body = OneAtATime(Mutex::new(body));
    if trailers.is_empty() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        return (SdkBody::from_body_1_x(body), false);
    }
    let mut options = AwsChunkedBodyOptions::new(length, Vec::new());
    for (name, value) in trailers {
        options = options.with_trailer_len((name.as_str().len() + 1) as u64 + value);
        headers.append("x-amz-trailer", HeaderValue::from(name.clone()));
    }
    headers.insert("x-amz-decoded-content-length", HeaderValue::from(length));
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(options.encoded_length()),
    );
    // Other encodings are the object's own.
    headers.append(
        header::CONTENT_ENCODING,
        HeaderValue::from_static("aws-chunked"),
    );
    (
        SdkBody::from_body_1_x(AwsChunkedBody::new(body, options)),
        true,
    )
}

/// What is exchanged in the SDK's request.
struct Envelope {
    content: Mutex<Option<Content>>,
}

struct Content {
    method: Method,
    whole_bucket: bool,
    query: String,
    headers: HeaderMap,
    body: SdkBody,
    trailing: bool,
}

struct Carrier(Arc<Envelope>);

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

impl Intercept for Carrier {
    fn name(&self) -> &'static str {
        "Carrier"
    }

    /// Once, before the first try: later ones are copies of what it leaves.
    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let letter = self
            .0
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let letter = letter.ok_or("an envelope is sent once")?;
        let request = context.request_mut();
        let path = match request.uri().split_once('?') {
            _ if letter.whole_bucket => "/",
            Some((path, _)) => path,
            None => request.uri(),
        };
        let uri = if letter.query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", letter.query)
        };
        request.set_uri(uri)?;
        request.set_method(letter.method.as_str())?;
        for (name, value) in &letter.headers {
            let value = std::str::from_utf8(value.as_bytes())?.to_owned();
            request
                .headers_mut()
                .try_append(name.as_str().to_owned(), value)?;
        }
        *request.body_mut() = letter.body;
        if letter.trailing {
            let unsigned = PayloadSigningOverride::StreamingUnsignedPayloadTrailer;
            config.interceptor_state().store_put(unsigned);
        }
        Ok(())
    }
}

/// A body that the SDK, which may look at it from several threads, looks at from one at a time. Its errors are marked as the
/// client's.
struct OneAtATime(Mutex<Incoming>);

impl http_body::Body for OneAtATime {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body)
            .poll_frame(context)
            .map_err(|error| BodyFailed(error).into())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn incoming(bytes: &'static str) -> Incoming {
        Full::new(Bytes::from_static(bytes.as_bytes()))
            .map_err(|never| match never {})
            .boxed_unsync()
    }

    #[test]
    fn a_body_with_trailers_is_announced_as_chunked_and_with_its_length() {
        let mut headers = HeaderMap::new();
        let crc = HeaderName::from_static("x-amz-checksum-crc32");
        let (_, trailing) = streamed(incoming("hello"), 5, &[(crc, 8)], &mut headers);
        assert!(trailing);
        assert_eq!(headers["x-amz-trailer"], "x-amz-checksum-crc32");
        assert_eq!(headers["x-amz-decoded-content-length"], "5");
        assert_eq!(headers[header::CONTENT_ENCODING], "aws-chunked");
        // 5 CRLF hello CRLF 0 CRLF name:value CRLF CRLF
        assert_eq!(
            headers[header::CONTENT_LENGTH],
            (3 + 7 + 3 + 29 + 2 + 2).to_string().as_str()
        );
    }

    #[test]
    fn a_plain_body_has_its_length_and_nothing_else() {
        let mut headers = HeaderMap::new();
        let (_, trailing) = streamed(incoming("hello"), 5, &[], &mut headers);
        assert!(!trailing);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[header::CONTENT_LENGTH], "5");
    }
}
