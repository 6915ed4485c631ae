//! One request, from its address to its answer: which operation it is, whether the caller may do it, and which handler
//! answers it.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::request::Parts as Head;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::address::{Address, Parameters};
use super::checks::{self, Fit};
use super::copy::{COPY_SOURCE, CopySource};
use super::cors::CorsRules;
use super::operation::{Handling, Level, Operation};
use super::request::GatewayRequest;
use super::{buckets, read, send};
use crate::access::{Caller, Target, Verb};
use crate::metrics::READ;
use crate::object::ObjectId;
use crate::origin::Incoming;
use crate::server::PlainRequest;
use crate::web::failure::Failure;
use crate::web::response_context::Op;
use crate::web::rights::{denied, permit};
use crate::web::services::Services;

/// The settings of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Base domains of virtual-hosted-style requests: `BUCKET.DOMAIN`.
    pub s3_domain: Vec<String>,
}

/// The state of the gateway.
pub(super) struct Gateway {
    pub(super) services: Arc<Services>,
    domains: Vec<String>,
    cors: CorsRules,
}

impl Gateway {
    /// A gateway that knows no CORS rules yet.
    pub(super) fn new(services: Arc<Services>, settings: GatewaySettings) -> Self {
        Self {
            cors: CorsRules::new(services.origin.clone()),
            domains: settings.s3_domain,
            services,
        }
    }

    /// Answers a browser's preflight with S3's own answer. It is not signed, so it is about the bucket's rule and
    /// nothing else.
    pub(super) async fn preflight(&self, head: &Head) -> Result<Response, Failure> {
        let host = Address::host(&head.uri, &head.headers);
        let address = Address::parse(&head.uri, host, &self.domains)?;
        let bucket = address.bucket.unwrap_or_default();
        if !self.services.settings.buckets.contains(&bucket) {
            return Err(denied(&bucket));
        }
        self.cors
            .preflight(bucket, address.key, &head.headers)
            .await
    }

    /// Answers a request whose signature is verified and whose body is decoded.
    pub(super) async fn answer(
        &self,
        who: Caller,
        mut head: Head,
        body: Incoming,
    ) -> Result<Response, Failure> {
        let host = Address::host(&head.uri, &head.headers);
        let address = Address::parse(&head.uri, host, &self.domains)?;
        let parameters = Parameters::parse(head.uri.query().unwrap_or_default())?;
        let Some(operation) = Operation::find(&head.method, &address, &parameters) else {
            return Err(not_implemented(&head.method, &address));
        };
        let fit = checks::parameters(operation, &parameters);
        let (bucket, key) = (
            address.bucket.unwrap_or_default(),
            address.key.unwrap_or_default(),
        );
        self.admit(&who, operation, &bucket, &key, &parameters)?;
        let handling = handling(&who, operation, &bucket, fit?)?;
        self.admit_copy(&who, operation, &mut head.headers)?;
        let request = GatewayRequest {
            who,
            operation,
            bucket,
            key,
            parameters,
            head,
            body,
        };
        let services = &*self.services;
        let answered = match handling {
            Handling::Cached => self.read_for_page(request).await,
            Handling::Forwarded if operation.handling == Handling::Cached => {
                read::read_past_the_cache(services, request).await
            }
            Handling::Forwarded => send::forward(services, request).await,
            Handling::Written => send::write(services, request).await,
            Handling::DeletedMany => send::delete_many(services, request).await,
            Handling::Buckets => buckets::list(services, &request.who, &request.parameters).await,
        };
        let op = match operation.handling {
            Handling::Cached => READ,
            _ => operation.name,
        };
        let mut response = answered.into_response();
        response.extensions_mut().insert(Op(op));
        Ok(response)
    }

