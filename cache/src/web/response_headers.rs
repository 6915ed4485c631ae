//! The headers of an answer: a version's head as S3 gave it, and where Falcon got it from.

use std::fmt::Arguments;
use std::ops::Range;

use http::header::{ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};
use httpdate::HttpDate;

use crate::object::{self, FieldLines, Head};
use crate::proxy::ReadResult;

/// Where an answer came from.
pub(super) const X_FALCON_CACHE: HeaderName = HeaderName::from_static("x-falcon-cache");

/// Why an answer went past the cache, if it did.
pub(super) const X_FALCON_BYPASS: HeaderName = HeaderName::from_static("x-falcon-bypass");
/// The node that answered.
pub(super) const X_FALCON_NODE: HeaderName = HeaderName::from_static("x-falcon-node");
/// The request's id, as S3 calls it.
pub(super) const X_AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// Stored fields by which a client updates the answer that it holds.
const UPDATING: [&str; 3] = ["cache-control", "expires", "x-amz-version-id"];

/// A sink for headers. Each name comes once, except among the lines.
pub(super) trait HeaderSink {
    /// A fixed word.
    fn fix(&mut self, name: &HeaderName, word: &'static str);

    /// A number.
    fn number(&mut self, name: &HeaderName, number: u64);

    /// Text that is made here: digits, blanks and ASCII words.
    fn make(&mut self, name: &HeaderName, text: Arguments<'_>);

    /// The version's tag.
    fn tag(&mut self, etag: &object::ETag);

    /// Fields as S3 stores them; a name may occur several times.
    fn lines(&mut self, lines: &FieldLines);
}

impl HeaderSink for HeaderMap {
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

    fn tag(&mut self, etag: &object::ETag) {
        let value = HeaderValue::from_bytes(etag.as_str().as_bytes());
        self.insert(ETAG, value.expect("a tag can be sent"));
    }

    fn lines(&mut self, lines: &FieldLines) {
        append(lines.iter(), self);
    }
}

/// Adds fields to the headers of an answer.
pub(crate) fn append<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    headers: &mut HeaderMap,
) {
    for (name, value) in fields {
        // Neither fails: what a header can't hold is percent-encoded where the lines are made.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
}

/// The headers of a `304`, by which a client updates the answer that it holds.
pub(super) fn validators(head: &Head, headers: &mut HeaderMap) {
    version(head, headers);
    let updating = head.fields.iter();
    append(
        updating.filter(|(name, _)| UPDATING.contains(name)),
        headers,
    );
}

/// All headers of the object except its length.
pub(super) fn describe(head: &Head, headers: &mut impl HeaderSink) {
    version(head, headers);
    headers.fix(&ACCEPT_RANGES, "bytes");
    headers.lines(&head.fields);
}

fn version(head: &Head, headers: &mut impl HeaderSink) {
    if !head.etag.as_str().is_empty() {
        headers.tag(&head.etag);
    }
    if let Some(time) = head.last_modified {
        headers.make(&LAST_MODIFIED, format_args!("{}", HttpDate::from(time)));
    }
}

/// True when a part of the object is answered. An empty object is always answered whole, since no range can name its
/// bytes, and so is one whose length is unknown.
pub(super) fn is_partial(answer: &ReadResult, ranged: bool) -> bool {
    ranged && answer.head.size > 0 && answer.head.is_sized()
}

/// The length of the body, and which bytes of the object it holds; nothing for an object whose length is unknown.
pub(super) fn extent(bytes: &Range<u64>, size: u64, partial: bool, headers: &mut impl HeaderSink) {
    if size == Head::UNSIZED {
        return;
    }
    headers.number(&CONTENT_LENGTH, bytes.end - bytes.start);
    if partial {
        let (first, last) = (bytes.start, bytes.end.saturating_sub(1));
        headers.make(&CONTENT_RANGE, format_args!("bytes {first}-{last}/{size}"));
    }
}

/// Where the answer is from, and how long ago S3 confirmed it.
pub(super) fn provenance(answer: &ReadResult, source: &'static str, headers: &mut impl HeaderSink) {
    headers.fix(&X_FALCON_CACHE, source);
    headers.number(&AGE, answer.age.as_secs());
}

/// A head for tests, with every field set.
#[cfg(test)]
pub(super) fn sample() -> Head {
    Head {
        etag: "\"v1\"".into(),
        size: 10,
        last_modified: Some(std::time::SystemTime::UNIX_EPOCH),
        fields: FieldLines::from_iter([
            ("cache-control", "max-age=5"),
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("content-disposition", "attachment; filename=\"ü\""),
            ("content-language", "de"),
            ("expires", "0"),
            ("x-amz-version-id", "3"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-naïve name", "line\nbreak"),
            ("x-amz-tagging-count", "2"),
        ]),
        checksums: FieldLines::from_iter([("x-amz-checksum-crc32", "AAAAAA==")]),
        whole_only: false,
        checksums_known: true,
        parts: object::Parts::default(),
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
