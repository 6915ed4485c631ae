//! `GET` and `HEAD /get`: an object, whole or in part, if the request's conditions hold.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::Method;

use super::Api;
use super::error::Failure;
use super::query::Query;
use super::read::ObjectRequest;
use crate::access::Verb;

/// `GET /get?key=K[&bucket=B]`
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    let mut query = Query::parse(request.uri().query(), &["key", "bucket"])?;
    let object = api.object(&who, Verb::Read, &mut query)?;
    let body = request.method() != Method::HEAD;
    let mut read = ObjectRequest::parse(object, request.headers(), body);
    if !body {
        // Ranges are defined for GET only (RFC 9110, 14.2).
        read = read.whole();
    }
    drop(request);
    read.answer(&api.parts.proxy).await
}
