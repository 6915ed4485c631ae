//! `GET` and `HEAD /get`: an object, whole or in part, if the request's conditions hold.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::Method;

use super::query::Query;
use super::state::{Api, caller_of};
use crate::access::Verb;
use crate::object::ObjectId;
use crate::server::PlainRequest;
use crate::web::failure::Failure;
use crate::web::read::ObjectRequest;

const PARAMETERS: &[&str] = &["key", "bucket"];

/// `GET /get?key=K[&bucket=B]`
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    let mut query = Query::parse(request.uri().query(), PARAMETERS)?;
    let object = api.object(&who, Verb::Read, &mut query)?;
    let body = request.method() != Method::HEAD;
    let mut read = ObjectRequest::parse(object, request.headers(), body);
    if !body {
        // Ranges are defined for GET only (RFC 9110, 14.2).
        read = read.whole();
    }
    drop(request);
    read.answer(&api.services.proxy).await
}

/// The object that a plain request to `/get` names, if its caller may read it.
pub(super) fn locate(api: &Api, request: &PlainRequest<'_>) -> Option<ObjectId> {
    let raw = request.target.strip_prefix("/get?")?;
    let who = caller_of(&api.services.access, request.header("authorization")).ok()?;
    let mut query = Query::parse(Some(raw), PARAMETERS).ok()?;
    api.object(&who, Verb::Read, &mut query).ok()
}
