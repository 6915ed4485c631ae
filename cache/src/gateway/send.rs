//! Forwarding to S3, and what follows a write: every node drops the object, then the client gets the answer.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::deletion::Deletion;
use super::headers;
use super::operation::Operation;
use super::request::GatewayRequest;
use super::write_barrier::{self, Barrier};
use super::{digest, payload};
use crate::access::{Target, Verb};
use crate::object::{BypassReason, ObjectId, Scope, Source};
use crate::origin::{Forward, Origin, Payload};
use crate::store::Kind;
use crate::web::barrier::to_the_end;
use crate::web::body_buffer::buffer_body;
use crate::web::failure::Failure;
use crate::web::response_context::ResponseContext;
use crate::web::rights::permit;
use crate::web::services::Services;

/// How long S3 may take to assemble or copy an object, or to delete a thousand.
const ASSEMBLY: Duration = Duration::from_mins(5);

/// The most bytes of a list: a thousand keys of 1,024 bytes, each of which may be escaped.
const DELETE_BYTES: u64 = 8 * 1024 * 1024;

/// How many times a list is in memory: as it came, parsed (by object, and in order), and as it is sent.
const DELETE_COPIES: u64 = 4;

/// Names the nodes that have not acknowledged the write yet.
const X_FALCON_UNANSWERED: HeaderName = HeaderName::from_static("x-falcon-unanswered");

/// How the headers of a key of the client's own begin.
const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-";

/// Headers of the connection to S3, and of another Falcon in front of it, which are not passed on.
const NOT_ANSWERED: &[&str] = &[
    "connection",
    "keep-alive",
    "server",
    "transfer-encoding",
    "x-falcon-bypass",
    "x-falcon-cache",
];

/// Forwards a request, and its answer as it comes.
pub(super) async fn forward(
    services: &Services,
    request: GatewayRequest,
) -> Result<Response, Failure> {
    let context = ResponseContext::read_from(Source::Bypass(bypass_reason(&request)));
    let context = context.about(request.key.clone());
    let (forward, wait) = prepare(&services.origin, request).await?;
    let answer = services.origin.forward(forward, wait).await?;
    let (head, body) = answer.into_parts();
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = head.status;
    *response.headers_mut() = client_headers(head.headers);
    Ok(context.attach(response))
}

/// Forwards a write, then drops the object at every node, whether or not the client still waits.
pub(super) async fn write(
    services: &Services,
    request: GatewayRequest,
) -> Result<Response, Failure> {
    let scope = Scope::Key {
        bucket: request.bucket.clone(),
        key: request.key.clone(),
    };
    let about = request.key.clone();
    let (forward, wait) = prepare(&services.origin, request).await?;
    send_write(services, forward, wait, scope)
        .await
        .map(|response| written().about(about).attach(response))
}

/// Handles DeleteObjects, whose keys are in the body.
pub(super) async fn delete_many(
    services: &Services,
    mut request: GatewayRequest,
) -> Result<Response, Failure> {
    let length = payload::length(&request.head.headers).unwrap_or_default();
    if length > DELETE_BYTES {
        return Err(Failure::bad(
            "MalformedXML",
            format_args!("the list of keys must have at most {DELETE_BYTES} bytes; got {length}"),
        ));
    }
    let wait = services.settings.upload_wait;
    let store = services.proxy.store();
    let body = std::mem::replace(&mut request.body, payload::none());
    // Charged as it comes, not when it is announced.
    let (body, _charge) = buffer_body(store, body, DELETE_BYTES).await?;
    if body.len() as u64 != length {
        return Err(Failure::bad(
            "IncompleteBody",
            format_args!("the body must have {length} bytes, as the request's headers say"),
        ));
    }
    let copies = length * (DELETE_COPIES - 1);
    let Some(_copies) = store.reserve(Kind::Uploads, copies, wait).await else {
        return Err(Failure::later(
            "SlowDown",
            "not enough memory for the list of keys at the moment: try again",
        ));
    };
    digest::check(&request.head.headers, &body)?;
    let list = Deletion::parse(&body)?;
    let keys = list.keys();
    for key in &keys {
        permit(&request.who, Verb::Write, &request.bucket, Target::Key(key))?;
    }
    let scope = Scope::Keys {
        bucket: request.bucket.clone(),
        keys,
    };
    let body = list.to_xml();
    let headers = &mut request.head.headers;
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/xml"),
    );
    digest::renew(headers, &body);
    let (forward, wait) = prepare_with(&services.origin, request, Payload::Held(body))?;
    let response = send_write(services, forward, wait, scope).await?;
    Ok(written().attach(response))
}

