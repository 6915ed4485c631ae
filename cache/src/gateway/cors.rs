//! CORS: which pages may read is a rule of the bucket at S3. S3 is asked for it the way a browser asks; its rule for
//! reads is remembered for a moment and added to cached answers. It is not part of an object's head.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use moka::sync::Cache;

use super::send::client_headers;
use crate::origin::{self, Forward, ForwardedBody, Origin, Payload};
use crate::web::failure::Failure;

/// How long a rule is remembered, and a change may go unnoticed.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The most rules that are remembered, of a few hundred bytes each.
const MOST_REMEMBERED: u64 = 1_000;

/// The most bytes of a page's origin: a host name has at most 253 letters.
const ORIGIN_BYTES: usize = 300;

/// The headers of a preflight.
const PREFLIGHT: [HeaderName; 3] = [
    header::ORIGIN,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::ACCESS_CONTROL_REQUEST_HEADERS,
];

const RULE: &str = "access-control-";

/// The CORS rules of buckets: asked of S3, and remembered for reads.
pub(super) struct CorsRules {
    origin: Origin,
    /// S3's rule for reads, by bucket, page and method.
    known: Cache<(String, HeaderValue, Method), HeaderMap>,
}

impl CorsRules {
    /// Nothing is remembered yet.
    pub(super) fn new(origin: Origin) -> Self {
        let cache = Cache::builder().max_capacity(MOST_REMEMBERED);
        Self {
            origin,
            known: cache.time_to_live(REMEMBERED).build(),
        }
    }

    /// Answers a preflight with S3's answer.
    pub(super) async fn preflight(
        &self,
        bucket: String,
        key: Option<String>,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        for name in [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD] {
            if !headers.contains_key(&name) {
                return Err(Failure::bad(
                    "BadRequest",
                    format_args!("Insufficient information. {name} request header needed."),
                ));
            }
        }
        let mut asked = HeaderMap::new();
        for name in PREFLIGHT {
            if let Some(value) = headers.get(&name) {
                asked.insert(name, value.clone());
            }
        }
        let answer = self.ask(bucket, key, asked).await?;
        let (told, body) = answer.into_parts();
        let mut response = Response::new(Body::from_stream(body));
        *response.status_mut() = told.status;
        *response.headers_mut() = client_headers(told.headers);
        Ok(response)
    }

    /// The headers that let a page at `origin` see what it reads; none when S3 has no rule for it, or can't be asked.
    pub(super) async fn rule(
        &self,
        bucket: &str,
        origin: &HeaderValue,
        method: &Method,
    ) -> HeaderMap {
        let question = (bucket.to_owned(), origin.clone(), method.clone());
        if let Some(known) = self.known.get(&question) {
            return known;
        }
        let named = HeaderValue::try_from(method.as_str());
        let Some(named) = named.ok().filter(|_| origin.len() <= ORIGIN_BYTES) else {
            return HeaderMap::new();
        };
        let mut asked = HeaderMap::new();
        asked.insert(header::ORIGIN, origin.clone());
        asked.insert(header::ACCESS_CONTROL_REQUEST_METHOD, named);
        let Ok(answer) = self.ask(bucket.to_owned(), None, asked).await else {
            return HeaderMap::new();
        };
        let rule = match answer.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => rule_of(answer.headers()),
            status if status.is_server_error() => return HeaderMap::new(),
            _ => HeaderMap::new(),
        };
        self.known.insert(question, rule.clone());
        rule
    }

    async fn ask(
        &self,
        bucket: String,
        key: Option<String>,
        headers: HeaderMap,
    ) -> Result<http::Response<ForwardedBody>, origin::Error> {
        let forward = Forward {
            op: "Preflight",
            method: Method::OPTIONS,
            bucket,
            key,
            query: String::new(),
            headers,
            payload: Payload::Held(Bytes::new()),
        };
        self.origin.forward(forward, self.origin.read_wait()).await
    }
}

fn rule_of(told: &HeaderMap) -> HeaderMap {
    if !told.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        return HeaderMap::new();
    }
    let of_rule = |name: &HeaderName| name.as_str().starts_with(RULE) || *name == header::VARY;
    let rule = told.iter().filter(|(name, _)| of_rule(name));
    rule.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
