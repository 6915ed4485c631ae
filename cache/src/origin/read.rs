//! Ranged reads and heads, each answer checked before it is handed on.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::primitives::ByteStream;
use http::{HeaderMap, StatusCode, header};

use super::head::{head_of, length};
use super::raw::Taken;
use super::{Body, Error, Origin};
use crate::object::{ETag, Head, ObjectId};

/// S3's answer to a read.
#[derive(Debug)]
pub struct Reply {
    /// The version that the bytes are of.
    pub head: Head,
    /// Which bytes of it the body gives: as asked, cut at the object's end. Where the origin knows no ranges, all to the
    /// object's end.
    pub range: Range<u64>,
    /// The bytes.
    pub body: Body,
}

impl Origin {
    /// Reads `range`; its end may lie beyond the object. With `if_match` it reads that version or none.
    ///
    /// The answer is a version's: its tag, its size, exactly the bytes asked for. An empty object has no range to
    /// read, so asking for one may give [`Error::RangeNotSatisfiable`]; `head` tells its size.
    pub async fn read(
        &self,
        object: &ObjectId,
        range: Range<u64>,
        if_match: Option<&ETag>,
    ) -> Result<Reply, Error> {
        if range.is_empty() {
            return Err(Error::RangeNotSatisfiable);
        }
        let asked = range_header(&range);
        let taken = Taken::default();
        self.call("GetObject", self.0.timeout, || {
            self.0
                .client
                .get_object()
                .bucket(object.bucket())
                .key(object.key())
                .range(&asked)
                .set_if_match(if_match.map(|etag| etag.as_str().to_owned()))
                .customize()
                .mutate_request(with_checksums)
                .interceptor(taken.clone())
                .send()
        })
        .await?;
        let answer = taken.answer()?;
        let (got, size) = check_range(&range, answer.status, &answer.headers)?;
        let head = head_of(&answer.headers, size, got == (0..size))?;
        // Whether or not the origin heeds If-Match: the tag in the answer decides.
        if if_match.is_some_and(|wanted| *wanted != head.etag) {
            return Err(Error::VersionChanged);
        }
        // An origin that knows no ranges begins at the beginning.
        let before = range.start.saturating_sub(got.start);
        let body = Body::new(
            ByteStream::new(answer.body),
            before,
            got.end - got.start,
            self.0.idle_timeout,
            Arc::clone(&self.0.name),
            Arc::clone(&self.0.metrics),
        );
        Ok(Reply {
            head,
            range: got.start + before..got.end,
            body,
        })
    }

    /// What the origin holds now.
    ///
    /// Asked without a condition, also where a version is known: "not modified" says nothing of headers that have changed
    /// under one tag, and a head without bytes costs the same.
    pub async fn head(&self, object: &ObjectId) -> Result<Head, Error> {
        let taken = Taken::default();
        self.call("HeadObject", self.0.timeout, || {
            self.0
                .client
                .head_object()
                .bucket(object.bucket())
                .key(object.key())
                .customize()
                .mutate_request(with_checksums)
                .interceptor(taken.clone())
                .send()
        })
        .await?;
        let headers = taken.answer()?.headers;
        let size =
            length(&headers).ok_or_else(|| Error::Broken("it names no length".to_owned()))?;
        head_of(&headers, size, true)
    }
}

/// Asks for the object's checksums, to hand them on. Not by the SDK's own setting: that one also verifies them, against
/// a part of the object.
fn with_checksums(request: &mut HttpRequest) {
    request
        .headers_mut()
        .insert("x-amz-checksum-mode", "ENABLED");
}

