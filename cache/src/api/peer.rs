//! The routes under `/_falcon/`: what other nodes of this cache ask. Strangers are refused when the cache has a token; a cache
//! that has rights and no token has no such routes. A bucket that the cache does not serve is not served to peers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use super::error::Failure;
use super::held::held;
use crate::invalidate::Invalidator;
use crate::members::Members;
use crate::object::{ByteRange, ETag, ObjectId, run_of};
use crate::peer::{
    Ack, FOUND, Found, Hello, Order, Refusal, RefusalKind, TOKEN, Token, Want, Welcome,
};
use crate::proxy::{self, Ask, Freshness, Hop, Proxy};

/// An order that names a thousand keys of 1,024 bytes, each of which JSON may have to escape.
const ORDER_BYTES: usize = 8 << 20;

/// What the routes of peers work with.
#[derive(Clone)]
pub struct Peering {
    /// Reads, and forgets.
    pub proxy: Proxy,
    /// Who is known.
    pub members: Arc<Members>,
    /// Takes part in invalidations.
    pub invalidator: Invalidator,
    /// What peers show.
    pub token: Token,
    /// Which buckets are served.
    pub settings: Arc<super::Settings>,
}

/// What comes with a question to a peer, or its greeting: a thousand members fit.
const QUESTION_BYTES: usize = 1 << 20;

impl Peering {
    /// The object of that name, if its bucket is served.
    fn object(&self, bucket: &str, key: &str) -> Option<ObjectId> {
        let served = self.settings.allows(bucket);
        served.then(|| ObjectId::new(bucket, key).ok()).flatten()
    }

    /// The question, if it names a version and bytes of it.
    fn pinned(&self, want: Want) -> Option<(ObjectId, ETag, u64, Range<u64>)> {
        let object = self.object(&want.bucket, &want.key)?;
        let (etag, size) = want.version?;
        let bytes = want.bytes.filter(|bytes| bytes.start <= bytes.end)?;
        Some((object, etag, size, bytes))
    }
}

/// The routes; every one of them asks for the token first. Where callers have rights (`guarded`) and nodes have no token, no
/// peer can be told from a stranger: then there are none, and `config` lets no ring start so.
pub fn router(peering: Peering, guarded: bool) -> Router {
    if guarded && peering.token.is_none() {
        return Router::new();
    }
    let block_bytes = usize::try_from(peering.proxy.blocks().size).unwrap_or(usize::MAX);
    Router::new()
        .route("/_falcon/hello", post(hello))
        .route(
            "/_falcon/invalidate",
            post(invalidate).layer(DefaultBodyLimit::max(ORDER_BYTES)),
        )
        .route("/_falcon/read", post(read))
        .route("/_falcon/warm", post(warm))
        .route(
            "/_falcon/keep",
            post(keep).layer(DefaultBodyLimit::max(block_bytes)),
        )
        .layer(DefaultBodyLimit::max(QUESTION_BYTES))
        .route_layer(from_fn_with_state(peering.proxy.clone(), hold_body))
        .route_layer(from_fn_with_state(peering.token.clone(), refuse_strangers))
        .with_state(peering)
}

async fn refuse_strangers(
    State(token): State<Token>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let shown = headers.get(TOKEN).map(HeaderValue::as_bytes);
    if token
        .bytes()
        .is_none_or(|token| shown.is_some_and(|shown| shown.ct_eq(&token).into()))
    {
        return next.run(request).await;
    }
    let message = "this route is for nodes of the same cache: the peer token is missing or wrong";
    refusal(
        RefusalKind::Busy,
        StatusCode::FORBIDDEN,
        "PeerTokenMismatch",
        message,
    )
}

/// A body that is read as a whole is charged as it comes.
async fn hold_body(State(proxy): State<Proxy>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match held(proxy.store(), body, ORDER_BYTES as u64).await {
        Ok((bytes, _charge)) => {
            let request = Request::from_parts(head, Body::from(bytes));
            next.run(request).await
        }
        Err(failure) => refusal(
            RefusalKind::Busy,
            failure.status(),
            failure.code(),
            failure.message(),
        ),
    }
}

async fn hello(State(peering): State<Peering>, Json(hello): Json<Hello>) -> Json<Welcome> {
    Json(peering.members.heard(&hello))
}

async fn invalidate(State(peering): State<Peering>, Json(order): Json<Order>) -> Json<Ack> {
    Json(peering.invalidator.ordered(&order))
}

async fn warm(State(peering): State<Peering>, Json(want): Json<Want>) -> Response {
    let Some((object, etag, size, bytes)) = peering.pinned(want) else {
        return incomplete();
    };
    let run = run_of(peering.proxy.blocks().index(bytes.start));
    match peering.proxy.warm_run(&object, etag, size, run).await {
        Ok(bytes) => Json(bytes).into_response(),
        Err(error) => refused(&error),
    }
}

