//! A request's body, on its way to S3.

use axum::body::Body;
use bytes::Bytes;
use futures::future;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};

use super::chunked;
use crate::origin::{Incoming, Payload};
use crate::web::failure::Failure;
use crate::web::status;

/// Bodies of at most this size are held in memory: they are signed, and may be sent again.
const HELD_BYTES: u64 = 32 * 1024;

/// The prefix of the trailers that S3 knows: checksums.
const CHECKSUM: &str = "x-amz-checksum-";

/// Algorithms, with the length of their values in base64. S3 wants the length of all before the first byte.
const ALGORITHMS: [(&str, u64); 10] = [
    ("crc32", 8),
    ("crc32c", 8),
    ("crc64nvme", 12),
    ("md5", 24),
    ("sha1", 28),
    ("sha256", 44),
    ("sha512", 88),
    ("xxhash128", 24),
    ("xxhash3", 12),
    ("xxhash64", 12),
];

/// The body of an unsigned request, decoded.
pub(super) fn decode_unsigned(headers: &HeaderMap, body: Body) -> Result<Incoming, Failure> {
    if !is_chunked(headers) {
        return Ok(body.map_err(Into::into).boxed_unsync());
    }
    let Some(length) = number(headers, "x-amz-decoded-content-length") else {
        return Err(no_length());
    };
    Ok(chunked::decode(body, length))
}

/// No bytes.
pub(super) fn none() -> Incoming {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// What S3 gets of a body.
pub(super) async fn from_request(headers: &HeaderMap, body: Incoming) -> Result<Payload, Failure> {
    let named = trailers(headers)?;
    let Some(length) = length(headers) else {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(no_length());
        }
        // Read to its end: a signed hash must be that of no bytes.
        return Ok(Payload::Held(hold(body, 0).await?));
    };
    if length <= HELD_BYTES && named.is_empty() {
        return Ok(Payload::Held(hold(body, length).await?));
    }
    let mut trailers = Vec::new();
    for (name, known) in &named {
        let Some(known) = known else {
            return hold_for_trailers(body, length, &named).await;
        };
        trailers.push((name.clone(), *known));
    }
    Ok(Payload::Streamed {
        body,
        length,
        trailers,
    })
}

/// The whole body, which holds `length` bytes.
pub(super) async fn hold(body: Incoming, length: u64) -> Result<Bytes, Failure> {
    collect(body, length).await.map(|(bytes, _)| bytes)
}

/// The same, and its trailers.
async fn collect(mut body: Incoming, length: u64) -> Result<(Bytes, HeaderMap), Failure> {
    let (mut whole, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| status::of_body(&*error, StatusCode::BAD_REQUEST))?;
        match frame.into_data() {
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
        if whole.len() as u64 > length {
            break;
        }
    }
    if whole.len() as u64 != length {
        return Err(Failure::bad(
            "IncompleteBody",
            format_args!("the body must have {length} bytes, as the request's headers say"),
        ));
    }
    Ok((whole.into(), trailers))
}

/// The length of the decoded body, if the request names it.
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

/// Holds a small body until the lengths of its trailers are known.
async fn hold_for_trailers(
    body: Incoming,
    length: u64,
    named: &[(HeaderName, Option<u64>)],
) -> Result<Payload, Failure> {
    if length > HELD_BYTES {
        let known = ALGORITHMS.map(|(name, _)| name).join(", ");
        return Err(Failure::bad(
            "InvalidRequest",
            format_args!(
                "x-amz-trailer must name one of these checksums: {known}. Others are possible for objects of up \
                 to {HELD_BYTES} bytes only"
            ),
        ));
    }
    let (whole, came) = collect(body, length).await?;
    let trailers = named.iter().map(|(name, _)| {
        let length = came.get(name).map_or(0, HeaderValue::len);
        (name.clone(), length as u64)
    });
    let trailers = trailers.collect();
    let body = Full::new(whole).with_trailers(future::ready(Some(Ok(came))));
    Ok(Payload::Streamed {
        body: body.map_err(|never| match never {}).boxed_unsync(),
        length,
        trailers,
    })
}

/// The names of the trailers, and the lengths of their values where they are known.
fn trailers(headers: &HeaderMap) -> Result<Vec<(HeaderName, Option<u64>)>, Failure> {
    if !is_chunked(headers) {
        return Ok(Vec::new());
    }
    let named = headers.get_all("x-amz-trailer").iter();
    let named = named.filter_map(|value| value.to_str().ok());
    named
        .flat_map(|value| value.split(','))
        .map(|name| {
            let parsed = HeaderName::try_from(name.trim()).ok();
            let parsed = parsed.and_then(|parsed| {
                let algorithm = parsed.as_str().strip_prefix(CHECKSUM)?;
                let mut known = ALGORITHMS.into_iter();
                let length = known.find(|(known, _)| *known == algorithm);
                let length = length.map(|(_, length)| length);
                Some((parsed, length))
            });
            parsed.ok_or_else(|| {
                Failure::bad(
                    "InvalidRequest",
                    format_args!("x-amz-trailer must be x-amz-checksum-ALGORITHM; got {name:?}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(trailer: &str) -> Result<Vec<(HeaderName, Option<u64>)>, Failure> {
        let mut headers = HeaderMap::new();
        let hash = HeaderValue::from_static("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        headers.insert("x-amz-content-sha256", hash);
        headers.insert("x-amz-trailer", trailer.parse().unwrap());
        trailers(&headers)
    }

    #[test]
    fn a_checksum_is_known_by_its_family_and_not_by_a_list() {
        let one = |name: &str| named(name).map(|named| named[0].1);
        assert_eq!(one("x-amz-checksum-sha512").unwrap(), Some(88));
        assert_eq!(one("X-Amz-Checksum-XXHASH128").unwrap(), Some(24));
        assert_eq!(one("x-amz-checksum-blake3").unwrap(), None);
        assert_eq!(
            named("x-amz-checksum-md5, x-amz-checksum-crc32")
                .unwrap()
                .len(),
            2
        );
        assert_eq!(one("x-amz-acl").unwrap_err().code(), "InvalidRequest");
        assert_eq!(one("a b").unwrap_err().code(), "InvalidRequest");
    }

    #[tokio::test]
    async fn a_small_body_is_held_until_an_unknown_checksum_has_its_length() {
        let name = HeaderName::from_static("x-amz-checksum-blake3");
        let announced = [(name.clone(), None)];
        let body = |text: &'static str| {
            let mut trailers = HeaderMap::new();
            trailers.insert(name.clone(), HeaderValue::from_static("AAAA"));
            let body = Full::new(Bytes::from_static(text.as_bytes()));
            let body = body.with_trailers(future::ready(Some(Ok(trailers))));
            body.map_err(|never| match never {}).boxed_unsync()
        };
        let payload = hold_for_trailers(body("hello"), 5, &announced)
            .await
            .unwrap();
        let Payload::Streamed {
            body: sent,
            length,
            trailers,
        } = payload
        else {
            panic!("it has a trailer");
        };
        assert_eq!((length, trailers), (5, vec![(name.clone(), 4)]));
        let sent = sent.collect().await.unwrap();
        assert_eq!(sent.trailers().unwrap()[&name], "AAAA");
        let long = hold_for_trailers(body("hello"), HELD_BYTES + 1, &announced).await;
        assert!(long.unwrap_err().message().contains("sha512"));
        assert!(
            hold_for_trailers(body("hello"), 4, &announced)
                .await
                .is_err()
        );
    }
}