fn range_header(range: &Range<u64>) -> String {
    // Servers read the numbers as signed; nothing in S3 is that long.
    if range.end > i64::MAX as u64 {
        return format!("bytes={}-", range.start);
    }
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// The bytes that an answer holds and the size of the object: exactly what was asked for, all of the object, or an error.
fn check_range(
    asked: &Range<u64>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(Range<u64>, u64), Error> {
    let length = length(headers);
    let Some(said) = headers.get(header::CONTENT_RANGE) else {
        return match length {
            _ if status == StatusCode::PARTIAL_CONTENT => Err(Error::Broken(
                "it is a part, and does not say of what: 206 must come with Content-Range"
                    .to_owned(),
            )),
            Some(size) if asked.start == 0 || asked.start < size => Ok((0..size, size)),
            Some(_) => Err(Error::RangeNotSatisfiable),
            None => Err(Error::Broken("it names no length".to_owned())),
        };
    };
    let said = said.to_str().unwrap_or_default();
    if asked.start == 0 && is_of_nothing(said) && length.is_none_or(|length| length == 0) {
        return Ok((0..0, 0));
    }
    let (got, size) = parse_content_range(said)
        .ok_or_else(|| Error::Broken(format!("its Content-Range is {said:?}")))?;
    let wanted = asked.start..asked.end.min(size);
    if got != wanted {
        return Err(Error::Broken(format!(
            "bytes {}-{} were asked for, and it sent {said:?}",
            asked.start,
            asked.end - 1
        )));
    }
    match length {
        Some(length) if length != got.end - got.start => Err(Error::Broken(format!(
            "its Content-Length is {length} and its Content-Range {said:?}"
        ))),
        _ => Ok((got, size)),
    }
}

/// The range of an empty object, which no words can name: servers write `bytes 0-0/0`, `bytes 0--1/0` or `bytes */0`.
fn is_of_nothing(content_range: &str) -> bool {
    let range = content_range.trim().strip_prefix("bytes ");
    range
        .and_then(|range| range.rsplit_once('/'))
        .is_some_and(|(_, size)| size == "0")
}

/// `bytes first-last/size`, all three there and in order.
pub fn parse_content_range(value: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (number(first)?, number(last)?, number(size)?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// Digits only: `parse` would take a sign.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn checked(
        asked: Range<u64>,
        status: u16,
        said: Option<&str>,
        length: Option<u64>,
    ) -> Result<(Range<u64>, u64), Error> {
        let mut headers = HeaderMap::new();
        if let Some(said) = said {
            headers.insert(header::CONTENT_RANGE, said.parse().unwrap());
        }
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        check_range(&asked, StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn the_bytes_are_exactly_those_asked_for_or_up_to_the_end() {
        let ok = |asked, said, length| checked(asked, 206, said, length).unwrap();
        assert_eq!(ok(0..4, Some("bytes 0-3/10"), Some(4)), (0..4, 10));
        assert_eq!(ok(8..99, Some("bytes 8-9/10"), None), (8..10, 10));

        let broken = |asked, said, length| {
            let answer = checked(asked, 206, said, length);
            assert!(matches!(answer, Err(Error::Broken(_))), "{answer:?}");
        };
        broken(0..4, Some("bytes 1-4/10"), Some(4)); // shifted
        broken(0..4, Some("bytes 0-2/10"), Some(3)); // short
        broken(0..4, Some("bytes 0-9/10"), Some(10)); // long
        broken(0..4, Some("bytes 0-3/10"), Some(5)); // two lengths
        broken(0..4, Some("bytes 0-3/*"), Some(4)); // no size
        broken(0..4, None, Some(4)); // a part of what?
        broken(0..4, None, None);
    }

    #[test]
    fn an_origin_that_knows_no_ranges_sends_all_of_the_object() {
        assert_eq!(checked(0..4, 200, None, Some(10)).unwrap(), (0..10, 10));
        assert_eq!(checked(2..4, 200, None, Some(10)).unwrap(), (0..10, 10));
        assert_eq!(checked(0..4, 200, None, Some(0)).unwrap(), (0..0, 0));
        let beyond = checked(10..12, 200, None, Some(10));
        assert!(matches!(beyond, Err(Error::RangeNotSatisfiable)));
        let endless = checked(0..4, 200, None, None);
        assert!(matches!(endless, Err(Error::Broken(_))));
    }

    #[test]
    fn a_range_of_an_empty_object_is_of_no_bytes_however_it_is_written() {
        for said in [
            "bytes 0-0/0",
            "bytes 0--1/0",
            "bytes */0",
            "bytes 0-8388607/0",
        ] {
            assert_eq!(checked(0..4, 206, Some(said), Some(0)).unwrap(), (0..0, 0));
            assert!(checked(0..4, 206, Some(said), Some(1)).is_err(), "{said}");
            assert!(checked(1..4, 206, Some(said), Some(0)).is_err(), "{said}");
        }
    }

    #[test]
    fn a_range_without_an_end_is_asked_for_without_one() {
        assert_eq!(range_header(&(5..u64::MAX)), "bytes=5-");
        assert_eq!(range_header(&(0..1)), "bytes=0-0");
    }
}
