//! The routes under `/_falcon/`, for other nodes of this cache. With a peer token, only its holders are served; a cache
//! that has an access file but no peer token has no such routes. A bucket that the cache does not serve is not served
//! to peers either.

mod refusal;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

use crate::invalidate::Invalidator;
use crate::members::Members;
use crate::metrics::READ;
use crate::object::{ByteRange, ETag, ObjectId, extent_of};
use crate::peer::{
    Heartbeat, HeartbeatAck, InvalidateAck, InvalidateRequest, READ_RESPONSE, ReadRequest,
    ReadResponse, TOKEN, Token,
};
use crate::proxy::{self, Freshness, Proxy, ReadOptions, Requester};
use crate::web::body_buffer::buffer_body;
use crate::web::middleware::Labels;
use crate::web::rights::ServedBuckets;

/// Room for a thousand keys of 1,024 bytes, each of which JSON may have to escape.
const INVALIDATE_BYTES: usize = 8 << 20;

/// What the routes of peers work with.
#[derive(Clone)]
pub struct PeerApi {
    /// Reads, and drops what is invalidated.
    pub proxy: Proxy,
    /// Which nodes are known.
    pub members: Arc<Members>,
    /// Takes part in invalidations.
    pub invalidator: Invalidator,
    /// The token that peers must show.
    pub token: Token,
    /// Which buckets are served.
    pub buckets: ServedBuckets,
}

/// The size of a message: a thousand members fit.
const MESSAGE_BYTES: usize = 1 << 20;

/// What metrics call the routes.
const OPS: [(&str, &str); 5] = [
    ("heartbeat", "heartbeat"),
    ("invalidate", "invalidate"),
    ("read", READ),
    ("warm", "warm"),
    ("write-through", "write-through"),
];

impl PeerApi {
    /// The object of that name, if its bucket is served.
    fn object(&self, bucket: &str, key: &str) -> Option<ObjectId> {
        let served = self.buckets.contains(bucket);
        served.then(|| ObjectId::new(bucket, key).ok()).flatten()
    }

    /// The request, if it names a version and bytes of it.
    fn pinned(&self, request: ReadRequest) -> Option<(ObjectId, ETag, u64, Range<u64>)> {
        let object = self.object(&request.bucket, &request.key)?;
        let (etag, size) = request.version?;
        let bytes = request.bytes.filter(|bytes| bytes.start <= bytes.end)?;
        Some((object, etag, size, bytes))
    }
}

/// The routes; each of them checks the token first. Where callers have rights (`guarded`) and nodes have no token,
/// peers can't be told from strangers: then there are no routes, and `config` refuses to start a ring like that.
pub fn router(peers: PeerApi, guarded: bool) -> Router {
    if guarded && peers.token.is_none() {
        return Router::new();
    }
    let block_bytes = usize::try_from(peers.proxy.blocks().size).unwrap_or(usize::MAX);
    Router::new()
        .route("/_falcon/heartbeat", post(heartbeat))
        .route(
            "/_falcon/invalidate",
            post(invalidate).layer(DefaultBodyLimit::max(INVALIDATE_BYTES)),
        )
        .route("/_falcon/read", post(read))
        .route("/_falcon/warm", post(warm))
        .route(
            "/_falcon/write-through",
            post(write_through).layer(DefaultBodyLimit::max(block_bytes)),
        )
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES))
        .route_layer(from_fn_with_state(peers.proxy.clone(), hold_body))
        .route_layer(from_fn_with_state(peers.token.clone(), refuse_strangers))
        .with_state(peers)
}

/// What metrics call a request of this path, if it is one of these routes.
pub(super) fn labels(path: &str) -> Option<Labels> {
    let word = path.strip_prefix("/_falcon/")?;
    let (_, op) = OPS.iter().find(|(route, _)| *route == word)?;
    Some(Labels { api: "peer", op })
}

/// A message of another node, as JSON.
struct Message<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Message<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(message)) => Ok(Self(message)),
            Err(rejection) => Err(refusal::bad_request(&rejection.body_text())),
        }
    }
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
    refusal::unauthorized()
}

