//! Ranged reads and heads, each answer checked before it is passed on.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::primitives::ByteStream;
use http::{HeaderMap, StatusCode, header};

use super::head::{head_of, length, parse_content_range};
use super::raw::{Raw, Taken};
use super::{Error, Origin, OriginBody, blank};
use crate::object::{ETag, Head, ObjectId};

/// S3's answer to a read.
#[derive(Debug)]
pub struct Reply {
    /// The version that the bytes are of.
    pub head: Head,
    /// Which of its bytes the body has: as asked, cut at the object's end. If the origin ignores ranges, everything to
    /// the object's end.
    pub range: Range<u64>,
    /// The bytes.
    pub body: OriginBody,
}

impl Reply {
    /// True when the body has these bytes.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        self.range.start <= range.start && range.end <= self.range.end
    }
}

impl Origin {
    /// Reads `range`; its end may lie beyond the object. With `if_match` it reads that version or none.
    ///
    /// The answer is of one version: its tag, its size, exactly the bytes asked for. An empty object has no range to
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
        let asked = &asked;
        let get = |checksums, taken: Taken| async move {
            let request = || {
                self.0
                    .client
                    .get_object()
                    .bucket(object.bucket())
                    .key(blank::sendable(object.key()))
                    .range(asked)
                    .set_if_match(if_match.map(|etag| etag.as_str().to_owned()))
                    .customize()
                    .mutate_request(move |request| with_checksums(request, checksums))
                    .interceptor(taken.clone())
                    .send()
            };
            let sent = self.call("GetObject", self.0.timeout, request).await;
            sent.map(drop)
        };
        let answer = self.ask(get).await.map_err(|error| error.about(object))?;
        let (got, size) = check_range(&range, answer.status, &answer.headers)?;
        let mut head = head_of(&answer.headers, size, got == (0..size));
        // An answer longer than what was asked for: the object can't be read in parts, since each would be all of it.
        head.whole_only |= got.end > range.end;
        // The tag in the answer decides, whether or not the origin honours If-Match.
        if if_match.is_some_and(|wanted| *wanted != head.etag) {
            return Err(Error::VersionChanged);
        }
        // An origin that ignores ranges begins at the beginning.
        let before = range.start.saturating_sub(got.start);
        let body = OriginBody::new(
            ByteStream::new(answer.body),
            before,
            head.is_sized().then_some(got.end - got.start),
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
    /// Asked without a condition, even if a version is known: "not modified" says nothing about headers that changed
    /// under the same tag, and a head costs no more.
    pub async fn head(&self, object: &ObjectId) -> Result<Head, Error> {
        let head = |checksums, taken: Taken| async move {
            let request = || {
                self.0
                    .client
                    .head_object()
                    .bucket(object.bucket())
                    .key(blank::sendable(object.key()))
                    .customize()
                    .mutate_request(move |request| with_checksums(request, checksums))
                    .interceptor(taken.clone())
                    .send()
            };
            let sent = self.call("HeadObject", self.0.timeout, request).await;
            sent.map(drop)
        };
        let answer = self.ask(head).await.map_err(|error| error.about(object))?;
        let headers = answer.headers;
        let size = length(&headers).unwrap_or(Head::UNSIZED);
        Ok(head_of(&headers, size, true))
    }

    /// False if the origin refused to be asked for checksums.
    pub fn tells_checksums(&self) -> bool {
        self.0.tells_checksums.load(Ordering::Relaxed)
    }

    /// One request, sent again without the header for checksums if the origin refuses that. Reading does not need them.
    async fn ask<F>(&self, send: impl Fn(bool, Taken) -> F) -> Result<Raw, Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let taken = Taken::default();
        let told = self.tells_checksums();
        match send(told, taken.clone()).await {
            Err(refusal) if told && refusal.refuses_an_option() => {
                send(false, taken.clone()).await?;
                if self.0.tells_checksums.swap(false, Ordering::Relaxed) {
                    tracing::warn!(
                        origin = &*self.0.name,
                        %refusal,
                        "the origin refuses x-amz-checksum-mode: it is no longer asked for checksums"
                    );
                }
            }
            answered => answered?,
        }
        taken.answer()
    }
}

/// Asks for the object's checksums, to pass them on. Not by the SDK's own setting, which also verifies them, against
/// only a part of the object.
fn with_checksums(request: &mut HttpRequest, wanted: bool) {
    if wanted {
        request
            .headers_mut()
            .insert("x-amz-checksum-mode", "ENABLED");
    }
}

fn range_header(range: &Range<u64>) -> String {
    // Servers parse the numbers as signed; nothing in S3 is that long.
    if range.end > i64::MAX as u64 {
        return format!("bytes={}-", range.start);
    }
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// Which bytes an answer has, and the size of the object: exactly what was asked for, all of the object, or an error.
fn check_range(
    asked: &Range<u64>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(Range<u64>, u64), Error> {
    let length = length(headers);
    let Some(said) = headers.get(header::CONTENT_RANGE) else {
        return match length {
            _ if status == StatusCode::PARTIAL_CONTENT => Err(Error::Broken(
                "it is a 206 without a Content-Range".to_owned(),
            )),
            Some(size) if asked.start == 0 || asked.start < size => Ok((0..size, size)),
            Some(_) => Err(Error::RangeNotSatisfiable),
            None => Ok((0..Head::UNSIZED, Head::UNSIZED)),
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
            "bytes {}-{} were requested; it sent {said:?}",
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

/// The range of an empty object, which HTTP can't express: servers write `bytes 0-0/0`, `bytes 0--1/0` or `bytes */0`.
fn is_of_nothing(content_range: &str) -> bool {
    let range = content_range.trim().strip_prefix("bytes ");
    range
        .and_then(|range| range.rsplit_once('/'))
        .is_some_and(|(_, size)| size == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let unsized_ = (0..Head::UNSIZED, Head::UNSIZED);
        assert_eq!(checked(0..4, 200, None, None).unwrap(), unsized_);
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
