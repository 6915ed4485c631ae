//! Lists of exact keys: S3 sends them encoded, since XML can't carry every key.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat as Format};
use aws_sdk_s3::types::{EncodingType, Object};
use percent_encoding::percent_decode_str;

use super::{Error, Origin};
use crate::object::ETag;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// In the order of the keys' bytes.
    pub objects: Vec<ListedObject>,
    /// Where the next page begins; `None` on the last one.
    pub cursor: Option<String>,
}

/// One object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key, exactly.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// Its version, where the list names it.
    pub etag: Option<ETag>,
    /// When it was stored.
    pub last_modified: Option<SystemTime>,
}

/// The origin's buckets, all of them.
#[derive(Debug)]
pub struct Buckets {
    /// The account's id.
    pub owner_id: Option<String>,
    /// The account's name.
    pub owner_name: Option<String>,
    /// Names, each with its creation time in RFC 3339 form.
    pub buckets: Vec<(String, String)>,
}

impl Origin {
    /// The buckets that the node's keys may list.
    pub async fn buckets(&self) -> Result<Buckets, Error> {
        let answer = self
            .call("ListBuckets", self.0.timeout, || {
                self.0.client.list_buckets().send()
            })
            .await?;
        let text = |said: Option<&str>| said.map(str::to_owned);
        let owner = answer.owner();
        let buckets = answer.buckets().iter().filter_map(|bucket| {
            let made = bucket.creation_date();
            let made = made.and_then(|time| time.fmt(Format::DateTime).ok());
            Some((bucket.name()?.to_owned(), made.unwrap_or_default()))
        });
        Ok(Buckets {
            owner_id: owner.and_then(|owner| text(owner.id())),
            owner_name: owner.and_then(|owner| text(owner.display_name())),
            buckets: buckets.collect(),
        })
    }

    /// The first `limit` objects, or the next after `cursor`, whose keys begin with `prefix`. S3 gives at most 1,000.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<ListPage, Error> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let answer = self
            .call("ListObjectsV2", self.0.timeout, || {
                self.0
                    .client
                    .list_objects_v2()
                    .bucket(bucket)
                    .prefix(prefix)
                    .max_keys(limit)
                    .encoding_type(EncodingType::Url)
                    .set_continuation_token(cursor.map(ToOwned::to_owned))
                    .send()
            })
            .await?;
        // An origin that doesn't encode doesn't say that it did.
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let objects = answer
            .contents()
            .iter()
            .map(|object| entry(object, encoded));
        let more = answer.is_truncated() == Some(true);
        let cursor = answer.next_continuation_token().filter(|_| more);
        if more && cursor.is_none() {
            return Err(Error::Broken(
                "its list is truncated, without a continuation token".to_owned(),
            ));
        }
        Ok(ListPage {
            objects: objects.collect::<Result<_, _>>()?,
            cursor: cursor.map(ToOwned::to_owned),
        })
    }
}

/// A whole list, page by page.
pub struct Pages {
    origin: Origin,
    bucket: String,
    prefix: String,
    limit: u32,
    /// Where the next page begins; `None` before the first page and after the last.
    cursor: Option<String>,
    /// The cursors that were followed, by hash: 8 bytes for each page of a thousand keys.
    followed: HashSet<u64>,
    is_over: bool,
}

impl Pages {
    /// The objects in `bucket` whose keys begin with `prefix`, at most `limit` on a page.
    pub fn new(origin: Origin, bucket: &str, prefix: &str, limit: u32) -> Self {
        Self {
            origin,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            limit,
            cursor: None,
            followed: HashSet::new(),
            is_over: false,
        }
    }

    /// The same list after the page `first`.
    #[must_use]
    pub fn after(mut self, first: &ListPage) -> Self {
        self.is_over = first.cursor.is_none();
        self.cursor.clone_from(&first.cursor);
        self.followed.extend(first.cursor.as_deref().map(hash));
        self
    }

    /// True when the last page has been read.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next page, `None` after the last. A list that repeats itself is an error, since it would never end.
    pub async fn next(&mut self) -> Result<Option<Vec<ListedObject>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let listed = self.origin.list(
            &self.bucket,
            &self.prefix,
            self.limit,
            self.cursor.as_deref(),
        );
        let listed = listed.await?;
        if let Some(cursor) = &listed.cursor
            && !self.followed.insert(hash(cursor))
        {
            return Err(Error::Broken(format!(
                "its list repeats the continuation token {cursor:?}, and would never end"
            )));
        }
        self.is_over = listed.cursor.is_none();
        self.cursor = listed.cursor;
        Ok(Some(listed.objects))
    }
}

fn hash(cursor: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    cursor.hash(&mut hasher);
    hasher.finish()
}

fn entry(object: &Object, encoded: bool) -> Result<ListedObject, Error> {
    let key = object
        .key()
        .ok_or_else(|| Error::Broken("its list has an object without a key".to_owned()))?;
    let key = if encoded {
        decode(key)?
    } else {
        key.to_owned()
    };
    Ok(ListedObject {
        key,
        size: object
            .size()
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0),
        etag: object.e_tag().map(ETag::from),
        last_modified: time(object.last_modified()),
    })
}

fn time(said: Option<&DateTime>) -> Option<SystemTime> {
    said.and_then(|time| SystemTime::try_from(*time).ok())
}

/// S3 encodes as HTML forms do: a blank is `+`, and a plus is `%2B`.
fn decode(key: &str) -> Result<String, Error> {
    let blanks = key.replace('+', " ");
    percent_decode_str(&blanks)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Error::Broken(format!("its list has the key {key:?}, which is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_decoded_once() {
        for (listed, key) in [
            ("a%23b", "a#b"),
            ("a//b", "a//b"),
            ("a+b%2Bc", "a b+c"),
            ("%252F", "%2F"),
            ("%E2%82%AC", "€"),
        ] {
            assert_eq!(decode(listed).unwrap(), key);
        }
        assert!(decode("%FF").is_err());
    }
}