async fn keep(State(peering): State<Peering>, RawQuery(query): RawQuery, block: Bytes) -> Response {
    let query = query.unwrap_or_default();
    let json = percent_decode_str(&query).collect::<Vec<u8>>();
    let Some((object, etag, size, bytes)) =
        (serde_json::from_slice(&json).ok()).and_then(|want| peering.pinned(want))
    else {
        return incomplete();
    };
    let index = peering.proxy.blocks().index(bytes.start);
    Json(peering.proxy.keep_block(&object, etag, size, index, &block)).into_response()
}

async fn read(State(peering): State<Peering>, Json(want): Json<Want>) -> Response {
    let answer = if want.version.is_some() {
        let Some((object, etag, size, bytes)) = peering.pinned(want) else {
            return incomplete();
        };
        let bytes = bytes.start.min(size)..bytes.end.min(size);
        let read = peering
            .proxy
            .read_version(&object, etag, size, bytes.clone())
            .await;
        read.map(|(body, source)| {
            (
                Found {
                    head: None,
                    age_ms: 0,
                    fresh_ms: None,
                    source,
                    bytes,
                },
                body,
            )
        })
    } else {
        let Some(object) = peering.object(&want.bucket, &want.key) else {
            return incomplete();
        };
        current(&peering.proxy, object, want).await
    };
    match answer {
        Ok((found, body)) => stream(&found, body),
        Err(error) => refused(&error),
    }
}

/// The current version, with the asked bytes of it unless the asker holds that version.
async fn current(
    proxy: &Proxy,
    object: ObjectId,
    want: Want,
) -> Result<(Found, proxy::Body), proxy::Error> {
    let freshness = match (want.gone, want.revalidate) {
        (Some(gone), _) => Freshness::Not(gone),
        (None, true) => Freshness::Revalidate,
        (None, false) => Freshness::Stored,
    };
    let head_alone = Ask {
        object,
        range: None,
        freshness,
        hop: Hop::Last,
        body: false,
    };
    let read = match (want.bytes, want.held) {
        (Some(bytes), None) if !bytes.is_empty() => {
            let range = Some(ByteRange::FromTo(bytes.start, bytes.end - 1));
            proxy
                .read(Ask {
                    range,
                    body: true,
                    ..head_alone.clone()
                })
                .await
        }
        _ => proxy.read(head_alone.clone()).await,
    };
    let answer = match read {
        Err(proxy::Error::Unsatisfiable { .. }) => {
            proxy
                .read(Ask {
                    freshness: Freshness::Stored,
                    ..head_alone
                })
                .await?
        }
        read => read?,
    };
    let found = Found {
        head: Some((*answer.head).clone()),
        age_ms: millis(answer.age),
        fresh_ms: answer.fresh.map(millis),
        source: answer.source,
        bytes: if answer.body.is_empty() {
            0..0
        } else {
            answer.range
        },
    };
    Ok((found, answer.body))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn stream(found: &Found, body: proxy::Body) -> Response {
    let json = serde_json::to_vec(found).expect("these types have string keys only");
    let Ok(header) = HeaderValue::from_bytes(&json) else {
        return incomplete();
    };
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(FOUND, header);
    response.headers_mut().insert(
        CONTENT_LENGTH,
        HeaderValue::from(found.bytes.end - found.bytes.start),
    );
    response
}

fn refused(error: &proxy::Error) -> Response {
    let kind = match error {
        proxy::Error::Absent { .. } => RefusalKind::Absent,
        proxy::Error::VersionChanged | proxy::Error::Unsatisfiable { .. } => RefusalKind::Version,
        proxy::Error::Origin(_) | proxy::Error::Relayed { .. } => RefusalKind::Origin,
        proxy::Error::NoMemory | proxy::Error::Timeout { .. } => RefusalKind::Busy,
    };
    let failure = Failure::from(error);
    answered(
        failure.status(),
        Refusal {
            kind,
            status: failure.status().as_u16(),
            code: failure.code().to_owned(),
            message: failure.message().to_owned(),
            said: error.said().map(|said| said.as_ref().clone()),
        },
    )
}

fn incomplete() -> Response {
    let message =
        "this must name an object of a bucket that this cache serves, as nodes of this version do";
    refusal(
        RefusalKind::Busy,
        StatusCode::BAD_REQUEST,
        "InvalidRequest",
        message,
    )
}

fn refusal(kind: RefusalKind, status: StatusCode, code: &str, message: &str) -> Response {
    let refusal = Refusal {
        kind,
        status: status.as_u16(),
        code: code.to_owned(),
        message: message.to_owned(),
        said: None,
    };
    answered(status, refusal)
}

fn answered(status: StatusCode, refusal: Refusal) -> Response {
    (status, Json(refusal)).into_response()
}
