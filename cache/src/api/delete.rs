//! `DELETE /delete`: S3 first, then the barrier. A prefix goes page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::query::Query;
use super::state::Api;
use crate::access::{Target, Verb};
use crate::object::{ObjectId, Scope};
use crate::origin::{self, Pages};
use crate::web::barrier::{Barriers, to_the_end};
use crate::web::failure::Failure;
use crate::web::response_context::ResponseContext;
use crate::web::rights::permit;

/// The most keys that S3 lists or deletes in one request.
const PAGE: u32 = 1000;

/// Failed keys that an answer names; `failed_total` counts them all.
const NAMED: usize = 1000;

/// The outcome of a delete.
#[derive(Default)]
struct Done {
    deleted: u64,
    failed: Vec<Value>,
    failed_total: u64,
    /// Why it stopped early.
    stopped: Option<Failure>,
    barriers: Barriers,
}

/// `DELETE /delete?key=K` or `?prefix=P`, `[&bucket=B]`
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    api.writable()?;
    let mut query = Query::parse(request.uri().query(), &["key", "prefix", "bucket"])?;
    drop(request);
    let bucket = api.bucket(&who, Verb::Write, query.take("bucket"))?;
    let (about, done) = match (query.take("key"), query.take("prefix")) {
        (Some(key), None) => {
            permit(&who, Verb::Write, &bucket, Target::Key(&key))?;
            let object = ObjectId::new(&bucket, &key)?;
            (key, to_the_end(one(api, object)).await?)
        }
        (None, Some(prefix)) if prefix.is_empty() => {
            return Err(Failure::bad(
                "EmptyPrefix",
                "prefix= must not be empty: it would delete the whole bucket",
            ));
        }
        (None, Some(prefix)) => {
            permit(&who, Verb::Write, &bucket, Target::Prefix(&prefix))?;
            // When the client hangs up, the delete ends after the current page; the barrier follows all the same.
            let gone = CancellationToken::new();
            let _guard = gone.clone().drop_guard();
            let done = to_the_end(all(api, bucket, prefix.clone(), gone)).await?;
            (prefix, done)
        }
        _ => {
            return Err(Failure::bad(
                "MissingParameter",
                "exactly one of key= and prefix= is required",
            ));
        }
    };
    let context = ResponseContext::default().about(about);
    Ok(context.attach(done.answer()?))
}

async fn one(api: Arc<Api>, object: ObjectId) -> Done {
    let mut done = Done::default();
    let result = api.services.origin.delete(&object).await;
    let scope = Scope::from(&object);
    if let Some(report) = api
        .services
        .aftermath
        .follow(scope, result.as_ref().err())
        .await
    {
        done.barriers.add(report);
    }
    match result {
        Ok(()) => done.deleted = 1,
        Err(error) => done.stopped = Some(Failure::from(error).at(&object)),
    }
    done
}

async fn all(api: Arc<Api>, bucket: String, prefix: String, gone: CancellationToken) -> Done {
    let mut done = Done::default();
    let mut may_land = false;
    let mut pages = Pages::new(api.services.origin.clone(), &bucket, &prefix, PAGE);
    while !gone.is_cancelled() {
        match page(&api, &bucket, &mut pages, &mut done).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                may_land = error.may_land_later();
                done.stopped = Some(Failure::from(error).about(&bucket, Some(&prefix)));
                break;
            }
        }
    }
    let scope = Scope::Prefix { bucket, prefix };
    done.barriers
        .add(api.services.aftermath.raise(scope, may_land).await);
    done
}

/// Deletes what the next page of the list names; false after the last.
async fn page(
    api: &Api,
    bucket: &str,
    pages: &mut Pages,
    done: &mut Done,
) -> Result<bool, origin::Error> {
    let Some(listed) = pages.next().await? else {
        return Ok(false);
    };
    let keys: Vec<String> = listed.into_iter().map(|entry| entry.key).collect();
    if keys.is_empty() {
        return Ok(true);
    }
    let failed = api.services.origin.delete_many(bucket, &keys).await?;
    done.deleted += (keys.len() - failed.len().min(keys.len())) as u64;
    done.failed_total += failed.len() as u64;
    for (key, error) in failed {
        if done.failed.len() < NAMED {
            done.failed
                .push(json!({"key": key, "code": error.code(), "message": error.to_string()}));
        }
    }
    Ok(true)
}

impl Done {
    fn answer(mut self) -> Result<Response, Failure> {
        if let Some(failure) = self.stopped.take() {
            if self.deleted == 0 && self.failed_total == 0 {
                return Err(failure.detailed("invalidation", self.barriers.json()));
            }
            self.failed_total += 1;
            self.failed.push(
                json!({"key": failure.key(), "code": failure.code(), "message": failure.message()}),
            );
        }
        let whole = self.failed_total == 0 && self.barriers.complete();
        let status = if whole {
            StatusCode::OK
        } else {
            StatusCode::MULTI_STATUS
        };
        let body = json!({
            "deleted": self.deleted, "failed": self.failed, "failed_total": self.failed_total,
            "invalidation": self.barriers.json(),
        });
        Ok((status, Json(body)).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deleted_before_a_failure_is_told() {
        let failure = || Some(Failure::later("SlowDown", "not now").about("b", Some("p")));
        let nothing = Done {
            stopped: failure(),
            ..Done::default()
        };
        assert_eq!(nothing.answer().unwrap_err().status().as_u16(), 503);
        let some = Done {
            stopped: failure(),
            deleted: 1000,
            ..Done::default()
        };
        assert_eq!(some.answer().unwrap().status(), 207);
        let all = Done {
            deleted: 3,
            ..Done::default()
        };
        assert_eq!(all.answer().unwrap().status(), 200);
    }
}
