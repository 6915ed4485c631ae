//! Writes: one object in one request, and deletes.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;

use super::{Error, Origin, blank};
use crate::object::{ETag, ObjectId};

/// The slowest upload that is waited for, in bytes a second.
const SLOWEST_UPLOAD: u64 = 256 * 1024;

/// How many times longer than a read a write is waited for: its answer comes when it is done, a read's with the first
/// byte.
const WRITE_PATIENCE: u32 = 6;

/// S3 deletes a thousand objects one by one, and answers when the last one is gone.
const DELETING: Duration = Duration::from_mins(5);

/// S3's limit for one call.
const DELETE_AT_ONCE: usize = 1000;

/// What is stored with an object besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `x-amz-meta-*`, names without the prefix.
    pub metadata: Vec<(String, String)>,
}

impl Headers {
    /// As the SDK wants it; `None` if there is none.
    pub(super) fn map(&self) -> Option<std::collections::HashMap<String, String>> {
        (!self.metadata.is_empty()).then(|| self.metadata.iter().cloned().collect())
    }
}

impl Origin {
    /// Stores `body` as the object's new version.
    pub async fn put(
        &self,
        object: &ObjectId,
        headers: &Headers,
        body: Bytes,
    ) -> Result<ETag, Error> {
        let wait = self.write_wait(body.len() as u64);
        let answer = self
            .write("PutObject", wait, |attempts| {
                let put = self
                    .0
                    .client
                    .put_object()
                    .bucket(object.bucket())
                    .key(blank::sendable(object.key()))
                    .set_content_type(headers.content_type.clone())
                    .set_cache_control(headers.cache_control.clone())
                    .set_content_encoding(headers.content_encoding.clone())
                    .set_content_disposition(headers.content_disposition.clone())
                    .set_metadata(headers.map())
                    .body(ByteStream::from(body.clone()))
                    .customize()
                    .interceptor(attempts);
                let put = if self.0.tls {
                    put.disable_payload_signing()
                } else {
                    put
                };
                put.send()
            })
            .await?;
        stored(answer.e_tag())
    }

    /// Deletes the object. It is not an error if there is none.
    pub async fn delete(&self, object: &ObjectId) -> Result<(), Error> {
        self.write("DeleteObject", self.write_wait(0), |attempts| {
            self.0
                .client
                .delete_object()
                .bucket(object.bucket())
                .key(blank::sendable(object.key()))
                .customize()
                .interceptor(attempts)
                .send()
        })
        .await?;
        Ok(())
    }

    /// Deletes many objects, a thousand with each request. Returns the keys that were not deleted, and why.
    ///
    /// If it fails as a whole, some may be gone.
    pub async fn delete_many(
        &self,
        bucket: &str,
        keys: &[String],
    ) -> Result<Vec<(String, Error)>, Error> {
        let mut stayed = Vec::new();
        let (plain, strange): (Vec<_>, Vec<_>) = keys.iter().partition(|key| fits_xml(key));
        for keys in plain.chunks(DELETE_AT_ONCE) {
            stayed.append(&mut self.delete_at_once(bucket, keys).await?);
        }
        for key in strange {
            let Ok(object) = ObjectId::new(bucket, key) else {
                continue; // S3 can't hold it
            };
            match self.delete(&object).await {
                Ok(()) => {}
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => stayed.push((key.clone(), error)),
            }
        }
        Ok(stayed)
    }

    async fn delete_at_once(
        &self,
        bucket: &str,
        keys: &[&String],
    ) -> Result<Vec<(String, Error)>, Error> {
        let objects = keys
            .iter()
            .map(|key| {
                let object = ObjectIdentifier::builder().key(key.as_str()).build();
                object.expect("it has a key")
            })
            .collect();
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build()
            .expect("it has objects");
        let answer = self
            .write("DeleteObjects", DELETING, |attempts| {
                self.0
                    .client
                    .delete_objects()
                    .bucket(bucket)
                    .delete(delete.clone())
                    .customize()
                    .interceptor(attempts)
                    .send()
            })
            .await?;
        let stayed = answer.errors().iter().map(|error| {
            let key = error.key().unwrap_or_default().to_owned();
            let status = match error.code() {
                Some("AccessDenied") => 403,
                Some("SlowDown") => 503,
                Some("InternalError") => 500,
                _ => 400,
            };
            (
                key,
                Error::from_answer(status, error.code(), error.message()),
            )
        });
        Ok(stayed.collect())
    }

    /// How long to wait for S3's answer to a read.
    pub fn read_wait(&self) -> Duration {
        self.0.timeout
    }

    /// How long to wait for S3's answer to a write of this many bytes, including the time to send them.
    pub fn write_wait(&self, bytes: u64) -> Duration {
        self.0.timeout * WRITE_PATIENCE + Duration::from_secs(bytes / SLOWEST_UPLOAD)
    }
}

pub(super) fn stored(etag: Option<&str>) -> Result<ETag, Error> {
    etag.map(ETag::from)
        .ok_or_else(|| Error::Broken("it stored the object, and gave no ETag".to_owned()))
}

/// False for keys that XML can't carry: most control characters are not allowed there.
fn fits_xml(key: &str) -> bool {
    !key.chars()
        .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}
