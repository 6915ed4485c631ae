//! A client's request body on its way to S3: passed on as it comes, counted and timed, and complete at S3 only if it
//! came complete.
//!
//! The piece that completes it waits until the client's request has ended correctly. So S3 never holds an object whose
//! signature, length or trailers turned out to be wrong.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use aws_runtime::content_encoding::{AwsChunkedBody, AwsChunkedBodyOptions};
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, sleep_until};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The bytes of a client's request.
pub type Incoming = UnsyncBoxBody<Bytes, BoxError>;

/// The client's body broke off, or is not what its request says.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub(super) struct BodyFailed(#[source] BoxError);

/// Why a body is not what its request says.
#[derive(Debug, thiserror::Error)]
enum Mismatch {
    #[error("the body has {came} bytes; its request says {said}")]
    Length { came: u64, said: u64 },
    #[error("the body has more than the {said} bytes that its request says")]
    TooLong { said: u64 },
    #[error(
        "the body's trailers must be those that x-amz-trailer names, each with a value of its algorithm's length"
    )]
    Trailers,
    #[error("S3 answered before the end of the body")]
    Answered,
}

/// Which side a request waits for while it is sent, and since when. A clone watches the same request.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    state: Arc<Mutex<SendState>>,
    clock: Arc<Clock>,
}

/// Since when S3 has been silent; `None` while the request waits for the client's next bytes.
#[derive(Debug)]
struct Clock(Mutex<Option<Instant>>);

impl Clock {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the task that waits for the client's bytes. They have come, so from here on it is S3 that is silent.
struct Arrival {
    clock: Arc<Clock>,
    reader: Waker,
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.clock.set(Some(Instant::now()));
        self.reader.wake_by_ref();
    }
}

#[derive(Debug)]
struct SendState {
    /// All bytes have been passed on.
    whole: bool,
    /// S3 has answered: no more bytes are read from the client.
    stopped: bool,
    incoming: Option<Incoming>,
    reader: Option<Waker>,
}

impl Default for Flow {
    /// Nothing is left to send.
    fn default() -> Self {
        Self {
            state: Arc::new(Mutex::new(SendState {
                whole: true,
                stopped: false,
                incoming: None,
                reader: None,
            })),
            clock: Arc::new(Clock(Mutex::new(Some(Instant::now())))),
        }
    }
}

impl Flow {
    fn state(&self) -> MutexGuard<'_, SendState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once S3 has been silent for too long, and for how long: `between` two pieces that it takes, `answer`
    /// after the last one. The time that the client takes between its pieces does not count.
    pub(super) async fn silence(&self, between: Duration, answer: Duration) -> Duration {
        loop {
            let most = if self.state().whole { answer } else { between };
            let now = Instant::now();
            let until = self.clock.since().unwrap_or(now) + most;
            if until <= now {
                return most;
            }
            sleep_until(until).await;
        }
    }

    /// Drops what the client still sends. S3 gets no more, so it can't take the request for complete.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        if state.whole {
            return;
        }
        state.stopped = true;
        state.incoming = None;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

/// The body as S3 gets it, with the headers that describe it; `true` if trailers follow it.
pub(super) fn streamed(
    incoming: Incoming,
    length: u64,
    trailers: &[(HeaderName, u64)],
    headers: &mut HeaderMap,
    flow: &Flow,
) -> (SdkBody, bool) {
    {
        let mut state = flow.state();
        state.whole = false;
        state.incoming = Some(incoming);
    }
    let body = Outgoing {
        flow: flow.clone(),
        said: length,
        left: length,
        trailers: trailers.to_vec(),
        last: None,
        closing: None,
        ended: false,
    };
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
    // Other encodings belong to the object.
    headers.append(
        header::CONTENT_ENCODING,
        HeaderValue::from_static("aws-chunked"),
    );
    (
        SdkBody::from_body_1_x(AwsChunkedBody::new(body, options)),
        true,
    )
}

struct Outgoing {
    flow: Flow,
    said: u64,
    left: u64,
    trailers: Vec<(HeaderName, u64)>,
    /// The piece that completes the body.
    last: Option<Bytes>,
    closing: Option<HeaderMap>,
    ended: bool,
}

