//! The S3 gateway: any S3 SDK works, with nothing changed but its endpoint.
//!
//! ```text
//! request ─► caller ─► operation ─► read   (through the cache)
//!                                └► send   (to S3 as it is; after a write, every node drops the object) ─► answer
//! ```
//!
//! s3s verifies signatures, and the streaming encoding with them. No body and no answer is parsed that does not have to
//! be: the client gets S3's answer as it is.

mod address;
mod buckets;
mod checks;
mod chunked;
mod copy;
mod cors;
mod deletion;
mod digest;
mod dispatch;
mod headers;
mod operation;
mod payload;
mod presigned_v2;
mod read;
mod refusal;
mod request;
mod send;
mod signature;
mod write_barrier;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::Method;

pub use dispatch::GatewaySettings;

use crate::access::Caller;
use crate::server::PlainRequest;
use crate::web::dialect::Dialect;
use crate::web::hits::Hits;
use crate::web::middleware::{Middleware, handle};
use crate::web::services::Services;
use dispatch::Gateway;
use signature::Signatures;

/// The S3 port.
pub fn router(services: &Arc<Services>, settings: GatewaySettings) -> Router {
    let gateway = Arc::new(Gateway::new(Arc::clone(services), settings));
    let entrance: Router = if services.access.is_guarded() {
        let signatures = Signatures::new(Arc::clone(&gateway));
        Router::new()
            .fallback(signature::verify)
            .with_state(signatures)
    } else {
        Router::new()
            .fallback(serve_unsigned)
            .with_state(Arc::clone(&gateway))
    };
    let middleware = Arc::new(middleware(services));
    entrance
        .layer(from_fn_with_state(gateway, check_first))
        .layer(from_fn_with_state(middleware, handle))
}

/// The fast path of this gateway; `None` when requests are signed, since only the routes verify signatures.
pub(crate) fn hits(services: &Arc<Services>, settings: GatewaySettings) -> Option<Hits> {
    if services.access.is_guarded() {
        return None;
    }
    let gateway = Gateway::new(Arc::clone(services), settings);
    let locate = move |request: &PlainRequest<'_>| gateway.object_of(request);
    let proxy = services.proxy.clone();
    Some(Hits::new(proxy, middleware(services), locate))
}

fn middleware(services: &Services) -> Middleware {
    services.middleware("s3", Dialect::S3)
}

/// Checks that come before the signature: a request must not be ambiguous, and a browser's preflight is not signed.
async fn check_first(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(failure) = checks::request(request.method(), request.headers()) {
        return failure.into_response();
    }
    if request.method() != Method::OPTIONS {
        return next.run(request).await;
    }
    let (head, _) = request.into_parts();
    gateway.preflight(&head).await.into_response()
}

/// Serves unsigned requests. A signature, if there is one, is not looked at.
async fn serve_unsigned(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = payload::decode_unsigned(&head.headers, body);
    let answered = match body {
        Ok(body) => gateway.answer(Caller::Anybody, head, body).await,
        Err(failure) => Err(failure),
    };
    answered.into_response()
}
