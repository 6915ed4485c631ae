//! What an answer of S3 says of a version. Its tag, its size and its date are read, and leniently; all else that is the
//! object's is handed on as it came, in whatever words and bytes.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, header};

use super::Error;
use crate::object::{ETag, FieldLines, Head};

/// Of the answer, the connection or the server, and not of the object; or read here and said again for each answer.
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
    "x-amz-mp-parts-count",
    "x-amz-request-charged",
    "x-amz-request-id",
    "x-request-id",
];

/// Families of them: who may read it in a browser is asked anew each time, and Falcon's words are its own.
const FAMILIES_NOT_STORED: &[&str] = &["access-control-", "x-falcon-"];

/// Checksums stand apart: they are given to who asks for them.
const CHECKSUM: &str = "x-amz-checksum-";

/// The head of an object of `size`. `whole`: the answer is about all of it; a part's checksum is not the object's.
pub(super) fn head_of(headers: &HeaderMap, size: u64, whole: bool) -> Result<Head, Error> {
    let last_modified = headers.get(header::LAST_MODIFIED).and_then(date);
    let is_stored = |name: &HeaderName| {
        let name = name.as_str();
        !(NOT_STORED.contains(&name)
            || FAMILIES_NOT_STORED.iter().any(|it| name.starts_with(it))
            || name.starts_with(CHECKSUM)
            // What can't be read is handed on like the rest.
            || (name == "last-modified" && last_modified.is_some()))
    };
    Ok(Head {
        etag: etag(headers)?,
        size,
        last_modified,
        fields: lines(headers, is_stored),
        checksums: lines(headers, |name| whole && name.as_str().starts_with(CHECKSUM)),
    })
}

/// In the order of their names, since servers send them in any order; lines of one name stay as they were.
fn lines(headers: &HeaderMap, is_wanted: impl Fn(&HeaderName) -> bool) -> FieldLines {
    let mut fields: Vec<_> = headers
        .iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    fields.sort_by_key(|(name, _)| *name);
    fields.into_iter().collect()
}

fn etag(headers: &HeaderMap) -> Result<ETag, Error> {
    let said = headers.get(header::ETAG).map(http::HeaderValue::as_bytes);
    said.filter(|tag| !tag.is_empty())
        .and_then(|tag| std::str::from_utf8(tag).ok())
        .map(ETag::from)
        .ok_or_else(|| Error::Broken("it names no ETag".to_owned()))
}

/// One of HTTP's three forms (RFC 9110, 5.6.7), or one with another name of its time zone.
fn date(value: &http::HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    let zoned = ["UTC", "Z", "+0000"]
        .iter()
        .find_map(|zone| text.strip_suffix(zone))
        .map(|date| format!("{date}GMT"));
    httpdate::parse_http_date(zoned.as_deref().unwrap_or(text)).ok()
}

/// The number of bytes that follow, where the answer says one.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    said.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
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
        let head = head_of(&said, 3, true).unwrap();
        assert_eq!((head.etag.as_str(), head.size), ("\"v\"", 3));
        assert_eq!(
            head.fields.as_bytes(),
            b"cache-control: max-age=1\r\ncache-control: public\r\ncontent-type: a/b\r\n\
              x-amz-meta-b: r\xe9sum\xe9\r\n\
              x-amz-server-side-encryption-bucket-key-enabled: True\r\nx-of-some-server: kept\r\n"
        );
        assert_eq!(head.checksums.iter().count(), 1);
        assert_eq!(
            head_of(&said, 3, false).unwrap().checksums.iter().count(),
            0
        );
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
            let head = head_of(&said, 0, true).unwrap();
            assert_eq!(
                (head.last_modified, head.fields.iter().count()),
                (Some(want), 0)
            );
        }
        let odd = headers(&[("etag", b"1"), ("last-modified", b"yesterday")]);
        let head = head_of(&odd, 0, true).unwrap();
        assert_eq!(head.last_modified, None);
        assert_eq!(head.fields.get("last-modified"), Some(&b"yesterday"[..]));
    }
}