async fn send_write(
    services: &Services,
    forward: Forward,
    wait: Duration,
    scope: Scope,
) -> Result<Response, Failure> {
    let origin = services.origin.clone();
    let in_body = works_long(forward.op, &forward.headers);
    let barrier = Barrier {
        aftermath: services.aftermath.clone(),
        scope,
    };
    let answered = to_the_end(write_barrier::send_and_invalidate(
        origin, forward, wait, in_body, barrier,
    ))
    .await??;
    let mut response = Response::new(answered.body);
    *response.status_mut() = answered.head.status;
    *response.headers_mut() = client_headers(answered.head.headers);
    if let Some(names) = answered.barriers.unanswered()
        && let Ok(names) = HeaderValue::try_from(names)
    {
        response.headers_mut().insert(X_FALCON_UNANSWERED, names);
    }
    Ok(response)
}

/// S3's head of a part; `None` when it gives none.
pub(super) async fn head_of_part(
    services: &Services,
    object: &ObjectId,
    query: &str,
) -> Result<Option<HeaderMap>, Failure> {
    let mut headers = HeaderMap::new();
    if services.origin.tells_checksums() {
        let enabled = HeaderValue::from_static("ENABLED");
        headers.insert("x-amz-checksum-mode", enabled);
    }
    let forward = Forward {
        op: "HeadObject",
        method: Method::HEAD,
        bucket: object.bucket().to_owned(),
        key: Some(object.key().to_owned()),
        query: query.to_owned(),
        headers,
        payload: Payload::Held(Bytes::new()),
    };
    let wait = services.origin.read_wait();
    let answer = services.origin.forward(forward, wait).await?;
    Ok((answer.status() == StatusCode::PARTIAL_CONTENT).then(|| answer.headers().clone()))
}

/// The request to S3, and how long it may take.
async fn prepare(
    origin: &Origin,
    mut request: GatewayRequest,
) -> Result<(Forward, Duration), Failure> {
    let body = std::mem::replace(&mut request.body, payload::none());
    let payload = payload::from_request(&request.head.headers, body).await?;
    prepare_with(origin, request, payload)
}

fn prepare_with(
    origin: &Origin,
    request: GatewayRequest,
    payload: Payload,
) -> Result<(Forward, Duration), Failure> {
    let GatewayRequest {
        operation,
        bucket,
        key,
        parameters,
        head,
        ..
    } = request;
    let wait = match (&payload, operation.name) {
        (_, name) if works_long(name, &head.headers) => ASSEMBLY,
        _ if operation.verb == Verb::Read => origin.read_wait(),
        (Payload::Streamed { length, .. }, _) => origin.write_wait(*length),
        (Payload::Held(bytes), _) => origin.write_wait(bytes.len() as u64),
    };
    let forward = Forward {
        op: operation.name,
        method: head.method,
        bucket,
        key: Some(key).filter(|key| !key.is_empty()),
        query: parameters.query(),
        headers: headers::forwarded(&head.headers)?,
        payload,
    };
    Ok((forward, wait))
}

/// Operations that may take S3 minutes, while it keeps the client waiting with a head and blanks.
fn works_long(operation: &str, headers: &HeaderMap) -> bool {
    matches!(operation, "CompleteMultipartUpload" | "DeleteObjects") || Operation::copies(headers)
}

pub(super) fn client_headers(mut headers: HeaderMap) -> HeaderMap {
    for name in NOT_ANSWERED {
        headers.remove(*name);
    }
    headers
}

/// Why a forwarded request is not answered from the cache.
pub(super) fn bypass_reason(request: &GatewayRequest) -> BypassReason {
    let own_key = |name: &HeaderName| name.as_str().starts_with(CUSTOMER_KEY);
    if request.operation.verb == Verb::Write {
        BypassReason::Write
    } else if request.head.headers.keys().any(own_key) {
        BypassReason::CustomerKey
    } else {
        BypassReason::OriginOnly
    }
}

fn written() -> ResponseContext {
    ResponseContext::read_from(Source::Bypass(BypassReason::Write))
}
