//! Answers of the fast path: an object in memory, asked for with the usual headers. Everything else goes through the
//! routes, which would give the same answer; a test compares them.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, header};
use httpdate::HttpDate;
use tokio::time::Instant;

use super::dialect::Dialect;
use super::middleware::Middleware;
use super::response_headers::{self, HeaderSink, X_AMZ_REQUEST_ID, X_FALCON_NODE};
use super::{access_log, range, request_id};
use crate::metrics::ResponseCounters;
use crate::object::{ByteRange, ETag, FieldLines, ObjectId, Source};
use crate::proxy::{Freshness, Proxy, ReadOptions, ReadResult, Requester};
use crate::server::{FastPath, FastResponse, PlainRequest, SentObserver};

/// The headers that the fast path knows. Each of them leaves the answer as it is, or is looked at here; any other may
/// change it.
const USUAL: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "connection",
    "host",
    "range",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-amz-checksum-mode",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// The usual length of an answer's head, in bytes.
const HEAD_BYTES: usize = 512;

/// The object that a request names, if its caller may read it.
type Locate = Box<dyn Fn(&PlainRequest<'_>) -> Option<ObjectId> + Send + Sync>;

/// The fast path of one API.
pub(crate) struct Hits {
    proxy: Proxy,
    middleware: Middleware,
    locate: Locate,
    counters: OnceLock<Arc<ResponseCounters>>,
    date: Date,
}

impl Hits {
    /// The fast path of the API that is served through `middleware`; `locate` finds the object that a request names.
    pub(crate) fn new(
        proxy: Proxy,
        middleware: Middleware,
        locate: impl Fn(&PlainRequest<'_>) -> Option<ObjectId> + Send + Sync + 'static,
    ) -> Self {
        Self {
            proxy,
            middleware,
            locate: Box::new(locate),
            counters: OnceLock::new(),
            date: Date::default(),
        }
    }

    fn head(&self, answer: &ReadResult, partial: bool, request: &PlainRequest<'_>) -> Vec<u8> {
        let status = if partial {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        let mut head = ResponseHead(Vec::with_capacity(HEAD_BYTES));
        head.0.extend_from_slice(b"HTTP/1.1 ");
        head.0.extend_from_slice(status.as_bytes());
        head.0.extend_from_slice(b"\r\n");
        response_headers::describe(&answer.head, &mut head);
        response_headers::provenance(answer, Source::Memory.as_str(), &mut head);
        response_headers::extent(&answer.range, answer.head.size, partial, &mut head);
        let checksums = request.header("x-amz-checksum-mode").is_some();
        if self.middleware.dialect == Dialect::S3 && checksums && !partial {
            head.lines(&answer.head.checksums);
        }
        let mut id = Vec::with_capacity(HEAD_BYTES / 4);
        request_id::write(request.header("x-request-id"), &mut id);
        head.line(&request_id::X_REQUEST_ID, &id);
        if self.middleware.dialect == Dialect::S3 {
            head.line(&X_AMZ_REQUEST_ID, &id);
        }
        if !self.middleware.node.is_empty() {
            head.line(&X_FALCON_NODE, self.middleware.node.as_bytes());
        }
        self.date.write(&mut head);
        head.0.extend_from_slice(b"\r\n");
        head.0
    }
}

impl FastPath for Hits {
    fn answer(&self, request: &PlainRequest<'_>, now: Instant) -> Option<FastResponse> {
        // With the access log on, each request goes through the middleware, which writes it.
        if access_log::is_on() || !request.headers.iter().all(|header| is_usual(header.name)) {
            return None;
        }
        let range = asked_range(request).ok()?;
        let object = (self.locate)(request)?;
        let opts = ReadOptions {
            object,
            range,
            freshness: Freshness::Stored,
            by: Requester::Client,
            body: !request.head_only,
        };
        let answer = self.proxy.hit(&opts, now)?.ok()?;
        let partial = response_headers::is_partial(&answer, range.is_some());
        let head = self.head(&answer, partial, request);
        let counters = self.counters.get_or_init(|| {
            let Middleware { metrics, api, .. } = &self.middleware;
            Arc::new(metrics.response_counters(api, Source::Memory.as_str()))
        });
        let length = answer.range.end - answer.range.start;
        let observer = HitMetrics {
            counters: Arc::clone(counters),
            partial,
            started: now,
            first: None,
            head: head.len() as u64,
            body: if request.head_only { 0 } else { length },
            sent: 0,
        };
        let pieces = answer.body.into_memory().unwrap_or_default();
        Some(FastResponse::new(head.into(), pieces, Box::new(observer)))
    }
}

/// A range that is left to the routes.
struct Unusual;

/// The range that is asked for; `None` is the whole object.
fn asked_range(request: &PlainRequest<'_>) -> Result<Option<ByteRange>, Unusual> {
    let mut said = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("range"));
    let Some(only) = said.next() else {
        return Ok(None);
    };
    if said.next().is_some() || request.head_only {
        return Err(Unusual);
    }
    let text = std::str::from_utf8(only.value).map_err(|_| Unusual)?;
    range::parse(text).map(Some).ok_or(Unusual)
}

fn is_usual(name: &str) -> bool {
    USUAL.iter().any(|usual| usual.eq_ignore_ascii_case(name))
}

/// A head as it is sent.
struct ResponseHead(Vec<u8>);

impl ResponseHead {
    fn line(&mut self, name: &HeaderName, value: &[u8]) {
        self.0.extend_from_slice(name.as_str().as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }
}

impl HeaderSink for ResponseHead {
    fn fix(&mut self, name: &HeaderName, word: &'static str) {
        self.line(name, word.as_bytes());
    }

    fn number(&mut self, name: &HeaderName, number: u64) {
        self.line(name, itoa::Buffer::new().format(number).as_bytes());
    }

    fn make(&mut self, name: &HeaderName, text: Arguments<'_>) {
        // Writing to a Vec does not fail.
        let _ = write!(self.0, "{}: {text}\r\n", name.as_str());
    }

    fn tag(&mut self, etag: &ETag) {
        self.line(&header::ETAG, etag.as_str().as_bytes());
    }

    fn lines(&mut self, lines: &FieldLines) {
        self.0.extend_from_slice(lines.as_bytes());
    }
}

/// The `Date` header, formatted once a second.
#[derive(Default)]
struct Date(Mutex<(u64, String)>);

impl Date {
    fn write(&self, head: &mut ResponseHead) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != second || made.1.is_empty() {
            *made = (second, HttpDate::from(now).to_string());
        }
        head.line(&header::DATE, made.1.as_bytes());
    }
}

/// The metrics of one answer, settled when its last byte is sent or its connection ends.
struct HitMetrics {
    counters: Arc<ResponseCounters>,
    partial: bool,
    started: Instant,
    /// How long the first bytes took, and how many they were.
    first: Option<(Duration, u64)>,
    head: u64,
    body: u64,
    sent: u64,
}

impl SentObserver for HitMetrics {
    fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        if self.first.is_none() {
            let took = self.started.elapsed();
            self.first = Some((took, self.sent));
            self.counters.begun(self.partial, took);
        }
    }
}

impl Drop for HitMetrics {
    fn drop(&mut self) {
        // Most answers are sent in one go: then one look at the clock is enough.
        let took = match self.first {
            Some((took, bytes)) if bytes == self.sent => took,
            _ => self.started.elapsed(),
        };
        if self.first.is_none() {
            self.counters.begun(self.partial, took);
        }
        let body = self.sent.saturating_sub(self.head);
        let whole = self.sent >= self.head && body >= self.body;
        self.counters.ended(body, took, whole);
    }
}