    /// Reads through the cache; for a page of another origin, adds the bucket's CORS rule.
    async fn read_for_page(&self, request: GatewayRequest) -> Result<Response, Failure> {
        let Some(page) = request.head.headers.get(header::ORIGIN).cloned() else {
            return read::read(&self.services, request).await;
        };
        let (bucket, method) = (request.bucket.clone(), request.head.method.clone());
        let mut response = read::read(&self.services, request).await.into_response();
        let told = response.headers_mut();
        if !told.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            told.extend(self.cors.rule(&bucket, &page, &method).await);
        }
        Ok(response)
    }

    /// The object that a plain, unsigned request reads, if it reads one.
    pub(super) fn object_of(&self, request: &PlainRequest<'_>) -> Option<ObjectId> {
        let uri: Uri = request.target.parse().ok()?;
        // All parameters are left to the routes, except those that are not S3's.
        let usual = match uri.query() {
            None => true,
            Some(query) => Parameters::parse(query).ok()?.is_empty(),
        };
        let hash = request.header("x-amz-content-sha256");
        let streamed = hash.is_some_and(|hash| hash.starts_with(b"STREAMING"));
        // Checksums that are not known here are read from S3.
        let asks_s3 = request.head_only && request.header("x-amz-checksum-mode").is_some();
        if !usual || streamed || asks_s3 {
            return None;
        }
        let host = request
            .header("host")
            .and_then(|host| std::str::from_utf8(host).ok());
        let address = Address::parse(&uri, host, &self.domains).ok()?;
        let (bucket, key) = (address.bucket?, address.key?);
        self.permit(&Caller::Anybody, Verb::Read, &bucket, Target::Key(&key))
            .ok()?;
        ObjectId::new(&bucket, &key).ok()
    }

    /// Refuses what the caller may not do, before anything is looked up.
    fn admit(
        &self,
        who: &Caller,
        operation: &Operation,
        bucket: &str,
        key: &str,
        parameters: &Parameters,
    ) -> Result<(), Failure> {
        if operation.level == Level::Service {
            return Ok(()); // each bucket is looked at for itself
        }
        let lists = matches!(
            operation.name,
            "ListObjects" | "ListObjectVersions" | "ListMultipartUploads"
        );
        let target = match operation.level {
            Level::Object => Target::Key(key),
            _ if lists => Target::Prefix(parameters.get("prefix").unwrap_or_default()),
            _ => Target::Bucket,
        };
        self.permit(who, operation.verb, bucket, target)?;
        if operation.verb == Verb::Write && self.services.settings.read_only {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "this cache is read-only: write to S3 directly, then invalidate the object here",
            ));
        }
        Ok(())
    }

    /// Refuses to copy what the caller may not read. The source is written again from what was checked.
    fn admit_copy(
        &self,
        who: &Caller,
        operation: &Operation,
        headers: &mut HeaderMap,
    ) -> Result<(), Failure> {
        let Some(source) = CopySource::parse(headers)? else {
            return Ok(());
        };
        if !matches!(operation.name, "PutObject" | "UploadPart") {
            return Err(Failure::bad(
                "InvalidArgument",
                format_args!(
                    "{COPY_SOURCE} must be part of PutObject or UploadPart; got {}",
                    operation.name
                ),
            ));
        }
        self.permit(who, Verb::Read, &source.bucket, Target::Key(&source.key))?;
        headers.insert(COPY_SOURCE, source.header());
        Ok(())
    }

    /// Refuses what the caller may not do, and what the cache does not serve, with the same answer.
    fn permit(
        &self,
        who: &Caller,
        verb: Verb,
        bucket: &str,
        target: Target<'_>,
    ) -> Result<(), Failure> {
        permit(who, verb, bucket, target)?;
        if self.services.settings.buckets.contains(bucket) {
            return Ok(());
        }
        Err(denied(bucket))
    }
}

/// How an operation with these parameters is handled. A read with an unknown parameter is not answered from the cache;
/// it is forwarded only for callers that may read the whole bucket.
fn handling(
    who: &Caller,
    operation: &Operation,
    bucket: &str,
    fit: Fit<'_>,
) -> Result<Handling, Failure> {
    match fit {
        Fit::AskS3 if operation.handling == Handling::Cached => Ok(Handling::Forwarded),
        Fit::Usual | Fit::AskS3 => Ok(operation.handling),
        Fit::Unknown(_)
            if operation.handling == Handling::Cached
                && who.may(Verb::Read, bucket, Target::Prefix("")) =>
        {
            Ok(Handling::Forwarded)
        }
        Fit::Unknown(name) => Err(checks::not_done(format_args!(
            "this gateway does not support {} with the parameter {name:?}: leave it out, or ask S3 directly",
            operation.name
        ))),
    }
}

fn not_implemented(method: &Method, address: &Address) -> Failure {
    let failure = checks::not_done(format_args!(
        "this gateway only reads and writes objects, and does not support this {method} request: ask S3 directly"
    ));
    match &address.bucket {
        Some(bucket) => failure.about(bucket, address.key.as_deref()),
        None => failure,
    }
}
