//! Conditions, bodies and names, as S3 wants them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use s3s::dto::{ETag, ETagCondition, StreamingBlob, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::world::{Content, State, Stored};

/// Pieces in which bodies are sent.
const PIECE: usize = 256 * 1024;

pub(super) fn object(state: &State, bucket: &str, key: &str) -> S3Result<Arc<Stored>> {
    if !state.buckets.contains(bucket) {
        return Err(s3_error!(NoSuchBucket, "the bucket does not exist"));
    }
    let found = state.objects.get(&(bucket.to_owned(), key.to_owned()));
    found
        .cloned()
        .ok_or_else(|| s3_error!(NoSuchKey, "the key does not exist"))
}

/// The four conditions of a read, in HTTP's order.
pub(super) fn check_read(
    stored: &Stored,
    if_match: Option<&ETagCondition>,
    if_unmodified: Option<&Timestamp>,
    if_none_match: Option<&ETagCondition>,
    if_modified: Option<&Timestamp>,
) -> S3Result<()> {
    let names = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.value() == stored.etag,
    };
    let failed = match (if_match, if_unmodified) {
        (Some(condition), _) => !names(condition),
        (None, Some(date)) => stored.timestamp() > *date,
        (None, None) => false,
    };
    if failed {
        return Err(s3_error!(PreconditionFailed, "a condition did not hold"));
    }
    let same = match (if_none_match, if_modified) {
        (Some(condition), _) => names(condition),
        (None, Some(date)) => stored.timestamp() <= *date,
        (None, None) => false,
    };
    if same {
        let mut error = S3Error::new(S3ErrorCode::NotModified);
        let tag = format!("\"{}\"", stored.etag).parse().expect("hex");
        error.set_headers([(http::header::ETAG, tag)].into_iter().collect());
        return Err(error);
    }
    Ok(())
}

pub(super) fn check_write(
    state: &State,
    bucket: &str,
    key: &str,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    if !state.buckets.contains(bucket) {
        return Err(s3_error!(NoSuchBucket, "the bucket does not exist"));
    }
    let there = state.objects.get(&(bucket.to_owned(), key.to_owned()));
    let names = |condition: &ETagCondition| match (condition, there) {
        (_, None) => false,
        (ETagCondition::Any, Some(_)) => true,
        (ETagCondition::ETag(tag), Some(stored)) => tag.value() == stored.etag,
    };
    if if_match.is_some_and(|c| !names(c)) || if_none_match.is_some_and(names) {
        return Err(s3_error!(PreconditionFailed, "a condition did not hold"));
    }
    Ok(())
}

pub(super) fn pieces(
    content: Content,
    range: std::ops::Range<u64>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let end = range.end;
    stream::iter(range.step_by(PIECE))
        .map(move |from| Ok(content.slice(from..end.min(from + PIECE as u64))))
}

pub(super) async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else {
        return Ok(Bytes::new());
    };
    let all: BytesMut = body
        .map_err(|error| s3_error!(IncompleteBody, "{error}"))
        .try_fold(BytesMut::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await?;
    Ok(all.freeze())
}

pub(super) fn length(n: u64) -> i64 {
    i64::try_from(n).expect("objects are shorter")
}

pub(super) fn tag(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

/// As forms are encoded: that is what S3 calls `url`.
pub(super) fn form_encoded(key: &str) -> String {
    const SET: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'*')
        .remove(b'/')
        .remove(b' ');
    percent_encoding::utf8_percent_encode(key, &SET)
        .to_string()
        .replace(' ', "+")
}
