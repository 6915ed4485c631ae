//! GetObject and HeadObject: through the cache, where the cache can know the answer; else S3 is asked as it is.

use std::ops::Range;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{Asked, Door};
use crate::api::error::Failure;
use crate::api::read;
use crate::object::{ByteRange, ObjectId};
use crate::origin::parse_content_range;

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
const CHECKSUM: &str = "x-amz-checksum-";

impl Door {
    pub(super) async fn read(&self, asked: Asked) -> Result<Response, Failure> {
        if only_s3_knows(&asked) {
            return self.forwarded(asked).await;
        }
        if asked.parameters.has("partNumber") {
            return self.read_part(asked).await;
        }
        let object = ObjectId::new(&asked.bucket, &asked.key)?;
        let with_body = asked.head.method != Method::HEAD;
        let wanted = read::Asked::of(object, &asked.head.headers, with_body)
            .with_checksums(asked.head.headers.contains_key(CHECKSUM_MODE));
        let answered = wanted.answer(&self.parts().proxy).await;
        // S3 names no version that a condition has refused.
        let response = answered.map_err(|failure| failure.without(&header::ETAG))?;
        if !with_body
            && asked.head.headers.contains_key(CHECKSUM_MODE)
            && response.status() == StatusCode::OK
            && !has_checksum(response.headers())
        {
            // S3 tells them with a head, and not with a part.
            return self.forwarded(asked).await;
        }
        overridden(response, &asked)
    }

    /// A part of an object as it was uploaded: S3 says which bytes they are.
    async fn read_part(&self, asked: Asked) -> Result<Response, Failure> {
        let object = ObjectId::new(&asked.bucket, &asked.key)?;
        let query = asked.parameters.query();
        let told = self.head_of_part(&object, &query).await?;
        let Some((etag, bytes)) = told
            .as_ref()
            .filter(|_| asked.head.method == Method::GET)
            .and_then(|told| Some((told.get(header::ETAG)?.clone(), part_bytes(told)?)))
        else {
            return self.forwarded(asked).await;
        };
        let range = ByteRange::FromTo(bytes.start, bytes.end - 1);
        let mut response = read::Asked::of(object, &asked.head.headers, true)
            .within(range)
            .answer(&self.parts().proxy)
            .await?;
        if response.status() == StatusCode::PARTIAL_CONTENT
            && response.headers().get(header::ETAG) != Some(&etag)
        {
            // Overwritten in between, or another version is still held here.
            return self.forwarded(asked).await;
        }
        if response.status() == StatusCode::PARTIAL_CONTENT
            && let Some(count) = told.as_ref().and_then(|told| told.get(PARTS_COUNT))
        {
            response.headers_mut().insert(PARTS_COUNT, count.clone());
        }
        overridden(response, &asked)
    }
}

/// Versions by their id, keys that only the client has: what is cached can't answer that.
fn only_s3_knows(asked: &Asked) -> bool {
    let headers = &asked.head.headers;
    asked.parameters.has("versionId")
        || (asked.parameters.has("partNumber") && headers.contains_key(header::RANGE))
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

fn has_checksum(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with(CHECKSUM))
}

fn part_bytes(told: &HeaderMap) -> Option<Range<u64>> {
    let said = told.get(header::CONTENT_RANGE)?.to_str().ok()?;
    parse_content_range(said).map(|(bytes, _size)| bytes)
}

/// The answer with the headers that its request demanded.
fn overridden(mut response: Response, asked: &Asked) -> Result<Response, Failure> {
    if !response.status().is_success() {
        return Ok(response);
    }
    for (parameter, name) in OVERRIDES {
        if let Some(value) = asked.parameters.get(parameter) {
            let value = HeaderValue::from_str(value).map_err(|_| {
                Failure::bad(
                    "InvalidArgument",
                    format_args!("{parameter} is no header's value"),
                )
            })?;
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_part_are_those_that_s3_names() {
        let told = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            part_bytes(&headers)
        };
        assert_eq!(told("bytes 5-9/20"), Some(5..10));
        assert_eq!(told("bytes 9-5/20"), None);
        assert_eq!(told("bytes */20"), None);
        assert_eq!(part_bytes(&HeaderMap::new()), None);
    }
}
