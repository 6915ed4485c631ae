//! What stands before the S3 of the tests: it names and counts requests, and does wrong what a fault says.

use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use percent_encoding::percent_decode_str;
use s3s::HttpError;

use super::S3;
use super::fault::{Gate, What};
use super::loose;

type Fail = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Fail>;

const CONDITIONS: [HeaderName; 4] = [
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];

/// One request, by S3's names.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) op: &'static str,
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// The `Range` header.
    pub(crate) range: Option<String>,
}

impl Call {
    fn of(request: &Request<Incoming>) -> Self {
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let decode = |s: &str| percent_decode_str(s).decode_utf8_lossy().into_owned();
        let query = request.uri().query().unwrap_or_default();
        let has = |name: &str| query.split('&').any(|p| p.split('=').next() == Some(name));
        let copy = request.headers().contains_key("x-amz-copy-source");
        let op = match (request.method(), bucket.is_empty(), key.is_empty()) {
            (&Method::OPTIONS, ..) => "Preflight",
            (_, true, _) => "ListBuckets",
            (method, _, true) => bucket_op(method, has),
            (method, _, false) => object_op(method, has, copy),
        };
        let range = request.headers().get(RANGE).and_then(|v| v.to_str().ok());
        Self {
            op,
            bucket: decode(bucket),
            key: decode(key),
            range: range.map(ToOwned::to_owned),
        }
    }
}

fn bucket_op(method: &Method, has: impl Fn(&str) -> bool) -> &'static str {
    match *method {
        Method::HEAD => "HeadBucket",
        Method::PUT => "CreateBucket",
        Method::POST if has("delete") => "DeleteObjects",
        Method::GET if has("list-type") => "ListObjectsV2",
        _ => "other",
    }
}

fn object_op(method: &Method, has: impl Fn(&str) -> bool, copy: bool) -> &'static str {
    match *method {
        Method::HEAD => "HeadObject",
        Method::GET if has("partNumber") => "GetObjectPart",
        Method::GET => "GetObject",
        Method::PUT if has("uploadId") => "UploadPart",
        Method::PUT if copy => "CopyObject",
        Method::PUT => "PutObject",
        Method::POST if has("uploads") => "CreateMultipartUpload",
        Method::POST if has("uploadId") => "CompleteMultipartUpload",
        Method::DELETE if has("uploadId") => "AbortMultipartUpload",
        Method::DELETE => "DeleteObject",
        _ => "other",
    }
}

pub(super) async fn serve(
    s3: S3,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let running = Arc::clone(&s3.0.running);
    let call = Call::of(&request);
    s3.0.log.count(call.op);
    if call.op == "GetObject" {
        let hook = s3.0.at_get.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook(&s3, &call);
        }
    }
    let faults = s3.0.faults.at(&call);
    for fault in &faults {
        match fault {
            What::Delay(by) => tokio::time::sleep(*by).await,
            What::Hold(gate) => gate.pass().await,
            What::Status(status, code) => {
                // Read to its end first: a client that still writes would see a cut connection, not the answer.
                let _body = request.into_body().collect().await;
                return Ok(refusal(*status, code));
            }
            What::StatusUnread(status, code) => {
                return Ok(last_refusal(*status, code));
            }
            What::IgnoreConditions => {
                for name in CONDITIONS {
                    request.headers_mut().remove(name);
                }
            }
            What::IgnoreRange => {
                request.headers_mut().remove(RANGE);
            }
            _ => {}
        }
    }
    if call.op == "Preflight" {
        return Ok(preflight(&s3, request.headers()));
    }
    if s3.0.world.lock().keys.is_none() && !streams(request.headers()) {
        request.headers_mut().remove(AUTHORIZATION);
    }
    if let Some(gate) = faults.iter().find_map(What::landing) {
        match land(&s3, request, gate.clone()).await {}
    }
    let answer = carry_out(&s3, request, &faults).await?;
    for fault in &faults {
        match fault {
            What::HoldAnswer(gate) => gate.pass().await,
            What::Lose => return Err(io::Error::other("a fault loses this answer")),
            What::StatusAfter(status, code) => return Ok(refusal(*status, code)),
            _ => {}
        }
    }
    drop(running);
    let answer = match answer {
        Ok(answer) if answer.status() == StatusCode::NOT_MODIFIED => {
            let (mut parts, _) = answer.into_parts();
            parts.headers.remove(CONTENT_TYPE);
            return Ok(Response::from_parts(
                parts,
                Full::default().map_err(Into::into).boxed_unsync(),
            ));
        }
        Ok(answer) => answer,
        Err(error) => return Ok(refusal(500, &format!("{error:?}"))),
    };
    Ok(spoil(&s3, &call, answer, faults))
}

