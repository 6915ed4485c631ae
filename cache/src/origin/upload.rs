//! Multipart uploads. Parts that never become an object are billed, so none are left behind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::time::sleep;

use super::write::stored;
use super::{Error, Headers, Origin, blank};
use crate::object::{ETag, ObjectId};

/// S3 may take minutes to join the parts of a large object, and sends nothing until then.
const JOIN: Duration = Duration::from_mins(10);

/// A failed abort is tried again, since nothing else will abort the upload.
const ABORTS: u32 = 5;
const BETWEEN_ABORTS: Duration = Duration::from_secs(2);

/// A multipart upload. Unless it is completed it is aborted, at the latest when it is dropped.
#[derive(Debug)]
pub struct Upload {
    place: UploadTarget,
    parts: Mutex<BTreeMap<i32, String>>,
    finished: bool,
}

/// What names an upload at S3.
#[derive(Debug, Clone)]
struct UploadTarget {
    origin: Origin,
    object: ObjectId,
    id: String,
}

impl Origin {
    /// Begins a multipart upload.
    pub async fn start_upload(
        &self,
        object: &ObjectId,
        headers: &Headers,
    ) -> Result<Upload, Error> {
        let answer = self
            .call("CreateMultipartUpload", self.write_wait(0), || {
                self.0
                    .client
                    .create_multipart_upload()
                    .bucket(object.bucket())
                    .key(blank::sendable(object.key()))
                    .set_content_type(headers.content_type.clone())
                    .set_cache_control(headers.cache_control.clone())
                    .set_content_encoding(headers.content_encoding.clone())
                    .set_content_disposition(headers.content_disposition.clone())
                    .set_metadata(headers.map())
                    .send()
            })
            .await?;
        let id = answer
            .upload_id()
            .ok_or_else(|| Error::Broken("it began an upload without an upload id".to_owned()))?;
        Ok(Upload {
            place: UploadTarget {
                origin: self.clone(),
                object: object.clone(),
                id: id.to_owned(),
            },
            parts: Mutex::default(),
            finished: false,
        })
    }
}

impl Upload {
    /// Sends part `number`, from 1 to 10,000. All but the last hold 5 MiB or more. Parts may go in any order and
    /// several at a time; one that is sent again replaces the first.
    pub async fn part(&self, number: u32, bytes: Bytes) -> Result<(), Error> {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let UploadTarget { origin, object, id } = &self.place;
        let answer = origin
            .call("UploadPart", origin.write_wait(bytes.len() as u64), || {
                let part = origin
                    .0
                    .client
                    .upload_part()
                    .bucket(object.bucket())
                    .key(blank::sendable(object.key()))
                    .upload_id(id)
                    .part_number(number)
                    .body(ByteStream::from(bytes.clone()))
                    .customize();
                let part = if origin.0.tls {
                    part.disable_payload_signing()
                } else {
                    part
                };
                part.send()
            })
            .await?;
        let etag = stored(answer.e_tag())?;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(number, etag.into());
        Ok(())
    }

    /// Joins the parts into the object's new version. On failure nothing is left behind.
    pub async fn complete(mut self) -> Result<ETag, Error> {
        let parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner));
        let parts = parts.into_iter().map(|(number, etag)| {
            CompletedPart::builder()
                .part_number(number)
                .e_tag(etag)
                .build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let joined = self.place.join(&parts).await;
        self.finished = true;
        if joined.is_err() {
            self.place.abort_surely().await;
        }
        joined
    }

    /// Gives up: S3 forgets the parts.
    pub async fn abort(mut self) {
        self.place.abort_surely().await;
        self.finished = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let place = self.place.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let aborts = &self.place.origin.0.aborts;
            aborts.spawn_on(async move { place.abort_surely().await }, &runtime);
        } else {
            tracing::warn!(object = %place.object, upload = place.id, "failed to abort an upload: the node has stopped; a lifecycle rule of the bucket can remove its parts");
        }
    }
}

impl UploadTarget {
    /// Sent once: after a lost answer, a second try would only learn that there is no such upload.
    async fn join(&self, parts: &CompletedMultipartUpload) -> Result<ETag, Error> {
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let answer = self
            .origin
            .write("CompleteMultipartUpload", JOIN, |attempts| {
                self.origin
                    .0
                    .client
                    .complete_multipart_upload()
                    .bucket(self.object.bucket())
                    .key(blank::sendable(self.object.key()))
                    .upload_id(&self.id)
                    .multipart_upload(parts.clone())
                    .customize()
                    .config_override(once.clone())
                    .interceptor(attempts)
                    .send()
            })
            .await?;
        stored(answer.e_tag())
    }

    async fn abort_surely(&self) {
        for attempt in 1..=ABORTS {
            match self.abort().await {
                Ok(()) | Err(Error::NotFound { .. }) => return,
                Err(error) if attempt == ABORTS => {
                    tracing::warn!(
                        %error, object = %self.object, upload = self.id,
                        "failed to abort an upload; a lifecycle rule of the bucket can remove its parts"
                    );
                }
                Err(_) => sleep(BETWEEN_ABORTS).await,
            }
        }
    }

    async fn abort(&self) -> Result<(), Error> {
        let wait = self.origin.write_wait(0);
        self.origin
            .call("AbortMultipartUpload", wait, || {
                self.origin
                    .0
                    .client
                    .abort_multipart_upload()
                    .bucket(self.object.bucket())
                    .key(blank::sendable(self.object.key()))
                    .upload_id(&self.id)
                    .send()
            })
            .await?;
        Ok(())
    }
}
