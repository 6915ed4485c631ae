//! GetObject and HeadObject: through the cache, where the cache can know the answer; else S3 is asked as it is.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;

use super::request::GatewayRequest;
use super::send;
use crate::object::{ByteRange, ObjectId};
use crate::origin::part_of;
use crate::web::failure::Failure;
use crate::web::read::ObjectRequest;
use crate::web::response_headers;
use crate::web::services::Services;

/// `response-*` parameters, and the header that each sets.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-content-type", header::CONTENT_TYPE),
    ("response-expires", header::EXPIRES),
];

const PARTS_COUNT: &str = "x-amz-mp-parts-count";
const CHECKSUM_MODE: &str = "x-amz-checksum-mode";

/// The answer to GetObject or HeadObject.
pub(super) async fn read(
    services: &Services,
    request: GatewayRequest,
) -> Result<Response, Failure> {
    if only_s3_knows(&request) {
        return read_past_the_cache(services, request).await;
    }
    if request.parameters.has("partNumber") {
        return read_part(services, request).await;
    }
    let object = ObjectId::new(&request.bucket, &request.key)?;
    let with_body = request.head.method != Method::HEAD;
    let wanted = ObjectRequest::parse(object, &request.head.headers, with_body)
        .with_checksums(request.head.headers.contains_key(CHECKSUM_MODE));
    let answered = wanted.answer(&services.proxy).await;
    // S3 sends no tag with a failed condition.
    let response = answered.map_err(|failure| failure.without(&header::ETAG))?;
    override_headers(response, &request)
}

/// Reads from S3, past the cache.
pub(super) async fn read_past_the_cache(
    services: &Services,
    request: GatewayRequest,
) -> Result<Response, Failure> {
    let reason = send::bypass_reason(&request);
    let response = send::forward(services, request).await?;
    if !response.status().is_success() {
        return Ok(response);
    }
    let metrics = Arc::clone(&services.metrics);
    let reason = reason.as_str();
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            metrics.bypassed(reason, bytes as u64);
            frame
        }))
    }))
}

/// Reads a part of an object as it was uploaded: S3 says which bytes they are, once for each version.
async fn read_part(services: &Services, request: GatewayRequest) -> Result<Response, Failure> {
    let object = ObjectId::new(&request.bucket, &request.key)?;
    let number = request.parameters.get("partNumber").map(str::parse::<u32>);
    let Some(Ok(number)) = number else {
        return read_past_the_cache(services, request).await;
    };
    let proxy = &services.proxy;
    let known = proxy.part(&object, number);
    let with_body = request.head.method != Method::HEAD;
    if known.is_none() && !with_body {
        return head_of_unknown(services, request, &object, number).await;
    }
    let lookup = known.is_none().then(|| proxy.begin_part_lookup(&object));
    let told = if known.is_some() {
        known
    } else {
        let query = request.parameters.query();
        let told = send::head_of_part(services, &object, &query).await?;
        told.and_then(|told| part_of(number, &told))
    };
    let Some((etag, part)) = told else {
        return read_past_the_cache(services, request).await;
    };
    let headers = &request.head.headers;
    let checksums = headers.contains_key(CHECKSUM_MODE);
    let range = ByteRange::FromTo(part.bytes.start, part.bytes.end - 1);
    let wanted = ObjectRequest::parse(object, headers, with_body).within(range);
    let mut response = wanted.answer(proxy).await?;
    if let Some(lookup) = lookup {
        // By now its version is known here.
        lookup.record(&etag, &part);
    }
    if response.status() == StatusCode::PARTIAL_CONTENT {
        let headers = response.headers_mut();
        let version = headers.get(header::ETAG).map(HeaderValue::as_bytes);
        if version != Some(etag.as_str().as_bytes()) {
            // Overwritten in between, or this node still holds another version.
            return read_past_the_cache(services, request).await;
        }
        if let Some(count) = part.count {
            headers.insert(PARTS_COUNT, count.into());
        }
        if checksums {
            response_headers::append(part.checksums.iter(), headers);
        }
    }
    override_headers(response, &request)
}

/// Asks S3 for the head of a part, and records what it says of the part if all of it was asked for.
async fn head_of_unknown(
    services: &Services,
    request: GatewayRequest,
    object: &ObjectId,
    number: u32,
) -> Result<Response, Failure> {
    let whole = request.head.headers.contains_key(CHECKSUM_MODE);
    let lookup = services.proxy.begin_part_lookup(object);
    let response = send::forward(services, request).await?;
    if whole
        && response.status() == StatusCode::PARTIAL_CONTENT
        && let Some((etag, part)) = part_of(number, response.headers())
    {
        lookup.record(&etag, &part);
    }
    Ok(response)
}

/// Headers that leave the cached answer as it is: of the signature, or looked at here.
const CACHED_READS_HAVE: &[&str] = &[
    "x-amz-checksum-mode",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-security-token",
    "x-amz-user-agent",
];

/// True for reads that only S3 can answer: versions by their id, and headers that may change the read or forbid it (the
/// bucket's expected owner, requester pays, the client's own keys).
fn only_s3_knows(request: &GatewayRequest) -> bool {
    let headers = &request.head.headers;
    request.parameters.has("versionId")
        || (request.parameters.has("partNumber") && headers.contains_key(header::RANGE))
        || headers.keys().any(is_beyond_the_cache)
}

fn is_beyond_the_cache(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-amz-") && !CACHED_READS_HAVE.contains(&name.as_str())
}

/// The answer with the headers that the request overrides.
fn override_headers(mut response: Response, request: &GatewayRequest) -> Result<Response, Failure> {
    if !response.status().is_success() {
        return Ok(response);
    }
    for (parameter, name) in OVERRIDES {
        if let Some(value) = request.parameters.get(parameter) {
            let value = HeaderValue::from_str(value).map_err(|_| {
                Failure::bad(
                    "InvalidArgument",
                    format_args!("{parameter} must be a value that a header can have"),
                )
            })?;
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
