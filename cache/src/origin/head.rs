//! What S3's answer says about a version. Its tag, size and date are parsed, leniently; everything else that belongs to
//! the object is passed on byte for byte.

use std::ops::Range;
use std::time::SystemTime;

use crate::object::{ETag, FieldLines, Head, Part, Parts};
use aws_sdk_s3::config::http::HttpResponse;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Fields of the answer, the connection or the server, and not of the object; or parsed here and written for each
/// answer.
const NOT_STORED: &[&str] = &[
    "accept-ranges",
    "age",
    "alt-svc",
    "connection",
    "content-digest",
    "content-length",
    "content-md5",
    "content-range",
    "date",
    "etag",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "x-amz-id-2",
    PARTS_COUNT,
    "x-amz-request-charged",
    "x-amz-request-id",
    "x-request-id",
];

/// Prefixes of such fields: CORS is asked for each time, and `x-falcon-` fields are Falcon's own.
const FAMILIES_NOT_STORED: &[&str] = &["access-control-", "x-falcon-"];

const PARTS_COUNT: &str = "x-amz-mp-parts-count";

/// The most bytes of an object's header lines that are stored. S3's own limit is 8 KiB for all of them.
const STORED: usize = 64 * 1024;

/// Checksums are kept apart: only clients that ask for them get them.
const CHECKSUM: &str = "x-amz-checksum-";

/// An answer's header fields, whatever their encoding.
pub(super) fn headers_of(answer: &HttpResponse) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers().iter_bytes() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    // The SDK keeps a copy under this name, and removes the original if it is not a date.
    if let Some(expires) = headers.remove("expiresstring")
        && !headers.contains_key(header::EXPIRES)
    {
        headers.insert(header::EXPIRES, expires);
    }
    headers
}

/// The head of an object of `size` bytes. `whole`: the answer covers all of it; a part's checksum is not the object's.
pub(super) fn head_of(headers: &HeaderMap, size: u64, whole: bool) -> Head {
    let etag = etag(headers);
    let last_modified = headers.get(header::LAST_MODIFIED).and_then(date);
    let is_stored = |name: &HeaderName| {
        let name = name.as_str();
        !(NOT_STORED.contains(&name)
            || FAMILIES_NOT_STORED.iter().any(|it| name.starts_with(it))
            || name.starts_with(CHECKSUM)
            // One that can't be parsed is passed on like the rest.
            || (name == "last-modified" && last_modified.is_some()))
    };
    let fields = lines(headers, is_stored);
    Head {
        whole_only: !etag.is_strong() || size == Head::UNSIZED || fields.as_bytes().len() > STORED,
        etag,
        size,
        last_modified,
        fields,
        checksums: lines(headers, |name| whole && name.as_str().starts_with(CHECKSUM)),
        checksums_known: whole,
        parts: Parts::default(),
    }
}

/// What S3's answer to a request for part `number` says about the part, and of which version it is; `None` if the
/// answer is not about a part.
pub fn part_of(number: u32, headers: &HeaderMap) -> Option<(ETag, Part)> {
    let text = |name| headers.get(name)?.to_str().ok();
    let (bytes, _size) = parse_content_range(text("content-range")?)?;
    let etag = etag(headers);
    let part = Part {
        number,
        bytes,
        count: text(PARTS_COUNT).and_then(|count| count.trim().parse().ok()),
        checksums: lines(headers, |name| name.as_str().starts_with(CHECKSUM)),
    };
    etag.is_strong().then_some((etag, part))
}

/// The header fields of a refusal that belong to the object and not to the answer: S3's own, and a delete marker's
/// date.
pub(super) fn fields_of_refusal(headers: &HeaderMap) -> FieldLines {
    lines(headers, |name| {
        let name = name.as_str();
        (name.starts_with("x-amz-") || name == "last-modified") && !NOT_STORED.contains(&name)
    })
}

/// Sorted by name, since servers send them in any order; lines with the same name keep their order.
fn lines(headers: &HeaderMap, is_wanted: impl Fn(&HeaderName) -> bool) -> FieldLines {
    let mut fields: Vec<_> = headers
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    fields.sort_by_key(|(name, _)| *name);
    fields.into_iter().collect()
}

/// A tag that is not text, and two that contradict each other, count as none.
fn etag(headers: &HeaderMap) -> ETag {
    let mut said = headers.get_all(header::ETAG).iter();
    let tag = said
        .next()
        .filter(|tag| said.all(|other| other == tag))
        .and_then(|tag| std::str::from_utf8(tag.as_bytes()).ok());
    ETag::from(tag.unwrap_or_default())
}

