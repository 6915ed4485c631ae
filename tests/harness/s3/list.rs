//! ListObjectsV2 of the S3 of the tests.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto::{CommonPrefix, ETag, EncodingType, ListObjectsV2Input, ListObjectsV2Output, Object};
use s3s::{S3Result, s3_error};

use super::rules::form_encoded;
use super::world::State;

const PAGE: i32 = 1000;

pub(super) fn list(state: &State, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    if !state.buckets.contains(&input.bucket) {
        return Err(s3_error!(NoSuchBucket));
    }
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = input.delimiter.unwrap_or_default();
    let given = input.continuation_token.as_deref().map(decoded);
    let after = given.or(input.start_after);
    let url = input
        .encoding_type
        .as_ref()
        .is_some_and(|e| e.as_str() == EncodingType::URL);
    let encode = |key: &str| {
        if url {
            form_encoded(key)
        } else {
            key.to_owned()
        }
    };
    let limit = usize::try_from(input.max_keys.unwrap_or(PAGE).clamp(0, PAGE)).expect("small");

    let mut contents = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    let mut last = None;
    let mut truncated = false;
    for ((bucket, key), stored) in &state.objects {
        let wanted = *bucket == input.bucket
            && key.starts_with(&prefix)
            && after
                .as_ref()
                .is_none_or(|after| key > after && !folded_under(after, key, &delimiter));
        if !wanted {
            continue;
        }
        let folder = folder(key, &prefix, &delimiter);
        if folder.is_some() && prefixes.last() == folder.as_ref() {
            continue;
        }
        if contents.len() + prefixes.len() == limit {
            truncated = true;
            break;
        }
        // A folder's last key is beyond all in it: the page after it begins behind the folder.
        last = Some(folder.clone().unwrap_or_else(|| key.clone()));
        if let Some(folder) = folder {
            prefixes.push(folder);
            continue;
        }
        contents.push(Object {
            key: Some(encode(key)),
            size: Some(i64::try_from(stored.content.len()).expect("objects are shorter")),
            e_tag: Some(ETag::Strong(stored.etag.clone())),
            last_modified: Some(stored.timestamp()),
            ..Default::default()
        });
    }
    let common_prefixes = prefixes.iter().map(|folder| CommonPrefix {
        prefix: Some(encode(folder)),
    });
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encode(&prefix)),
        key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
        max_keys: i32::try_from(limit).ok(),
        is_truncated: Some(truncated),
        next_continuation_token: last.filter(|_| truncated).map(|last| token(&last)),
        continuation_token: input.continuation_token,
        common_prefixes: Some(common_prefixes.collect()),
        contents: Some(contents),
        delimiter: (!delimiter.is_empty()).then_some(delimiter),
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}

/// The part of the key up to the delimiter behind the prefix.
fn folder(key: &str, prefix: &str, delimiter: &str) -> Option<String> {
    if delimiter.is_empty() {
        return None;
    }
    let end = key[prefix.len()..].find(delimiter)?;
    Some(key[..prefix.len() + end + delimiter.len()].to_owned())
}

fn folded_under(token: &str, key: &str, delimiter: &str) -> bool {
    !delimiter.is_empty() && token.ends_with(delimiter) && key.starts_with(token)
}

/// Tokens are plain text; keys need not be.
fn token(last: &str) -> String {
    utf8_percent_encode(last, NON_ALPHANUMERIC).to_string()
}

fn decoded(token: &str) -> String {
    percent_decode_str(token).decode_utf8_lossy().into_owned()
}
