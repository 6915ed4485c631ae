//! One file on its way to S3: one request when it fits into the buffer, else a multipart upload, part by part.

use std::sync::Arc;

use axum::extract::multipart::Field;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::resources::UploadResources;
use crate::api::state::Api;
use crate::invalidate::Report;
use crate::object::{ETag, ObjectId, Scope};
use crate::origin::{self, Headers, Origin, Upload};
use crate::proxy::WriteThrough;
use crate::store::Charge;
use crate::web::aftermath::Aftermath;
use crate::web::barrier::{Barriers, to_the_end};
use crate::web::failure::Failure;
use crate::web::services::Services;
use crate::web::status;

/// The outcome of one file.
pub(super) enum FileOutcome {
    Stored(Value),
    Failed(Failure),
}

impl FileOutcome {
    /// Its entry in the answer.
    pub(super) fn json(self) -> Value {
        match self {
            Self::Stored(file) => file,
            Self::Failed(failure) => json!({
                "key": failure.key(), "bucket": failure.bucket(), "code": failure.code(), "message": failure.message(),
            }),
        }
    }
}

/// Writes one file.
pub(super) struct FileWriter<'a> {
    services: &'a Services,
    object: ObjectId,
    headers: Headers,
    resources: &'a mut UploadResources,
    upload: Option<Upload>,
    write_through: Option<WriteThrough>,
    number: u32,
    size: u64,
}

/// Why a file was not stored.
enum Trouble {
    /// The form could not be read any further.
    Form(Failure),
    /// S3 did not take it.
    Origin(Failure),
}

/// The outcome of a write that ran to its end, and its barrier's report.
type Written = (Result<ETag, origin::Error>, Option<Report>);

impl<'a> FileWriter<'a> {
    /// Nothing is sent yet.
    pub(super) fn new(
        api: &'a Api,
        object: ObjectId,
        headers: Headers,
        resources: &'a mut UploadResources,
    ) -> Self {
        let (services, keeps) = (&*api.services, api.settings.cache_on_write);
        Self {
            write_through: keeps.then(|| services.proxy.write_through(&object)),
            services,
            object,
            headers,
            resources,
            upload: None,
            number: 0,
            size: 0,
        }
    }

    /// Writes the whole field to S3. Returns the outcome, and whether the form can be read on.
    pub(super) async fn take(
        mut self,
        mut field: Field<'_>,
        barriers: &mut Barriers,
    ) -> (FileOutcome, bool) {
        let object = self.object.clone();
        let failed = |failure: Failure| FileOutcome::Failed(failure.at(&object));
        match self.stream(&mut field).await {
            Ok(()) => {}
            Err(Trouble::Form(failure)) => {
                self.abort().await;
                return (failed(failure), false);
            }
            Err(Trouble::Origin(failure)) => {
                self.abort().await;
                // The next file may succeed: the rest of this one is read and dropped.
                return (failed(failure), skip(&mut field).await);
            }
        }
        let size = self.size;
        match self.finish(barriers).await {
            Ok(etag) => {
                let file = json!({"key": object.key(), "bucket": object.bucket(), "size": size, "etag": etag.as_str()});
                (FileOutcome::Stored(file), true)
            }
            Err(failure) => (failed(failure), true),
        }
    }

    async fn stream(&mut self, field: &mut Field<'_>) -> Result<(), Trouble> {
        self.resources.clear();
        loop {
            let since = Instant::now();
            let chunk = field.chunk().await;
            let chunk = chunk
                .map_err(|error| Trouble::Form(status::of_body(&error, StatusCode::BAD_REQUEST)))?;
            let Some(mut chunk) = chunk else {
                return Ok(());
            };
            self.resources
                .record(chunk.len(), since.elapsed())
                .map_err(Trouble::Form)?;
            self.size += chunk.len() as u64;
            while !chunk.is_empty() {
                if self.resources.is_full() {
                    self.part().await.map_err(Trouble::Origin)?;
                }
                // Nothing more is read while there is no room for it.
                self.resources
                    .fill(&mut chunk)
                    .await
                    .map_err(Trouble::Form)?;
            }
        }
    }

    /// Sends the buffer as the next part.
    async fn part(&mut self) -> Result<(), Failure> {
        self.resources.acquire_slot().await?;
        let upload = match self.upload.take() {
            Some(upload) => upload,
            None => {
                self.services
                    .origin
                    .start_upload(&self.object, &self.headers)
                    .await?
            }
        };
        self.number += 1;
        let (shared, handle) = self.resources.share();
        if let Some(write_through) = &mut self.write_through {
            write_through.push(&shared);
        }
        let sent = upload.part(self.number, shared).await;
        self.upload = Some(upload);
        self.resources.reclaim(handle);
        Ok(sent?)
    }

    async fn abort(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abort().await;
        }
    }

    /// Sends the last request to S3, then raises the barrier. From here on it no longer matters whether the client
    /// hangs up.
    async fn finish(mut self, barriers: &mut Barriers) -> Result<ETag, Failure> {
        if self.upload.is_some()
            && let Err(error) = self.part().await
        {
            self.abort().await;
            return Err(error);
        }
        let mut after = After {
            object: self.object,
            aftermath: self.services.aftermath.clone(),
            write_through: self.write_through,
        };
        let (result, report) = if let Some(upload) = self.upload.take() {
            to_the_end(complete(upload, after)).await?
        } else {
            self.resources.acquire_slot().await?;
            let (shared, handle) = self.resources.share();
            if let Some(write_through) = &mut after.write_through {
                write_through.push(&shared);
            }
            let whole = Whole {
                origin: self.services.origin.clone(),
                headers: self.headers,
                body: shared,
                _charge: self.resources.charge(),
            };
            let written = to_the_end(whole.put(after)).await;
            self.resources.reclaim(handle);
            written?
        };
        if let Some(report) = report {
            barriers.add(report);
        }
        Ok(result?)
    }
}

/// A file in one piece, with all that its request needs to outlive the client's.
struct Whole {
    origin: Origin,
    headers: Headers,
    body: Bytes,
    _charge: Option<Arc<Charge>>,
}

impl Whole {
    async fn put(self, after: After) -> Written {
        let result = self
            .origin
            .put(&after.object, &self.headers, self.body)
            .await;
        after.finish(result).await
    }
}

async fn complete(upload: Upload, after: After) -> Written {
    let result = upload.complete().await;
    after.finish(result).await
}

/// What follows the last request to S3.
struct After {
    object: ObjectId,
    aftermath: Aftermath,
    write_through: Option<WriteThrough>,
}

impl After {
    /// Raises the barrier unless S3 refused the write for certain, then gives what was written to its owners.
    async fn finish(self, result: Result<ETag, origin::Error>) -> Written {
        let scope = Scope::from(&self.object);
        let Some(report) = self.aftermath.follow(scope, result.as_ref().err()).await else {
            return (result, None);
        };
        if let (Some(write_through), Ok(etag)) = (self.write_through, &result)
            && report.complete
        {
            write_through.finish(etag.clone()).await;
        }
        (result, Some(report))
    }
}

async fn skip(field: &mut Field<'_>) -> bool {
    loop {
        match field.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