/// Reads the body as a whole, charged to the budget as it comes.
async fn hold_body(State(proxy): State<Proxy>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match buffer_body(proxy.store(), body, INVALIDATE_BYTES as u64).await {
        Ok((bytes, _charge)) => {
            let request = Request::from_parts(head, Body::from(bytes));
            next.run(request).await
        }
        Err(failure) => refusal::of_body(&failure),
    }
}

async fn heartbeat(
    State(peers): State<PeerApi>,
    Message(heartbeat): Message<Heartbeat>,
) -> Json<HeartbeatAck> {
    Json(peers.members.record_heartbeat(&heartbeat))
}

async fn invalidate(
    State(peers): State<PeerApi>,
    Message(request): Message<InvalidateRequest>,
) -> Json<InvalidateAck> {
    Json(peers.invalidator.apply_request(&request))
}

async fn warm(State(peers): State<PeerApi>, Message(request): Message<ReadRequest>) -> Response {
    let Some((object, etag, size, bytes)) = peers.pinned(request) else {
        return refusal::incomplete();
    };
    let extent = extent_of(peers.proxy.blocks().index(bytes.start));
    match peers.proxy.warm_extent(&object, etag, size, extent).await {
        Ok(bytes) => Json(bytes).into_response(),
        Err(error) => refusal::from_error(&error),
    }
}

async fn write_through(
    State(peers): State<PeerApi>,
    RawQuery(query): RawQuery,
    block: Bytes,
) -> Response {
    let query = query.unwrap_or_default();
    let json = percent_decode_str(&query).collect::<Vec<u8>>();
    let Some((object, etag, size, bytes)) =
        (serde_json::from_slice(&json).ok()).and_then(|request| peers.pinned(request))
    else {
        return refusal::incomplete();
    };
    let index = peers.proxy.blocks().index(bytes.start);
    Json(
        peers
            .proxy
            .store_written_block(&object, etag, size, index, &block),
    )
    .into_response()
}

async fn read(State(peers): State<PeerApi>, Message(request): Message<ReadRequest>) -> Response {
    let answer = if request.version.is_some() {
        let Some((object, etag, size, bytes)) = peers.pinned(request) else {
            return refusal::incomplete();
        };
        let bytes = bytes.start.min(size)..bytes.end.min(size);
        let read = peers
            .proxy
            .read_version(&object, etag, size, bytes.clone())
            .await;
        read.map(|(body, source)| {
            (
                ReadResponse {
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
        let Some(object) = peers.object(&request.bucket, &request.key) else {
            return refusal::incomplete();
        };
        current(&peers.proxy, object, request).await
    };
    match answer {
        Ok((read_response, body)) => stream(&read_response, body),
        Err(error) => refusal::from_error(&error),
    }
}

/// The current version, with the wanted bytes of it unless the peer holds that version.
async fn current(
    proxy: &Proxy,
    object: ObjectId,
    request: ReadRequest,
) -> Result<(ReadResponse, proxy::ReadBody), proxy::Error> {
    let freshness = match (request.gone, request.revalidate) {
        (Some(gone), _) => Freshness::Not(gone),
        (None, true) => Freshness::Revalidate,
        (None, false) => Freshness::Stored,
    };
    let head_alone = ReadOptions {
        object,
        range: None,
        freshness,
        by: Requester::Peer,
        body: false,
    };
    let read = match (request.bytes, request.held) {
        (Some(bytes), None) if !bytes.is_empty() => {
            let range = Some(ByteRange::FromTo(bytes.start, bytes.end - 1));
            proxy
                .read(ReadOptions {
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
                .read(ReadOptions {
                    freshness: Freshness::Stored,
                    ..head_alone
                })
                .await?
        }
        read => read?,
    };
    let read_response = ReadResponse {
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
    Ok((read_response, answer.body))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn stream(read_response: &ReadResponse, body: proxy::ReadBody) -> Response {
    let json = serde_json::to_vec(read_response).expect("these types have string keys only");
    let Ok(header) = HeaderValue::from_bytes(&json) else {
        return refusal::incomplete();
    };
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(READ_RESPONSE, header);
    response.headers_mut().insert(
        CONTENT_LENGTH,
        HeaderValue::from(read_response.bytes.end - read_response.bytes.start),
    );
    response
}