impl Outgoing {
    /// The client's next frame, taken from where [`Flow::stop`] finds it.
    fn poll_incoming(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailed>>> {
        let mut state = self.flow.state();
        let state = &mut *state;
        let Some(incoming) = &mut state.incoming else {
            let over = state.stopped.then(|| Err(failed(Mismatch::Answered)));
            return Poll::Ready(over);
        };
        let arrival = Waker::from(Arc::new(Arrival {
            clock: Arc::clone(&self.flow.clock),
            reader: context.waker().clone(),
        }));
        // Before the poll, since the bytes may come during it.
        self.flow.clock.set(None);
        let polled = Pin::new(incoming).poll_frame(&mut Context::from_waker(&arrival));
        if polled.is_pending() {
            state.reader = Some(context.waker().clone());
        } else {
            self.flow.clock.set(Some(Instant::now()));
        }
        polled.map_err(BodyFailed)
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Option<Bytes>, BodyFailed> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.closing = frame.into_trailers().ok();
                return Ok(None);
            }
        };
        let length = data.len() as u64;
        if length == 0 {
            return Ok(None);
        }
        if length > self.left {
            return Err(failed(Mismatch::TooLong { said: self.said }));
        }
        self.left -= length;
        if self.left == 0 {
            self.last = Some(data);
            return Ok(None);
        }
        Ok(Some(data))
    }

    /// The client's request has ended: checks that the body is what it said.
    fn check(&self) -> Result<(), BodyFailed> {
        if self.left > 0 {
            let (came, said) = (self.said - self.left, self.said);
            return Err(failed(Mismatch::Length { came, said }));
        }
        let nothing = HeaderMap::new();
        let came = self.closing.as_ref().unwrap_or(&nothing);
        let mut named = self.trailers.iter();
        let all = named.all(|(name, length)| {
            came.get(name)
                .is_some_and(|value| value.len() as u64 == *length)
        });
        if !all || came.len() != self.trailers.len() {
            return Err(failed(Mismatch::Trailers));
        }
        Ok(())
    }
}

