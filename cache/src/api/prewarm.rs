//! `POST /prewarm`: a job that reads objects into the ring before clients ask for them. Jobs live in memory, at the
//! node that started them; their reads yield to those of clients.

mod job;
pub(super) mod registry;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::query::Query;
use super::state::Api;
use crate::access::{Target, Verb};
use crate::web::body_buffer::buffer_body;
use crate::web::failure::Failure;
use crate::web::rights::permit;
use job::{Job, Work};

/// The most bytes of a list of keys.
const BODY: u64 = 1024 * 1024;

/// `POST /prewarm?prefix=P[&bucket=B]`, or a JSON list of keys in the body.
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    let mut query = Query::parse(request.uri().query(), &["prefix", "bucket"])?;
    let bucket = api.bucket(&who, Verb::Read, query.take("bucket"))?;
    let (body, _charge) =
        buffer_body(api.services.proxy.store(), request.into_body(), BODY).await?;
    let work = work(query.take("prefix"), &body)?;
    match &work {
        Work::Prefix(prefix) => permit(&who, Verb::Read, &bucket, Target::Prefix(prefix))?,
        Work::Keys(keys) => {
            for key in keys {
                permit(&who, Verb::Read, &bucket, Target::Key(key))?;
            }
        }
    }
    let job = Arc::new(Job::new(who, bucket, &work));
    api.prewarms.add(&job)?;
    tokio::spawn(job::run(
        Arc::clone(&job),
        api.services.proxy.clone(),
        api.services.origin.clone(),
        work,
    ));
    Ok((StatusCode::ACCEPTED, Json(job.shown())).into_response())
}

fn work(prefix: Option<String>, body: &[u8]) -> Result<Work, Failure> {
    match (prefix, body.is_empty()) {
        (Some(prefix), true) => Ok(Work::Prefix(prefix)),
        (None, false) => serde_json::from_slice(body)
            .map(Work::Keys)
            .map_err(|error| {
                Failure::bad(
                    "MalformedBody",
                    format_args!("the body must be a JSON list of keys: {error}"),
                )
            }),
        _ => Err(Failure::bad(
            "MissingParameter",
            "either prefix= or a JSON list of keys in the body is required",
        )),
    }
}

/// `GET /prewarm/ID`
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let who = api.caller(&headers)?;
    let job = api.prewarms.find(&id, &who)?;
    Ok(Json(job.shown()).into_response())
}

/// `DELETE /prewarm/ID`: starts no further object.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let who = api.caller(&headers)?;
    let job = api.prewarms.find(&id, &who)?;
    job.cancel();
    Ok(Json(job.shown()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prewarm_has_a_prefix_or_keys() {
        assert!(matches!(work(Some("p".into()), b""), Ok(Work::Prefix(_))));
        assert!(matches!(work(None, b"[\"a\",\"b\"]"), Ok(Work::Keys(keys)) if keys == ["a", "b"]));
        for (prefix, body, code) in [
            (None, &b""[..], "MissingParameter"),
            (Some("p".to_owned()), b"[]", "MissingParameter"),
            (None, b"{\"keys\": 1}", "MalformedBody"),
        ] {
            assert_eq!(work(prefix, body).err().unwrap().code(), code);
        }
    }
}
