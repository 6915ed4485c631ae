//! Ranged reads, heads and "still this version?", each answer checked before it is handed on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;

use super::{Body, Error, Origin};
use crate::object::{ETag, FieldLines, Head, ObjectId};

/// S3's answer to a read.
#[derive(Debug)]
pub struct Reply {
    /// The version that the bytes are of.
    pub head: Head,
    /// Which bytes of it the body holds: as asked, cut at the object's end. More only where the origin knows no
    /// ranges and sends the whole object.
    pub range: Range<u64>,
    /// The bytes.
    pub body: Body,
}

/// S3's answer to "still this version?".
#[derive(Debug)]
pub enum Revalidation {
    /// The same version, with the same headers.
    Unchanged,
    /// What the origin holds now. The tag may be the old one: then only the headers are new, and blocks stay good.
    Changed(Head),
}

impl Origin {
    /// Reads `range`; its end may lie beyond the object. With `if_match` it reads that version or none.
    ///
    /// The answer is a version's: its tag, its size, exactly the bytes asked for. An empty object has no range to
    /// read, so asking for one gives [`Error::RangeNotSatisfiable`]; `head` tells its size.
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
        let answer = self
            .call("GetObject", self.0.timeout, || {
                self.0
                    .client
                    .get_object()
                    .bucket(object.bucket())
                    .key(object.key())
                    .range(&asked)
                    .set_if_match(if_match.map(|etag| etag.as_str().to_owned()))
                    .customize()
                    .mutate_request(with_checksums)
                    .send()
            })
            .await?;
        let (got, size) = check_range(&range, answer.content_range(), answer.content_length())?;
        let head = head_of_get(&answer, size, got == (0..size))?;
        // Whether or not the origin heeds If-Match: the tag in the answer decides.
        if if_match.is_some_and(|wanted| *wanted != head.etag) {
            return Err(Error::VersionChanged);
        }
        let body = Body::new(
            answer.body,
            got.end - got.start,
            self.0.idle_timeout,
            Arc::clone(&self.0.name),
            Arc::clone(&self.0.metrics),
        );
        Ok(Reply {
            head,
            range: got,
            body,
        })
    }

    /// What the origin holds now.
    pub async fn head(&self, object: &ObjectId) -> Result<Head, Error> {
        let answer = self
            .call("HeadObject", self.0.timeout, || {
                self.0
                    .client
                    .head_object()
                    .bucket(object.bucket())
                    .key(object.key())
                    .customize()
                    .mutate_request(with_checksums)
                    .send()
            })
            .await?;
        head_of_head(&answer)
    }

    /// Asks whether `known` is still what the origin holds. No bytes are read.
    ///
    /// An origin that ignores the condition answers with its head; the same tag and date mean the same then.
    pub async fn revalidate(&self, object: &ObjectId, known: &Head) -> Result<Revalidation, Error> {
        let answer = self
            .call("HeadObject", self.0.timeout, || {
                self.0
                    .client
                    .head_object()
                    .bucket(object.bucket())
                    .key(object.key())
                    .if_none_match(known.etag.as_str())
                    .customize()
                    .mutate_request(with_checksums)
                    .send()
            })
            .await;
        match answer {
            Ok(answer) => {
                let head = head_of_head(&answer)?;
                if head.etag == known.etag && head.last_modified == known.last_modified {
                    return Ok(Revalidation::Unchanged);
                }
                Ok(Revalidation::Changed(head))
            }
            Err(Error::Refused { status: 304, .. }) => Ok(Revalidation::Unchanged),
            Err(error) => Err(error),
        }
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

/// The bytes that an answer holds and the size of the object: exactly what was asked for, or an error.
fn check_range(
    asked: &Range<u64>,
    content_range: Option<&str>,
    content_length: Option<i64>,
) -> Result<(Range<u64>, u64), Error> {
    let length = content_length.and_then(|length| u64::try_from(length).ok());
    let Some(said) = content_range else {
        return match length {
            Some(size) if asked.start == 0 => Ok((0..size, size)),
            Some(_) => Err(Error::Broken(format!(
                "bytes from {} on were asked for, and it sent the whole object",
                asked.start
            ))),
            None => Err(Error::Broken("it names no length".to_owned())),
        };
    };
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

/// The fields that an answer of either type may have. The SDK gives each of its types the same methods, and no trait.
macro_rules! fields {
    ($answer:ident) => {{
        let text = |value: Option<&str>| value.map(ToOwned::to_owned);
        let stored = [
            ("cache-control", text($answer.cache_control())),
            ("content-type", text($answer.content_type())),
            ("content-encoding", text($answer.content_encoding())),
            ("content-disposition", text($answer.content_disposition())),
            ("content-language", text($answer.content_language())),
            ("expires", text($answer.expires_string())),
            ("x-amz-version-id", text($answer.version_id())),
            (
                "x-amz-storage-class",
                $answer.storage_class().map(|it| it.to_string()),
            ),
            (
                "x-amz-server-side-encryption",
                $answer.server_side_encryption().map(|it| it.to_string()),
            ),
            (
                "x-amz-server-side-encryption-aws-kms-key-id",
                text($answer.ssekms_key_id()),
            ),
            (
                "x-amz-server-side-encryption-bucket-key-enabled",
                $answer.bucket_key_enabled().map(|it| it.to_string()),
            ),
            (
                "x-amz-tagging-count",
                $answer.tag_count().map(|it| it.to_string()),
            ),
            (
                "x-amz-website-redirect-location",
                text($answer.website_redirect_location()),
            ),
            (
                "x-amz-object-lock-mode",
                $answer.object_lock_mode().map(|it| it.to_string()),
            ),
            (
                "x-amz-object-lock-retain-until-date",
                $answer
                    .object_lock_retain_until_date()
                    .map(|it| it.to_string()),
            ),
            (
                "x-amz-object-lock-legal-hold",
                $answer
                    .object_lock_legal_hold_status()
                    .map(|it| it.to_string()),
            ),
            (
                "x-amz-replication-status",
                $answer.replication_status().map(|it| it.to_string()),
            ),
            ("x-amz-restore", text($answer.restore())),
            ("x-amz-expiration", text($answer.expiration())),
        ];
        let stored = stored
            .into_iter()
            .map(|(name, value)| (Cow::Borrowed(name), value));
        given(stored.chain(metadata($answer.metadata())))
    }};
}

macro_rules! checksums {
    ($answer:ident) => {
        given([
            ("x-amz-checksum-crc32", $answer.checksum_crc32()),
            ("x-amz-checksum-crc32c", $answer.checksum_crc32_c()),
            ("x-amz-checksum-crc64nvme", $answer.checksum_crc64_nvme()),
            ("x-amz-checksum-sha1", $answer.checksum_sha1()),
            ("x-amz-checksum-sha256", $answer.checksum_sha256()),
            (
                "x-amz-checksum-type",
                $answer.checksum_type().map(|it| it.as_str()),
            ),
        ])
    };
}

/// Those that have a value.
fn given<N: AsRef<str>, V: AsRef<str>>(
    said: impl IntoIterator<Item = (N, Option<V>)>,
) -> FieldLines {
    said.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

macro_rules! head {
    ($answer:ident, $size:expr, $checksums:expr) => {
        Head {
            etag: etag($answer.e_tag())?,
            size: $size,
            last_modified: time($answer.last_modified()),
            fields: fields!($answer),
            checksums: $checksums,
        }
    };
}

/// `whole`: the answer holds all bytes of the object.
fn head_of_get(answer: &GetObjectOutput, size: u64, whole: bool) -> Result<Head, Error> {
    // A part's checksum is not the object's.
    let checksums = if whole {
        checksums!(answer)
    } else {
        FieldLines::default()
    };
    Ok(head!(answer, size, checksums))
}

fn head_of_head(answer: &HeadObjectOutput) -> Result<Head, Error> {
    let size = answer
        .content_length()
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Error::Broken("it names no length".to_owned()))?;
    Ok(head!(answer, size, checksums!(answer)))
}

fn etag(said: Option<&str>) -> Result<ETag, Error> {
    said.filter(|tag| !tag.is_empty())
        .map(ETag::from)
        .ok_or_else(|| Error::Broken("it names no ETag".to_owned()))
}

pub(super) fn time(said: Option<&DateTime>) -> Option<SystemTime> {
    said.and_then(|time| SystemTime::try_from(*time).ok())
}

/// User metadata under the names of its headers, sorted.
fn metadata(said: Option<&HashMap<String, String>>) -> Vec<(Cow<'static, str>, Option<String>)> {
    let said = said.into_iter().flatten();
    let mut fields: Vec<_> = said
        .map(|(name, value)| (format!("x-amz-meta-{name}").into(), Some(value.clone())))
        .collect();
    fields.sort();
    fields
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

    #[test]
    fn the_bytes_are_exactly_those_asked_for_or_up_to_the_end() {
        let ok = |asked, said, length| check_range(&asked, said, length).unwrap();
        assert_eq!(ok(0..4, Some("bytes 0-3/10"), Some(4)), (0..4, 10));
        assert_eq!(ok(8..99, Some("bytes 8-9/10"), None), (8..10, 10));
        assert_eq!(ok(0..4, None, Some(10)), (0..10, 10));

        let broken = |asked, said, length| {
            let answer = check_range(&asked, said, length);
            assert!(matches!(answer, Err(Error::Broken(_))), "{answer:?}");
        };
        broken(0..4, Some("bytes 1-4/10"), Some(4)); // shifted
        broken(0..4, Some("bytes 0-2/10"), Some(3)); // short
        broken(0..4, Some("bytes 0-9/10"), Some(10)); // long
        broken(0..4, Some("bytes 0-3/10"), Some(5)); // two lengths
        broken(0..4, Some("bytes 0-3/*"), Some(4)); // no size
        broken(2..4, None, Some(10)); // the whole object, from its start
        broken(0..4, None, None);
    }

    #[test]
    fn a_range_without_an_end_is_asked_for_without_one() {
        assert_eq!(range_header(&(5..u64::MAX)), "bytes=5-");
        assert_eq!(range_header(&(0..1)), "bytes=0-0");
    }
}
