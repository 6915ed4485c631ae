//! One prewarm: its work, its progress, its end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_stream::stream;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Caller;
use crate::object::ObjectId;
use crate::origin::{Origin, Pages};
use crate::proxy::Proxy;
use crate::web::failure::Failure;

/// Objects warmed at one time: enough to hide S3's latency, few enough to leave bandwidth to readers.
const AT_ONCE: usize = 4;

/// Failed objects that the state names.
const SAMPLES: usize = 20;

/// Keys in one page of S3's listing.
const PAGE: u32 = 1000;

/// What is to be warmed.
pub(super) enum Work {
    /// All that S3 lists under it.
    Prefix(String),
    /// These, in this order.
    Keys(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum JobState {
    Running,
    Done,
    Cancelled,
    /// S3's list could not be read to its end.
    Failed,
}

/// The total, as far as it is known; `None` until the listing has been read.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    objects: Option<u64>,
    bytes: Option<u64>,
}

struct JobProgress {
    state: JobState,
    total: Total,
    samples: Vec<Value>,
    ended: Option<Instant>,
}

/// A job and its progress.
pub(super) struct Job {
    id: String,
    owner: Caller,
    bucket: String,
    started: Instant,
    cancel: CancellationToken,
    objects: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    progress: Mutex<JobProgress>,
}

type Objects = Pin<Box<dyn Stream<Item = Result<ObjectId, Value>> + Send>>;

impl Job {
    /// Not begun; it belongs to `owner`. Its id can't be guessed.
    pub(super) fn new(owner: Caller, bucket: String, work: &Work) -> Self {
        let objects = match work {
            Work::Keys(keys) => Some(keys.len() as u64),
            Work::Prefix(_) => None,
        };
        Self {
            id: random_id(),
            owner,
            bucket,
            started: Instant::now(),
            cancel: CancellationToken::new(),
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            progress: Mutex::new(JobProgress {
                state: JobState::Running,
                total: Total {
                    objects,
                    bytes: None,
                },
                samples: Vec::new(),
                ended: None,
            }),
        }
    }

    /// True when `caller` started it.
    pub(super) fn belongs_to(&self, caller: &Caller) -> bool {
        self.owner.is_same(caller)
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// True when it has ended.
    pub(super) fn ended(&self) -> bool {
        self.progress().state != JobState::Running
    }

    /// Starts no further object; the current ones are finished.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
        self.finish(JobState::Cancelled);
    }

    /// Ends the job: everything is done, or the listing broke off with `failure`.
    pub(super) fn end(&self, failure: Option<Value>) {
        match failure {
            None => self.finish(JobState::Done),
            Some(sample) => {
                self.progress().samples.push(sample);
                self.finish(JobState::Failed);
            }
        }
    }

    /// Its state as JSON.
    pub(super) fn shown(&self) -> Value {
        let progress = self.progress();
        let (objects, failed) = (
            self.objects.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        );
        let bytes = self.bytes.load(Ordering::Relaxed);
        let elapsed = progress
            .ended
            .map_or_else(|| self.started.elapsed(), |ended| ended - self.started);
        let seconds = elapsed.as_secs_f64();
        let running = progress.state == JobState::Running;
        let remaining = running
            .then(|| remaining(seconds, objects + failed, bytes, progress.total))
            .flatten();
        json!({
            "id": self.id,
            "bucket": self.bucket,
            "state": progress.state,
            "objects": {"done": objects, "failed": failed, "total": progress.total.objects},
            "bytes": {"done": bytes, "total": progress.total.bytes},
            "failed": progress.samples,
            "seconds": seconds,
            "bytes_per_second": rate(bytes, seconds),
            "remaining_seconds": remaining,
        })
    }

    fn progress(&self) -> MutexGuard<'_, JobProgress> {
        // Each field is set on its own and stays true.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, state: JobState) {
        let mut progress = self.progress();
        if progress.state == JobState::Running {
            progress.state = state;
            progress.ended = Some(Instant::now());
        }
    }

    fn record_warmed(&self, bytes: u64) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn record_failed(&self, sample: Value) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut progress = self.progress();
        if progress.samples.len() < SAMPLES {
            progress.samples.push(sample);
        }
    }
}

/// Does the work. Only the job remembers it.
pub(super) async fn run(job: Arc<Job>, proxy: Proxy, origin: Origin, work: Work) {
    let objects: Objects = match work {
        Work::Keys(keys) => Box::pin(named(Arc::clone(&job), keys)),
        Work::Prefix(prefix) => Box::pin(listed(Arc::clone(&job), origin, prefix)),
    };
    let broken = Mutex::new(None);
    let until = objects.take_until(job.cancel.cancelled());
    until
        .for_each_concurrent(AT_ONCE, |object| {
            let (job, proxy, broken) = (&job, &proxy, &broken);
            async move {
                match object {
                    Ok(object) => warm(job, proxy, &object).await,
                    Err(sample) => {
                        *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
                    }
                }
            }
        })
        .await;
    job.end(broken.into_inner().unwrap_or_else(PoisonError::into_inner));
}

