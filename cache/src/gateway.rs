//! The S3 door: stock SDKs, only the endpoint changed.
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
mod send;
mod signature;
mod verdict;
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
use crate::api::{self, Api, Errors, Frame, Hits, Op, denied, frame, permit};
use crate::metrics::READ;
use crate::object::ObjectId;
use crate::origin::Incoming;
use crate::server::Plain;
use address::{Address, Parameters};
use checks::Fit;
use copy::{COPY_SOURCE, CopySource};
use cors::Rules;
use operation::{Level, Operation, Way};
use signature::Signatures;

/// What the door is told at start.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Host names below which a name is a bucket's: `bucket.DOMAIN`.
    pub domains: Vec<String>,
}

/// The state of the door: what the other door works with, too.
struct Door {
    api: Arc<Api>,
    settings: Settings,
    rules: Rules,
}

/// A request that was let in, and what it is.
struct Asked {
    who: Caller,
    operation: &'static Operation,
    bucket: String,
    key: String,
    parameters: Parameters,
    head: Head,
    body: Incoming,
}

/// The S3 port.
pub fn router(api: &Arc<Api>, settings: Settings) -> Router {
    let parts = api.parts();
    let shown = Frame::new("s3", Errors::Xml, &parts.settings.node, &parts.metrics);
    let door = Arc::new(Door {
        api: Arc::clone(api),
        settings,
        rules: Rules::default(),
    });
    let entrance: Router = if door.parts().access.is_guarded() {
        let signatures = Signatures::new(Arc::clone(&door));
        Router::new()
            .fallback(signature::verified)
            .with_state(signatures)
    } else {
        Router::new()
            .fallback(unsigned)
            .with_state(Arc::clone(&door))
    };
    entrance
        .layer(from_fn_with_state(door, ahead))
        .layer(from_fn_with_state(Arc::new(shown), frame))
}

/// Hits of this door, where nobody has to say who he is: a signature has to be verified first, and that is the routes' work.
pub(crate) fn hits(api: &Arc<Api>, settings: Settings) -> Option<Hits> {
    if api.parts().access.is_guarded() {
        return None;
    }
    let door = Door {
        api: Arc::clone(api),
        settings,
        rules: Rules::default(),
    };
    let locate = move |request: &Plain<'_>| door.object_of(request);
    Some(Hits::new(api, "s3", Errors::Xml, locate))
}

/// What is decided before anybody looks for a signature: no caller may say what two servers could read in two ways, and what a
/// browser asks before a request is not signed.
async fn ahead(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    if let Err(failure) = checks::request(request.method(), request.headers()) {
        return failure.into_response();
    }
    if request.method() != Method::OPTIONS {
        return next.run(request).await;
    }
    let (head, _) = request.into_parts();
    door.preflight(&head).await.into_response()
}

/// The way in where nobody has to say who he is: whatever signature there is, it is not looked at.
async fn unsigned(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = payload::plain(&head.headers, body);
    let answered = match body {
        Ok(body) => door.answer(Caller::Anybody, head, body).await,
        Err(failure) => Err(failure),
    };
    answered.into_response()
}

impl Door {
    fn parts(&self) -> &api::Parts {
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
        let address = Address::of(&head.uri, host, &self.settings.domains)?;
        let parameters = Parameters::of(head.uri.query().unwrap_or_default())?;
        let Some(operation) = Operation::of(&head.method, &address, &parameters) else {
            return Err(not_implemented(&head.method, &address));
        };
        let fit = checks::parameters(operation, &parameters);
        let (bucket, key) = (
            address.bucket.unwrap_or_default(),
            address.key.unwrap_or_default(),
        );
        self.admit(&who, operation, &bucket, &key, &parameters)?;
        let way = way(&who, operation, &bucket, fit?)?;
        if let Some(source) = CopySource::of(&head.headers)? {
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
        let asked = Asked {
            who,
            operation,
            bucket,
            key,
            parameters,
            head,
            body,
        };
        let answered = match way {
            Way::Cached => self.read_for_page(asked).await,
            Way::Forwarded if operation.way == Way::Cached => self.past_the_cache(asked).await,
            Way::Forwarded => self.forwarded(asked).await,
            Way::Written => self.written(asked).await,
            Way::DeletedMany => self.deleted_many(asked).await,
            Way::Buckets => self.buckets(&asked.who, &asked.parameters).await,
        };
        let op = match operation.way {
            Way::Cached => READ,
            _ => operation.name,
        };
        let mut response = answered.into_response();
        response.extensions_mut().insert(Op(op));
        Ok(response)
    }

    /// Read through the cache; a page of another origin gets S3's rule with it.
    async fn read_for_page(&self, asked: Asked) -> Result<Response, Failure> {
        let Some(page) = asked.head.headers.get(header::ORIGIN).cloned() else {
            return self.read(asked).await;
        };
        let (bucket, method) = (asked.bucket.clone(), asked.head.method.clone());
        let mut response = self.read(asked).await.into_response();
        let told = response.headers_mut();
        if !told.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            told.extend(self.rule(&bucket, &page, &method).await);
        }
        Ok(response)
    }

    /// The object that anybody's plain request is for, if it is for one.
    fn object_of(&self, request: &Plain<'_>) -> Option<ObjectId> {
        let uri: Uri = request.target.parse().ok()?;
        // Every parameter is for the routes to judge: what is left out here is none of S3's.
        let usual = match uri.query() {
            None => true,
            Some(query) => Parameters::of(query).ok()?.is_empty(),
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
        let address = Address::of(&uri, host, &self.settings.domains).ok()?;
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
fn way(who: &Caller, operation: &Operation, bucket: &str, fit: Fit<'_>) -> Result<Way, Failure> {
    match fit {
        Fit::AskS3 if operation.way == Way::Cached => Ok(Way::Forwarded),
        Fit::Usual | Fit::AskS3 => Ok(operation.way),
        Fit::Unknown(_)
            if operation.way == Way::Cached && who.may(Verb::Read, bucket, Target::Prefix("")) =>
        {
            Ok(Way::Forwarded)
        }
        Fit::Unknown(name) => Err(checks::not_done(format_args!(
            "{} with the parameter {name:?} is not among what this gateway does: leave it out, or ask S3 itself",
            operation.name
        ))),
    }
}

fn not_implemented(method: &Method, address: &Address) -> Failure {
    let failure = checks::not_done(format_args!(
        "this door reads and writes objects; {method} of this is not among what it does: ask S3 itself"
    ));
    match &address.bucket {
        Some(bucket) => failure.about(bucket, address.key.as_deref()),
        None => failure,
    }
}
