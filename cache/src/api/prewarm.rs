//! `POST /prewarm`: a job that reads objects into the ring before anybody asks for them. Jobs live in memory, at the node
//! that took them; their reads come after those of clients.

mod job;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::body_buffer::buffer_body;
use super::error::Failure;
use super::query::Query;
use super::{Api, permit};
use crate::access::{Target, Verb};
use job::{Job, Work};

/// Jobs that run at one time.
const RUNNING: usize = 16;

/// Jobs whose state can be asked for, those that have ended included.
const KEPT: usize = 64;

/// Bytes of a list of keys.
const BODY: u64 = 1024 * 1024;

/// All jobs of this node, oldest first.
#[derive(Default)]
pub(super) struct JobRegistry(Mutex<VecDeque<Arc<Job>>>);

impl JobRegistry {
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        // A job is pushed or removed whole: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Job>, Failure> {
        let jobs = self.jobs();
        let found = jobs.iter().find(|job| job.id() == id);
        found.cloned().ok_or_else(unknown)
    }

    /// Takes the job in; the oldest that has ended makes room.
    fn add(&self, job: &Arc<Job>) -> Result<(), Failure> {
        let mut jobs = self.jobs();
        if jobs.iter().filter(|job| !job.ended()).count() >= RUNNING {
            return Err(Failure::later(
                "TooManyPrewarms",
                format_args!("{RUNNING} prewarms run already at this node"),
            ));
        }
        while jobs.len() >= KEPT {
            let oldest = jobs.iter().position(|job| job.ended());
            jobs.remove(oldest.expect("no more than RUNNING of KEPT have not ended"));
        }
        jobs.push_back(Arc::clone(job));
        Ok(())
    }
}

/// `POST /prewarm?prefix=P[&bucket=B]`, or a JSON list of keys in the body.
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    let mut query = Query::parse(request.uri().query(), &["prefix", "bucket"])?;
    let bucket = api.bucket(&who, Verb::Read, query.take("bucket"))?;
    let (body, _charge) = buffer_body(api.parts.proxy.store(), request.into_body(), BODY).await?;
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
        api.parts.proxy.clone(),
        api.parts.origin.clone(),
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
                    format_args!("the body is no JSON list of keys: {error}"),
                )
            }),
        _ => Err(Failure::bad(
            "MissingParameter",
            "either prefix= is needed here, or a JSON list of keys in the body",
        )),
    }
}

/// `GET /prewarm/ID`
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    Ok(Json(api.prewarm(&id, &headers)?.shown()).into_response())
}

/// `DELETE /prewarm/ID`: no further object is begun.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let job = api.prewarm(&id, &headers)?;
    job.cancel();
    Ok(Json(job.shown()).into_response())
}

impl Api {
    /// The job, for who made it; for others there is none.
    fn prewarm(&self, id: &str, headers: &HeaderMap) -> Result<Arc<Job>, Failure> {
        let who = self.caller(headers)?;
        let job = self.prewarms.find(id)?;
        if job.belongs_to(&who) {
            return Ok(job);
        }
        Err(unknown())
    }
}

fn unknown() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "NoSuchPrewarm",
        "this node knows no such prewarm: ask the node that took it; a restart forgets them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Caller;

    fn job() -> Arc<Job> {
        Arc::new(Job::new(Caller::Anybody, "b".into(), &Work::Keys(vec![])))
    }

    #[tokio::test]
    async fn a_node_keeps_some_jobs_and_runs_fewer() {
        let board = JobRegistry::default();
        let first = job();
        board.add(&first).unwrap();
        for _ in 1..RUNNING {
            board.add(&job()).unwrap();
        }
        assert_eq!(board.add(&job()).unwrap_err().code(), "TooManyPrewarms");
        let last = job();
        for n in 0..2 * KEPT {
            board.jobs().iter().for_each(|job| job.end(None));
            let next = if n + 1 < 2 * KEPT {
                job()
            } else {
                Arc::clone(&last)
            };
            board.add(&next).unwrap();
        }
        assert_eq!(board.jobs().len(), KEPT);
        assert_eq!(board.find(first.id()).err().unwrap().status().as_u16(), 404);
        assert!(board.find(last.id()).is_ok());
    }

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