/// Does what is asked for, now or late.
async fn carry_out(
    s3: &S3,
    request: Request<Incoming>,
    faults: &[What],
) -> io::Result<Result<Response<s3s::Body>, HttpError>> {
    let late = faults.iter().find_map(|fault| match fault {
        What::Late(by) => Some(*by),
        _ => None,
    });
    Ok(match late {
        Some(by) => carry_out_late(s3, request, by).await?,
        None if s3.0.loose.load(Ordering::Relaxed) => {
            s3.0.service.call(loose::plainly(request).await).await
        }
        None => s3.0.service.call(request.map(s3s::Body::from)).await,
    })
}

/// In a task of its own, which a client that leaves does not end.
async fn carry_out_late(
    s3: &S3,
    request: Request<Incoming>,
    by: Duration,
) -> io::Result<Result<Response<s3s::Body>, HttpError>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let request = Request::from_parts(parts, s3s::Body::from(body));
    let s3 = s3.clone();
    let running = Arc::clone(&s3.0.running);
    let task = tokio::spawn(async move {
        tokio::time::sleep(by).await;
        let answer = s3.0.service.call(request).await;
        drop(running);
        answer
    });
    task.await.map_err(io::Error::other)
}

/// Takes the request, and carries it out when the gate opens; the connection waits for ever.
async fn land(s3: &S3, request: Request<Incoming>, gate: Gate) -> Infallible {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("the whole request").to_bytes();
    let s3 = s3.clone();
    tokio::spawn(async move {
        gate.pass().await;
        let request = Request::from_parts(head, s3s::Body::from(body));
        drop(s3.0.service.call(request).await);
    });
    std::future::pending().await
}

/// True for bodies that are signed piece by piece: s3s takes them apart only when it checks them.
fn streams(headers: &HeaderMap) -> bool {
    headers
        .get("x-amz-content-sha256")
        .is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"))
}

/// A refusal after which the connection closes.
fn last_refusal(status: u16, code: &str) -> Response<Body> {
    let mut answer = refusal(status, code);
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a test wants it</Message></Error>"
    );
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/xml")
        .body(Full::from(xml).map_err(Into::into).boxed_unsync())
        .expect("a status that exists")
}

/// As S3 answers what a browser asks before a request.
fn preflight(s3: &S3, headers: &HeaderMap) -> Response<Body> {
    let page = *s3.0.page.lock().unwrap();
    let asks = headers.get("origin").and_then(|it| it.to_str().ok());
    let reads = headers.get("access-control-request-method");
    let reads = reads.is_some_and(|method| method == "GET" || method == "HEAD");
    let Some(page) = page.filter(|page| asks == Some(page) && reads) else {
        return refusal(403, "AccessForbidden");
    };
    Response::builder()
        .header("access-control-allow-origin", page)
        .header("access-control-allow-methods", "GET, HEAD")
        .header("access-control-expose-headers", "ETag")
        .header("vary", "Origin")
        .body(Full::default().map_err(Into::into).boxed_unsync())
        .expect("headers that exist")
}