fn failed(why: Mismatch) -> BodyFailed {
    BodyFailed(why.into())
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while !this.ended {
            match ready!(this.poll_incoming(context)) {
                Some(Ok(frame)) => {
                    if let Some(data) = this.take(frame)? {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    this.check()?;
                    this.ended = true;
                    let mut state = this.flow.state();
                    state.whole = true;
                    state.incoming = None;
                }
            }
        }
        if let Some(last) = this.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        Poll::Ready(this.closing.take().map(|it| Ok(Frame::trailers(it))))
    }

    fn size_hint(&self) -> SizeHint {
        let last = self.last.as_ref().map_or(0, Bytes::len) as u64;
        SizeHint::with_exact(self.left + last)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const CRC: HeaderName = HeaderName::from_static("x-amz-checksum-crc32");

    /// What a client sends, and how it breaks off if it does.
    fn incoming(pieces: Vec<Frame<Bytes>>, broken: Option<&'static str>) -> Incoming {
        let pieces = pieces.into_iter().map(Ok);
        let broken = broken.into_iter().map(|why| Err(BoxError::from(why)));
        StreamBody::new(stream::iter(pieces.chain(broken))).boxed_unsync()
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    fn trailer(value: &'static str) -> Frame<Bytes> {
        let mut trailers = HeaderMap::new();
        trailers.insert(CRC, HeaderValue::from_static(value));
        Frame::trailers(trailers)
    }

    /// What goes out, and how it ends.
    async fn sent(
        pieces: Vec<Frame<Bytes>>,
        broken: Option<&'static str>,
        length: u64,
        trailers: &[(HeaderName, u64)],
    ) -> (String, Option<String>) {
        let flow = Flow::default();
        let (mut body, _) = streamed(
            incoming(pieces, broken),
            length,
            trailers,
            &mut HeaderMap::new(),
            &flow,
        );
        let mut out = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    let data = frame.into_data().unwrap_or_default();
                    out.push_str(std::str::from_utf8(&data).unwrap());
                }
                Err(error) => {
                    let cause = error.source().map(ToString::to_string);
                    return (out, cause.or(Some(error.to_string())));
                }
            }
        }
        (out, None)
    }

    #[test]
    fn a_body_with_trailers_is_announced_as_chunked_and_with_its_length() {
        let mut headers = HeaderMap::new();
        let flow = Flow::default();
        let body = incoming(vec![data("hello")], None);
        let (_, trailing) = streamed(body, 5, &[(CRC, 8)], &mut headers, &flow);
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
        let flow = Flow::default();
        let (_, trailing) = streamed(
            incoming(vec![data("hello")], None),
            5,
            &[],
            &mut headers,
            &flow,
        );
        assert!(!trailing);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[header::CONTENT_LENGTH], "5");
    }

    #[tokio::test]
    async fn a_body_that_is_not_what_its_request_says_is_never_complete() {
        let two = || vec![data("hel"), data("lo")];
        let wrong = Some("its signature is wrong");
        for (pieces, broken, sends, why) in [
            (two(), None, "hello", ""),
            (vec![data("hello"), data("")], None, "hello", ""),
            (two(), wrong, "hel", "signature"),
            (vec![data("hel")], None, "hel", "has 3 bytes"),
            (
                vec![data("hel"), data("lo"), data("!")],
                None,
                "hel",
                "more than the 5",
            ),
            (
                vec![data("hel"), data("lo"), trailer("AAAAAA==")],
                None,
                "hel",
                "trailers",
            ),
        ] {
            let (out, error) = sent(pieces, broken, 5, &[]).await;
            assert_eq!(out, sends, "{why}");
            assert!(error.unwrap_or_default().contains(why), "{why}");
        }
        let (out, error) = sent(vec![], None, 0, &[]).await;
        assert_eq!((out.as_str(), error), ("", None));
    }

    #[tokio::test]
    async fn trailers_are_those_that_were_announced() {
        let announced = [(CRC, 8)];
        let sent = |pieces| sent(pieces, None, 5, &announced);
        let (_, error) = sent(vec![data("hello"), trailer("AAAAAA==")]).await;
        assert_eq!(error, None);
        for pieces in [vec![data("hello")], vec![data("hello"), trailer("AAAA")]] {
            let (out, error) = sent(pieces).await;
            assert!(!out.contains("hello\r\n0"), "{out}");
            assert!(error.unwrap().contains("trailers must be"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_s3s_and_not_the_clients() {
        let (between, answer) = (Duration::from_secs(5), Duration::from_secs(30));
        let flow = Flow::default();
        let started = Instant::now();
        assert_eq!(flow.silence(between, answer).await, answer);
        assert_eq!(started.elapsed(), answer);

        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let body = StreamBody::new(receiver).boxed_unsync();
        let flow = Flow::default();
        let (mut body, _) = streamed(body, 100, &[], &mut HeaderMap::new(), &flow);
        let sending = async {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                sender.unbounded_send(Ok::<_, BoxError>(data("x"))).unwrap();
            }
            drop(sender);
        };
        let taking = async { while body.frame().await.is_some() {} };
        tokio::select! {
            _ = flow.silence(between, answer) => panic!("the client was slow, and S3 was not"),
            _ = async { tokio::join!(sending, taking) } => {}
        }
        assert_eq!(flow.silence(between, answer).await, answer);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_have_come_and_that_nobody_takes_are_s3s_silence() {
        let (between, answer) = (Duration::from_secs(5), Duration::from_secs(30));
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let body = StreamBody::new(receiver).boxed_unsync();
        let flow = Flow::default();
        let (mut body, _) = streamed(body, 100, &[], &mut HeaderMap::new(), &flow);
        // The connection asks once, and then its own buffers are full.
        assert!(futures::poll!(body.frame()).is_pending());
        sender.unbounded_send(Ok::<_, BoxError>(data("x"))).unwrap();
        let started = Instant::now();
        assert_eq!(flow.silence(between, answer).await, between);
        assert_eq!(started.elapsed(), between);
    }
}
