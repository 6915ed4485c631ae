//! One request, from its address to its answer: which operation it is, whether the caller may, and who answers it.

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

/// What the gateway is told at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Host names below which a name is a bucket's: `bucket.DOMAIN`.
    pub s3_domain: Vec<String>,
}

/// The state of the gateway.
pub(super) struct Gateway {
    pub(super) services: Arc<Services>,
    domains: Vec<String>,
    cors: CorsRules,
}

impl Gateway {
    /// Nothing is remembered yet.
    pub(super) fn new(services: Arc<Services>, settings: GatewaySettings) -> Self {
        Self {
            cors: CorsRules::new(services.origin.clone()),
            domains: settings.s3_domain,
            services,
        }
    }

    /// What a browser asks before a request, answered by S3. Nobody signs that; it names no object, and is told the rule alone.
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

    /// The answer to a request whose signature holds and whose encoding is off.
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

    /// Read through the cache; a page of another origin gets S3's rule with it.
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

    /// The object that anybody's plain request is for, if it is for one.
    pub(super) fn object_of(&self, request: &PlainRequest<'_>) -> Option<ObjectId> {
        let uri: Uri = request.target.parse().ok()?;
        // Every parameter is for the routes to judge: what is left out here is none of S3's.
        let usual = match uri.query() {
            None => true,
            Some(query) => Parameters::parse(query).ok()?.is_empty(),
        };
        let hash = request.header("x-amz-content-sha256");
        let streamed = hash.is_some_and(|hash| hash.starts_with(b"STREAMING"));
        // S3 itself is asked for checksums that are not known here.
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

    /// Refuses a copy of what the caller may not read; the source is written again from what was judged.
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

    /// Refuses what is not the caller's to do, and what the cache does not serve, in the same words.
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

/// What becomes of an operation with these parameters. One that is not known may be anything: it is no read from the cache, and
/// goes to S3 as a read only for who may read all that it could tell.
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
