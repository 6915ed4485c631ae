//! A request's body, from either way in to what is sent on.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use http_body_util::{BodyExt, Empty};

use super::chunked;
use crate::api::error::Failure;
use crate::origin::{Incoming, Payload};

/// Bodies of up to so many bytes are held: they are signed, and sent again where that may help.
const HELD_BYTES: u64 = 32 * 1024;

/// Trailers that S3 knows, with the length of their values.
const TRAILERS: [(&str, u64); 5] = [
    ("x-amz-checksum-crc32", 8),
    ("x-amz-checksum-crc32c", 8),
    ("x-amz-checksum-crc64nvme", 12),
    ("x-amz-checksum-sha1", 28),
    ("x-amz-checksum-sha256", 44),
];

/// A body whose signatures nobody verifies, without its encoding.
pub(super) fn plain(headers: &HeaderMap, body: Body) -> Result<Incoming, Failure> {
    if !is_chunked(headers) {
        return Ok(body.map_err(Into::into).boxed_unsync());
    }
    let Some(length) = number(headers, "x-amz-decoded-content-length") else {
        return Err(no_length());
    };
    Ok(chunked::decoded(body, length))
}

/// No bytes.
pub(super) fn none() -> Incoming {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// What is sent on of a body.
pub(super) async fn of(headers: &HeaderMap, body: Incoming) -> Result<Payload, Failure> {
    let trailers = trailers(headers)?;
    let Some(length) = length(headers) else {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(no_length());
        }
        return Ok(Payload::Held(Bytes::new()));
    };
    if length <= HELD_BYTES && trailers.is_empty() {
        return Ok(Payload::Held(held(body, length).await?));
    }
    Ok(Payload::Streamed {
        body,
        length,
        trailers,
    })
}

/// The whole body, which holds `length` bytes.
pub(super) async fn held(mut body: Incoming, length: u64) -> Result<Bytes, Failure> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::body(&*error, StatusCode::BAD_REQUEST))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        whole.extend_from_slice(&data);
        if whole.len() as u64 > length {
            break;
        }
    }
    if whole.len() as u64 != length {
        return Err(Failure::bad(
            "IncompleteBody",
            format_args!("the body does not hold the {length} bytes that its head names"),
        ));
    }
    Ok(whole.into())
}

/// The bytes that the body holds without its encoding, where the request says so.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    if is_chunked(headers) {
        return number(headers, "x-amz-decoded-content-length");
    }
    number(headers, header::CONTENT_LENGTH.as_str())
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let hash = headers.get("x-amz-content-sha256");
    hash.is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-"))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn trailers(headers: &HeaderMap) -> Result<Vec<(HeaderName, u64)>, Failure> {
    if !is_chunked(headers) {
        return Ok(Vec::new());
    }
    let named = headers.get_all("x-amz-trailer").iter();
    let named = named.filter_map(|value| value.to_str().ok());
    named
        .flat_map(|value| value.split(','))
        .map(|name| {
            let mut known = TRAILERS.into_iter();
            let known = known.find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
            let known = known.map(|(name, length)| (HeaderName::from_static(name), length));
            known.ok_or_else(|| {
                Failure::bad(
                    "InvalidRequest",
                    format_args!("{name:?} in x-amz-trailer is no checksum that is known here"),
                )
            })
        })
        .collect()
}

fn no_length() -> Failure {
    Failure::new(
        StatusCode::LENGTH_REQUIRED,
        "MissingContentLength",
        "You must provide the Content-Length HTTP header.",
    )
}