async fn warm(job: &Job, proxy: &Proxy, object: &ObjectId) {
    match proxy.warm(object).await {
        Ok(bytes) => job.record_warmed(bytes),
        Err(error) => job.record_failed(sample(object.key(), &Failure::from(error))),
    }
}

fn sample(key: &str, failure: &Failure) -> Value {
    json!({"key": key, "code": failure.code(), "message": failure.message()})
}

/// The objects of a list of keys; an invalid key counts as failed.
fn named(job: Arc<Job>, keys: Vec<String>) -> impl Stream<Item = Result<ObjectId, Value>> + Send {
    futures::stream::iter(keys).filter_map(move |key| {
        let object = ObjectId::new(&job.bucket, &key);
        let object = object.map_err(|error| job.record_failed(sample(&key, &Failure::from(error))));
        std::future::ready(object.ok().map(Ok))
    })
}

/// The objects under a prefix, page by page as they are warmed; the total is known when the last page is.
fn listed(
    job: Arc<Job>,
    origin: Origin,
    prefix: String,
) -> impl Stream<Item = Result<ObjectId, Value>> + Send {
    stream! {
        let (mut pages, mut objects, mut bytes) = (Pages::new(origin, &job.bucket, &prefix, PAGE), 0, 0);
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => {
                    yield Err(sample(&prefix, &Failure::from(error)));
                    return;
                }
            };
            objects += page.len() as u64;
            bytes += page.iter().map(|entry| entry.size).sum::<u64>();
            if pages.is_over() {
                job.progress().total = Total { objects: Some(objects), bytes: Some(bytes) };
            }
            for entry in page {
                match ObjectId::new(&job.bucket, &entry.key) {
                    Ok(object) => yield Ok(object),
                    Err(error) => job.record_failed(sample(&entry.key, &Failure::from(error))),
                }
            }
        }
    }
}

/// 128 random bits, in hexadecimal.
fn random_id() -> String {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("Linux always has random bytes once it has started");
    format!("{:032x}", u128::from_be_bytes(bits))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for humans")]
fn rate(done: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        done as f64 / seconds
    } else {
        0.0
    }
}

/// Estimated from bytes where they are known, else from objects; `None` while total or speed are unknown.
#[expect(clippy::cast_precision_loss, reason = "an estimate for humans")]
fn remaining(seconds: f64, objects: u64, bytes: u64, total: Total) -> Option<f64> {
    let (done, all) = match total.bytes {
        Some(all) => (bytes, all),
        None => (objects, total.objects?),
    };
    let rate = rate(done, seconds);
    (rate > 0.0).then(|| all.saturating_sub(done) as f64 / rate)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_as_it_is_made() {
        let job = Job::new(
            Caller::Anybody,
            "b".into(),
            &Work::Keys(vec![String::new(); 4]),
        );
        assert_eq!(job.shown()["remaining_seconds"], Value::Null);
        tokio::time::advance(Duration::from_secs(10)).await;
        job.record_warmed(500);
        job.record_failed(json!({"key": "k"}));
        let shown = job.shown();
        assert_eq!(
            shown["objects"],
            json!({"done": 1, "failed": 1, "total": 4})
        );
        assert_eq!(shown["bytes_per_second"], 50.0);
        assert_eq!(shown["remaining_seconds"], 10.0);
        job.end(None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(
            (&job.shown()["state"], &job.shown()["seconds"]),
            (&json!("done"), &json!(10.0))
        );
    }

    #[tokio::test]
    async fn a_cancelled_job_stays_cancelled() {
        let job = Job::new(Caller::Anybody, "b".into(), &Work::Prefix("p".into()));
        assert_eq!(job.shown()["objects"]["total"], Value::Null);
        job.cancel();
        job.end(None);
        assert_eq!(job.shown()["state"], "cancelled");
    }

    #[tokio::test]
    async fn many_failures_leave_some_samples() {
        let job = Job::new(Caller::Anybody, "b".into(), &Work::Keys(vec![]));
        for n in 0..50 {
            job.record_failed(json!({"key": n}));
        }
        assert_eq!(job.shown()["failed"].as_array().unwrap().len(), SAMPLES);
        assert_eq!(job.shown()["objects"]["failed"], 50);
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_one_is_a_failure_and_not_the_end() {
        let keys = vec!["a".to_owned(), String::new(), "b".to_owned()];
        let job = Arc::new(Job::new(Caller::Anybody, "b".into(), &Work::Keys(vec![])));
        let objects: Vec<_> = named(Arc::clone(&job), keys).collect().await;
        assert_eq!(objects.len(), 2);
        assert_eq!(job.shown()["objects"]["failed"], 1);
    }
}
