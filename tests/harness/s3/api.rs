//! The operations of the S3 of the tests, as S3 documents them.

use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource,
    CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsV2Input, ListObjectsV2Output,
    ObjectIdentifier, PutObjectInput, PutObjectOutput, StreamingBlob, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::SECRET;
use super::rules::{check_read, check_write, collect, length, object, pieces, tag};
use super::world::{Content, Stored, StoredHeaders, Unfinished, World, md5, parts_etag};

#[derive(Clone)]
pub(super) struct Api(pub(super) Arc<World>);

#[async_trait::async_trait]
impl S3Auth for Api {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match &self.0.lock().keys {
            Some(keys) => keys
                .get(access_key)
                .map(|secret| SecretKey::from(secret.as_str()))
                .ok_or_else(|| s3_error!(InvalidAccessKeyId, "no such access key")),
            None => Ok(SecretKey::from(SECRET)),
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Api {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if self.0.lock().keys.is_some() && cx.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "signature is required"));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        if !self.0.lock().buckets.insert(req.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn list_buckets(
        &self,
        _: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let state = self.0.lock();
        let buckets = state.buckets.iter().map(|name| Bucket {
            name: Some(name.clone()),
            ..Default::default()
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..Default::default()
        }))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        if !self.0.lock().buckets.contains(&req.input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let stored = object(&self.0.lock(), &input.bucket, &input.key)?;
        check_read(
            &stored,
            input.if_match.as_ref(),
            input.if_unmodified_since.as_ref(),
            input.if_none_match.as_ref(),
            input.if_modified_since.as_ref(),
        )?;
        let size = stored.content.len();
        let range = match input.range {
            Some(range) => range.check(size)?,
            None => 0..size,
        };
        let named = input
            .range
            .map(|_| format!("bytes {}-{}/{size}", range.start, range.end - 1));
        let headers = stored.headers.clone();
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(length(range.end - range.start)),
            content_range: named,
            body: Some(StreamingBlob::wrap(pieces(stored.content.clone(), range))),
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(tag(&stored.etag)),
            last_modified: Some(stored.timestamp()),
            content_type: headers.content_type,
            cache_control: headers.cache_control,
            content_encoding: headers.content_encoding,
            content_disposition: headers.content_disposition,
            content_language: headers.content_language,
            expires: headers.expires,
            metadata: Some(headers.metadata),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let stored = object(&self.0.lock(), &input.bucket, &input.key)?;
        check_read(
            &stored,
            input.if_match.as_ref(),
            input.if_unmodified_since.as_ref(),
            input.if_none_match.as_ref(),
            input.if_modified_since.as_ref(),
        )?;
        let headers = stored.headers.clone();
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(length(stored.content.len())),
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(tag(&stored.etag)),
            last_modified: Some(stored.timestamp()),
            content_type: headers.content_type,
            cache_control: headers.cache_control,
            content_encoding: headers.content_encoding,
            content_disposition: headers.content_disposition,
            content_language: headers.content_language,
            expires: headers.expires,
            metadata: Some(headers.metadata),
            ..Default::default()
        }))
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        let body = collect(input.body).await?;
        let headers = StoredHeaders {
            content_type: input.content_type,
            cache_control: input.cache_control,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            expires: input.expires,
            metadata: input.metadata.unwrap_or_default(),
        };
        let stored = Stored::new(Content::Bytes(body), headers);
        let e_tag = Some(tag(&stored.etag));
        let mut state = self.0.lock();
        let (if_match, if_none_match) = (input.if_match.as_ref(), input.if_none_match.as_ref());
        check_write(&state, &input.bucket, &input.key, if_match, if_none_match)?;
        state.store((input.bucket, input.key), Arc::new(stored));
        Ok(S3Response::new(PutObjectOutput {
            e_tag,
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let mut state = self.0.lock();
        let source = object(&state, &bucket, &key)?;
        check_write(&state, &input.bucket, &input.key, None, None)?;
        let mut copy = Stored::new(source.content.clone(), source.headers.clone());
        copy.etag.clone_from(&source.etag);
        let result = CopyObjectResult {
            e_tag: Some(tag(&copy.etag)),
            last_modified: Some(copy.timestamp()),
            ..Default::default()
        };
        state.store((input.bucket, input.key), Arc::new(copy));
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let mut state = self.0.lock();
        check_write(&state, &req.input.bucket, &req.input.key, None, None)?;
        state.remove(&(req.input.bucket, req.input.key), false);
        let mut answer = S3Response::new(DeleteObjectOutput::default());
        answer.status = Some(http::StatusCode::NO_CONTENT);
        Ok(answer)
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = req.input;
        if input.delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML, "more than 1000 keys"));
        }
        let mut state = self.0.lock();
        check_write(&state, &input.bucket, "", None, None)?;
        let quiet = input.delete.quiet == Some(true);
        let mut output = DeleteObjectsOutput::default();
        for ObjectIdentifier { key, .. } in input.delete.objects {
            state.remove(&(input.bucket.clone(), key.clone()), false);
            if !quiet {
                output.deleted.get_or_insert_default().push(DeletedObject {
                    key: Some(key),
                    ..Default::default()
                });
            }
        }
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let state = self.0.lock();
        super::list::list(&state, req.input).map(S3Response::new)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let mut state = self.0.lock();
        check_write(&state, &input.bucket, &input.key, None, None)?;
        state.uploads_begun += 1;
        let id = format!("upload-{}", state.uploads_begun);
        let unfinished = Unfinished {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            parts: std::collections::BTreeMap::new(),
            headers: StoredHeaders {
                content_type: input.content_type,
                cache_control: input.cache_control,
                content_encoding: input.content_encoding,
                content_disposition: input.content_disposition,
                content_language: input.content_language,
                expires: input.expires,
                metadata: input.metadata.unwrap_or_default(),
            },
        };
        state.uploads.insert(id.clone(), unfinished);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let body = collect(input.body).await?;
        let e_tag = Some(tag(&md5(&body)));
        let mut state = self.0.lock();
        let upload = state.uploads.get_mut(&input.upload_id);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(input.part_number, body);
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let mut state = self.0.lock();
        let upload = state.uploads.get(&input.upload_id).cloned();
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let named = input
            .multipart_upload
            .and_then(|u| u.parts)
            .unwrap_or_default();
        let mut parts = Vec::new();
        for part in named {
            let number = part.part_number.unwrap_or_default();
            let bytes = upload
                .parts
                .get(&number)
                .ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag.is_none_or(|tag| tag.value() != md5(bytes)) {
                return Err(s3_error!(InvalidPart));
            }
            parts.push(bytes.clone());
        }
        if parts.is_empty() {
            return Err(s3_error!(MalformedXML, "no parts"));
        }
        let mut stored = Stored::new(Content::Bytes(parts.concat().into()), upload.headers);
        stored.etag = parts_etag(parts.iter());
        let e_tag = Some(tag(&stored.etag));
        state.uploads.remove(&input.upload_id);
        state.store((input.bucket.clone(), input.key.clone()), Arc::new(stored));
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag,
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let gone = self.0.lock().uploads.remove(&req.input.upload_id);
        gone.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let mut answer = S3Response::new(AbortMultipartUploadOutput::default());
        answer.status = Some(http::StatusCode::NO_CONTENT);
        Ok(answer)
    }
}
