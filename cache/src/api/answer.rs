//! A version's head as the headers of an answer: what S3 gave, unchanged, and where Falcon had it from.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::ops::Range;

use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use httpdate::HttpDate;

use crate::object::Head;
use crate::proxy::Answer;

const X_FALCON_CACHE: HeaderName = HeaderName::from_static("x-falcon-cache");
const X_AMZ_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const X_AMZ_STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
const METADATA: &str = "x-amz-meta-";

/// Where headers are put. Each name comes once, but for those that are added.
pub(super) trait Headers {
    /// A word of Falcon's.
    fn fix(&mut self, name: &HeaderName, word: &'static str);

    /// A number.
    fn number(&mut self, name: &HeaderName, number: u64);

    /// Text of Falcon's making: digits, blanks and ASCII words.
    fn make(&mut self, name: &HeaderName, text: Arguments<'_>);

    /// Text of S3's. Control characters, which no header can hold, are percent-encoded: nothing is dropped.
    fn put(&mut self, name: &HeaderName, text: &str);

    /// The same, beside others of that name.
    fn add(&mut self, name: &HeaderName, text: &str);
}

impl Headers for HeaderMap {
    fn fix(&mut self, name: &HeaderName, word: &'static str) {
        self.insert(name, HeaderValue::from_static(word));
    }

    fn number(&mut self, name: &HeaderName, number: u64) {
        self.insert(name, number.into());
    }

    fn make(&mut self, name: &HeaderName, text: Arguments<'_>) {
        // The text becomes the value without a copy.
        let value = HeaderValue::try_from(text.to_string());
        self.insert(name, value.expect("what is made here is a header's value"));
    }

    fn put(&mut self, name: &HeaderName, text: &str) {
        self.insert(name, value(text));
    }

    fn add(&mut self, name: &HeaderName, text: &str) {
        self.append(name, value(text));
    }
}

/// The headers of a `304`: what a stored answer of the client's is brought up to date with.
pub(super) fn validators(head: &Head, headers: &mut impl Headers) {
    headers.put(&ETAG, head.etag.as_str());
    if let Some(time) = head.last_modified {
        headers.make(&LAST_MODIFIED, format_args!("{}", HttpDate::from(time)));
    }
    text(headers, &CACHE_CONTROL, head.cache_control.as_ref());
    text(headers, &EXPIRES, head.expires.as_ref());
    text(headers, &X_AMZ_VERSION_ID, head.version_id.as_ref());
}

/// All headers of the object, but for its length.
pub(super) fn describe(head: &Head, headers: &mut impl Headers) {
    validators(head, headers);
    headers.fix(&ACCEPT_RANGES, "bytes");
    text(headers, &CONTENT_TYPE, head.content_type.as_ref());
    text(headers, &CONTENT_ENCODING, head.content_encoding.as_ref());
    text(
        headers,
        &CONTENT_DISPOSITION,
        head.content_disposition.as_ref(),
    );
    text(headers, &CONTENT_LANGUAGE, head.content_language.as_ref());
    text(headers, &X_AMZ_STORAGE_CLASS, head.storage_class.as_ref());
    for (name, content) in &head.metadata {
        headers.add(&metadata_name(name), content);
    }
    stated(&head.others, headers);
}

/// Headers whose names S3 gave.
pub(super) fn stated(pairs: &[(String, String)], headers: &mut impl Headers) {
    for (name, content) in pairs {
        if let Ok(name) = HeaderName::try_from(name) {
            headers.put(&name, content);
        }
    }
}

/// How many bytes follow, and which of the object they are.
pub(super) fn extent(bytes: &Range<u64>, size: u64, partial: bool, headers: &mut impl Headers) {
    headers.number(&CONTENT_LENGTH, bytes.end - bytes.start);
    if partial {
        let (first, last) = (bytes.start, bytes.end.saturating_sub(1));
        headers.make(&CONTENT_RANGE, format_args!("bytes {first}-{last}/{size}"));
    }
}

/// Where the answer is from, and how long ago S3 vouched for it.
pub(super) fn provenance(answer: &Answer, source: &'static str, headers: &mut impl Headers) {
    headers.fix(&X_FALCON_CACHE, source);
    headers.number(&AGE, answer.age.as_secs());
}

fn text(headers: &mut impl Headers, name: &HeaderName, content: Option<&String>) {
    if let Some(content) = content {
        headers.put(name, content);
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(&sendable(text)).expect("control characters are escaped")
}

/// Text as it can be sent: without control characters.
pub(super) fn sendable(text: &str) -> Cow<'_, [u8]> {
    let held = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    // To the end in any case: so the compiler looks at many bytes at once.
    if text.bytes().fold(true, |all, byte| all & held(byte)) {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(escaped(text, held))
}

/// `x-amz-meta-` and the name; what can't stand in a header's name is percent-encoded.
fn metadata_name(name: &str) -> HeaderName {
    let full = format!("{METADATA}{name}");
    HeaderName::from_bytes(full.as_bytes()).unwrap_or_else(|_| {
        let held = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        HeaderName::from_bytes(&escaped(&full, held)).expect("only token characters are left")
    })
}

fn escaped(text: &str, held: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if held(byte) {
            bytes.push(byte);
        } else {
            bytes.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    bytes
}

/// A head for tests, with every field set.
#[cfg(test)]
pub(super) fn sample() -> Head {
    Head {
        etag: "\"v1\"".into(),
        size: 10,
        last_modified: Some(std::time::SystemTime::UNIX_EPOCH),
        content_type: Some("text/plain".into()),
        cache_control: Some("max-age=5".into()),
        content_encoding: Some("gzip".into()),
        content_disposition: Some("attachment; filename=\"ü\"".into()),
        content_language: Some("de".into()),
        expires: Some("0".into()),
        version_id: Some("3".into()),
        storage_class: Some("STANDARD_IA".into()),
        metadata: vec![
            ("a".into(), "1".into()),
            ("naïve name".into(), "line\nbreak".into()),
        ],
        others: vec![("x-amz-tagging-count".into(), "2".into())],
        checksums: vec![("x-amz-checksum-crc32".into(), "AAAAAA==".into())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_of_s3_is_there() {
        let mut headers = HeaderMap::new();
        describe(&sample(), &mut headers);
        extent(&(2..5), 10, true, &mut headers);
        for (name, want) in [
            ("etag", "\"v1\""),
            ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("content-range", "bytes 2-4/10"),
            ("accept-ranges", "bytes"),
            ("cache-control", "max-age=5"),
            ("content-encoding", "gzip"),
            ("content-disposition", "attachment; filename=\"ü\""),
            ("content-language", "de"),
            ("expires", "0"),
            ("x-amz-version-id", "3"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-meta-a", "1"),
            ("x-amz-tagging-count", "2"),
        ] {
            assert_eq!(headers[name].as_bytes(), want.as_bytes(), "{name}");
        }
    }

    #[test]
    fn odd_metadata_is_escaped_and_never_dropped() {
        let mut headers = HeaderMap::new();
        describe(&sample(), &mut headers);
        assert_eq!(headers["x-amz-meta-na%c3%afve%20name"], "line%0Abreak");
    }

    #[test]
    fn an_empty_object_has_a_length() {
        let mut headers = HeaderMap::new();
        extent(&(0..0), 0, false, &mut headers);
        assert_eq!(headers[CONTENT_LENGTH], "0");
        assert!(!headers.contains_key(CONTENT_RANGE));
    }
}
