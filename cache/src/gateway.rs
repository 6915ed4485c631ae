//! The S3 gateway: stock SDKs, only the endpoint changed.
//!
//! ```text
//! request ─► who ─► operation ─► read   (through the cache)
//!                             └► send   (to S3 as it is; after a write, every node forgets) ─► answer
//! ```
//!
//! Signatures are s3s's to verify, and the streaming encoding with them. No operation's body or answer is read that does not
//! have to be: what S3 says, in whatever words, is what the client gets.

mod address;
mod buckets;
mod checks;
mod chunked;
mod copy;
mod cors;
mod deletion;
mod digest;
mod headers;
mod operation;
mod payload;
mod presigned_v2;
mod read;
mod refusal;
mod send;
mod signature;
mod written;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::request::Parts as Head;
use http::{Method, StatusCode, Uri, header};

use crate::access::{Caller, Target, Verb};
use crate::api::error::Failure;
use crate::api::{self, Api, Dialect, Hits, Middleware, Op, denied, handle, permit};
use crate::metrics::READ;
use crate::object::ObjectId;
use crate::origin::Incoming;
use crate::server::PlainRequest;
use address::{Address, Parameters};
use checks::Fit;
use copy::{COPY_SOURCE, CopySource};
use cors::CorsRules;
use operation::{Handling, Level, Operation};
use signature::Signatures;

/// What the gateway is told at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Host names below which a name is a bucket's: `bucket.DOMAIN`.
    pub s3_domain: Vec<String>,
}

/// The state of the gateway: what the other API works with, too.
struct Gateway {
    api: Arc<Api>,
    settings: GatewaySettings,
    rules: CorsRules,
}

/// A request that was let in, and what it is.
struct GatewayRequest {
    who: Caller,
    operation: &'static Operation,
    bucket: String,
    key: String,
    parameters: Parameters,
    head: Head,
    body: Incoming,
}

/// The S3 port.
pub fn router(api: &Arc<Api>, settings: GatewaySettings) -> Router {
    let parts = api.parts();
    let shown = Middleware::new("s3", Dialect::S3, parts.members.name(), &parts.metrics);
    let gateway = Arc::new(Gateway {
        api: Arc::clone(api),
        settings,
        rules: CorsRules::default(),
    });
    let entrance: Router = if gateway.parts().access.is_guarded() {
        let signatures = Signatures::new(Arc::clone(&gateway));
        Router::new()
            .fallback(signature::verified)
            .with_state(signatures)
    } else {
        Router::new()
            .fallback(unsigned)
            .with_state(Arc::clone(&gateway))
    };
    entrance
        .layer(from_fn_with_state(gateway, ahead))
        .layer(from_fn_with_state(Arc::new(shown), handle))
}

/// Hits of this gateway, where nobody has to say who he is: a signature has to be verified first, and that is the routes' work.
pub(crate) fn hits(api: &Arc<Api>, settings: GatewaySettings) -> Option<Hits> {
    if api.parts().access.is_guarded() {
        return None;
    }
    let gateway = Gateway {
        api: Arc::clone(api),
        settings,
        rules: CorsRules::default(),
    };
    let locate = move |request: &PlainRequest<'_>| gateway.object_of(request);
    Some(Hits::new(api, "s3", Dialect::S3, locate))
}

/// What is decided before anybody looks for a signature: no caller may say what two servers could read in two ways, and what a
/// browser asks before a request is not signed.
async fn ahead(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    if let Err(failure) = checks::request(request.method(), request.headers()) {
        return failure.into_response();
    }
    if request.method() != Method::OPTIONS {
        return next.run(request).await;
    }
    let (head, _) = request.into_parts();
    gateway.preflight(&head).await.into_response()
}

/// The way in where nobody has to say who he is: whatever signature there is, it is not looked at.
async fn unsigned(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = payload::plain(&head.headers, body);
    let answered = match body {
        Ok(body) => gateway.answer(Caller::Anybody, head, body).await,
        Err(failure) => Err(failure),
    };
    answered.into_response()
}

impl Gateway {
    fn parts(&self) -> &api::ApiParts {
        self.api.parts()
    }

    /// The answer to a request whose signature holds and whose encoding is off.
    async fn answer(
        &self,
        who: Caller,
        mut head: Head,
        body: Incoming,
    ) -> Result<Response, Failure> {
        let host = Address::host(&head.uri, &head.headers);
        let address = Address::parse(&head.uri, host, &self.settings.s3_domain)?;
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
        if let Some(source) = CopySource::parse(&head.headers)? {
            if !matches!(operation.name, "PutObject" | "UploadPart") {
                return Err(Failure::bad(
                    "InvalidArgument",
                    format_args!(
                        "{COPY_SOURCE} goes with PutObject and UploadPart, and this is {}",
                        operation.name
                    ),
                ));
            }
            // What is copied must be the caller's to read, too.
            self.permit(&who, Verb::Read, &source.bucket, Target::Key(&source.key))?;
            head.headers.insert(COPY_SOURCE, source.header());
        }
        let request = GatewayRequest {
            who,
            operation,
            bucket,
            key,
            parameters,
            head,
            body,
        };
        let answered = match handling {
            Handling::Cached => self.read_for_page(request).await,
            Handling::Forwarded if operation.handling == Handling::Cached => {
                self.past_the_cache(request).await
            }
            Handling::Forwarded => self.forwarded(request).await,
            Handling::Written => self.written(request).await,
            Handling::DeletedMany => self.deleted_many(request).await,
            Handling::Buckets => self.buckets(&request.who, &request.parameters).await,
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
            return self.read(request).await;
        };
        let (bucket, method) = (request.bucket.clone(), request.head.method.clone());
        let mut response = self.read(request).await.into_response();
        let told = response.headers_mut();
        if !told.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            told.extend(self.rule(&bucket, &page, &method).await);
        }
        Ok(response)
    }

    /// The object that anybody's plain request is for, if it is for one.
    fn object_of(&self, request: &PlainRequest<'_>) -> Option<ObjectId> {
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
        let address = Address::parse(&uri, host, &self.settings.s3_domain).ok()?;
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
        if operation.verb == Verb::Write && self.parts().settings.read_only {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "this cache is read-only: write to S3 itself, then invalidate here",
            ));
        }
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
        if self.parts().settings.allows(bucket) {
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
            "{} with the parameter {name:?} is not among what this gateway does: leave it out, or ask S3 itself",
            operation.name
        ))),
    }
}

fn not_implemented(method: &Method, address: &Address) -> Failure {
    let failure = checks::not_done(format_args!(
        "this gateway reads and writes objects; {method} of this is not among what it does: ask S3 itself"
    ));
    match &address.bucket {
        Some(bucket) => failure.about(bucket, address.key.as_deref()),
        None => failure,
    }
}