/// Counts what leaves, and damages it as the faults say.
fn spoil(s3: &S3, call: &Call, answer: Response<s3s::Body>, faults: Vec<What>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let mut body: Pieces = Box::pin(BodyStream::new(body).filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(Fail::from(error.to_string()))),
        }
    }));
    if call.op == "GetObject"
        && parts.status.is_success()
        && let Some(range) = answered(&parts.headers)
    {
        let sent = s3.0.log.read(&call.bucket, &call.key, range);
        body = counted(body, sent);
    }
    for fault in faults {
        match fault {
            What::Header(name, Some(value)) => {
                let value = HeaderValue::from_str(&value).expect("a header's value");
                parts.headers.insert(name, value);
            }
            What::Header(name, None) => {
                parts.headers.remove(name);
            }
            What::Blanks(gate) => {
                parts.headers.remove(CONTENT_LENGTH);
                body = Box::pin(blanks(gate).chain(body));
            }
            What::HoldBody(after, gate) => body = held(body, after, gate),
            What::Trickle(after, every) => body = trickling(body, after, 1, every),
            What::Pace(a_second) => {
                let piece = usize::try_from(a_second / 10).unwrap_or(usize::MAX);
                body = trickling(body, 0, piece, Duration::from_millis(100));
            }
            What::CutBody(after) => body = cut(body, after, true),
            What::Unsized(more) => {
                let length = answered(&parts.headers).map_or(0, |r| r.end - r.start);
                parts.headers.remove(CONTENT_LENGTH);
                body = cut(body, length.saturating_add_signed(more), false);
                if let Ok(more) = usize::try_from(more) {
                    let surplus = Bytes::from(vec![b'+'; more]);
                    body = Box::pin(body.chain(stream::iter((more > 0).then_some(Ok(surplus)))));
                }
            }
            _ => {}
        }
    }
    let frames = body.map(|piece| piece.map(Frame::data));
    Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}

type Pieces = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Fail>> + Send>>;

/// The bytes of the object that an answer holds.
fn answered(headers: &HeaderMap) -> Option<Range<u64>> {
    if let Some(range) = headers.get(CONTENT_RANGE) {
        let (range, _) = range
            .to_str()
            .ok()?
            .strip_prefix("bytes ")?
            .split_once('/')?;
        let (first, last) = range.split_once('-')?;
        return Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1);
    }
    Some(0..headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?)
}

fn counted(body: Pieces, sent: Arc<AtomicU64>) -> Pieces {
    Box::pin(body.inspect(move |piece| {
        if let Ok(piece) = piece {
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }))
}

/// Cuts the pieces at `at`: what comes before, and what comes after if anything does.
fn split(body: Pieces, at: u64) -> impl Stream<Item = (bool, Result<Bytes, Fail>)> {
    body.scan(at, |left, piece| {
        let mut out = Vec::new();
        match piece {
            Ok(mut piece) => {
                let fits = piece
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= fits as u64;
                let before = piece.split_to(fits);
                out.extend((!before.is_empty()).then_some((true, Ok(before))));
                out.extend((!piece.is_empty()).then_some((false, Ok(piece))));
            }
            Err(error) => out.push((*left > 0, Err(error))),
        }
        futures::future::ready(Some(stream::iter(out)))
    })
    .flatten()
}

fn held(body: Pieces, after: u64, gate: Gate) -> Pieces {
    Box::pin(split(body, after).then(move |(before, piece)| {
        let gate = gate.clone();
        async move {
            if !before {
                gate.pass().await;
            }
            piece
        }
    }))
}

fn trickling(body: Pieces, after: u64, size: usize, every: Duration) -> Pieces {
    let pieces = split(body, after).flat_map(move |(before, piece)| {
        let size = if before { usize::MAX } else { size };
        let pieces: Vec<_> = match piece {
            Ok(piece) => piece
                .chunks(size)
                .map(|one| (before, Ok(piece.slice_ref(one))))
                .collect(),
            Err(error) => vec![(before, Err(error))],
        };
        stream::iter(pieces)
    });
    Box::pin(pieces.then(move |(before, piece)| async move {
        if !before {
            tokio::time::sleep(every).await;
        }
        piece
    }))
}

/// Blanks until the gate is open.
fn blanks(gate: Gate) -> impl Stream<Item = Result<Bytes, Fail>> + Send {
    let tick = tokio::time::interval(Duration::from_millis(20));
    stream::unfold(tick, |mut tick| async {
        tick.tick().await;
        Some((Ok(Bytes::from_static(b" ")), tick))
    })
    .take_until(async move { gate.pass().await })
}

/// Ends after `after` bytes; `broken` cuts the connection there.
fn cut(body: Pieces, after: u64, broken: bool) -> Pieces {
    let kept = split(body, after).take_while(|(before, _)| futures::future::ready(*before));
    let end = stream::iter(broken.then_some(())).then(|()| async {
        // What came before leaves first; a cut at once would take the head with it.
        tokio::task::yield_now().await;
        Err(Fail::from("cut by a fault"))
    });
    Box::pin(kept.map(|(_, piece)| piece).chain(end))
}