/// One of HTTP's three formats (RFC 9110, 5.6.7), or one with another name for GMT.
fn date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    let zoned = ["UTC", "Z", "+0000"]
        .iter()
        .find_map(|zone| text.strip_suffix(zone))
        .map(|date| format!("{date}GMT"));
    httpdate::parse_http_date(zoned.as_deref().unwrap_or(text)).ok()
}

/// The number of bytes that follow, if the answer says it.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    said.trim().parse().ok()
}

/// `bytes first-last/size`, with all three present and in order.
pub(super) fn parse_content_range(value: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (number(first)?, number(last)?, number(size)?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// Digits only: `parse` would accept a sign.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_sdk_hides_no_expiry_that_is_no_date() {
        for (left, said) in [
            (None, "0"),
            (
                Some("Thu, 01 Jan 2026 00:00:00 GMT"),
                "Thu, 01 Jan 2026 00:00:00 GMT",
            ),
        ] {
            let mut answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
            answer.headers_mut().insert("ExpiresString", said);
            if let Some(left) = left {
                answer.headers_mut().insert("Expires", left);
            }
            let headers = headers_of(&answer);
            assert_eq!(
                (headers.len(), &headers["expires"]),
                (1, &HeaderValue::from_static(said))
            );
        }
    }

    #[test]
    fn what_is_the_objects_is_kept_as_it_came_and_nothing_else() {
        let said = headers(&[
            ("x-amz-meta-b", b"r\xe9sum\xe9"),
            ("etag", b"\"v\""),
            ("server", b"S3"),
            ("access-control-allow-origin", b"*"),
            ("x-amz-request-id", b"1"),
            ("x-falcon-cache", b"memory"),
            ("content-type", b"a/b"),
            ("x-amz-server-side-encryption-bucket-key-enabled", b"True"),
            ("cache-control", b"max-age=1"),
            ("cache-control", b"public"),
            ("x-of-some-server", b"kept"),
            ("x-amz-checksum-xxhash128", b"AA=="),
        ]);
        let head = head_of(&said, 3, true);
        assert_eq!((head.etag.as_str(), head.size), ("\"v\"", 3));
        assert_eq!(
            head.fields.as_bytes(),
            b"cache-control: max-age=1\r\ncache-control: public\r\ncontent-type: a/b\r\n\
              x-amz-meta-b: r\xe9sum\xe9\r\n\
              x-amz-server-side-encryption-bucket-key-enabled: True\r\nx-of-some-server: kept\r\n"
        );
        assert_eq!(head.checksums.iter().count(), 1);
        assert_eq!(head_of(&said, 3, false).checksums.iter().count(), 0);
    }

    #[test]
    fn only_a_strong_tag_and_a_known_length_let_an_object_be_read_in_parts() {
        let whole_only = |tags: &[&'static [u8]], size| {
            let tags: Vec<_> = tags.iter().map(|tag| ("etag", *tag)).collect();
            head_of(&headers(&tags), size, true).whole_only
        };
        assert!(!whole_only(&[b"\"a\""], 3));
        assert!(!whole_only(&[b"unquoted"], 3));
        assert!(!whole_only(&[b"\"a\"", b"\"a\""], 3));
        assert!(whole_only(&[b"\"a\"", b"\"b\""], 3));
        assert!(whole_only(&[b"W/\"a\""], 3));
        assert!(whole_only(&[b"\"\xe9\""], 3));
        assert!(whole_only(&[], 3));
        assert!(whole_only(&[b"\"a\""], Head::UNSIZED));
    }

    #[test]
    fn a_date_is_read_in_any_of_https_forms() {
        let want = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for said in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
        ] {
            let said = headers(&[("etag", b"1"), ("last-modified", said.as_bytes())]);
            let head = head_of(&said, 0, true);
            assert_eq!(
                (head.last_modified, head.fields.iter().count()),
                (Some(want), 0)
            );
        }
        let odd = headers(&[("etag", b"1"), ("last-modified", b"yesterday")]);
        let head = head_of(&odd, 0, true);
        assert_eq!(head.last_modified, None);
        assert_eq!(head.fields.get("last-modified"), Some(&b"yesterday"[..]));
    }

    #[test]
    fn a_content_range_is_three_numbers_in_order() {
        assert_eq!(parse_content_range("bytes 0-0/1"), Some((0..1, 1)));
        assert_eq!(parse_content_range("bytes 4-9/10"), Some((4..10, 10)));
        for wrong in [
            "bytes 0-9/*",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes +0-9/10",
            "0-9/10",
            "bytes 0-9",
            "bytes -9/10",
            "",
        ] {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }
}
