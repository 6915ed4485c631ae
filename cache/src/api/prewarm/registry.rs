//! The prewarms that this node knows: those that run, and the last of those that have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;

use super::job::Job;
use crate::access::Caller;
use crate::web::failure::Failure;

/// Jobs that run at one time.
const RUNNING: usize = 16;

/// Jobs whose state can be asked for, those that have ended included.
const KEPT: usize = 64;

/// All jobs of this node, oldest first.
#[derive(Default)]
pub(crate) struct JobRegistry(Mutex<VecDeque<Arc<Job>>>);

impl JobRegistry {
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        // A job is pushed or removed whole: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job of that id, for the caller that made it; for others it does not exist.
    pub(super) fn find(&self, id: &str, who: &Caller) -> Result<Arc<Job>, Failure> {
        let jobs = self.jobs();
        let mut theirs = jobs.iter().filter(|job| job.belongs_to(who));
        let found = theirs.find(|job| job.id() == id);
        found.cloned().ok_or_else(unknown)
    }

    /// Adds the job; the oldest one that has ended makes room.
    pub(super) fn add(&self, job: &Arc<Job>) -> Result<(), Failure> {
        let mut jobs = self.jobs();
        if jobs.iter().filter(|job| !job.ended()).count() >= RUNNING {
            return Err(Failure::later(
                "TooManyPrewarms",
                format_args!(
                    "{RUNNING} prewarms are already running at this node: try again when one has ended"
                ),
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

fn unknown() -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "NoSuchPrewarm",
        "this node does not know the prewarm: ask the node that started it. A restart forgets all prewarms",
    )
}

#[cfg(test)]
mod tests {
    use super::super::job::Work;
    use super::*;

    fn job() -> Arc<Job> {
        Arc::new(Job::new(Caller::Anybody, "b".into(), &Work::Keys(vec![])))
    }

    #[tokio::test]
    async fn a_node_keeps_some_jobs_and_runs_fewer() {
        let registry = JobRegistry::default();
        let first = job();
        registry.add(&first).unwrap();
        for _ in 1..RUNNING {
            registry.add(&job()).unwrap();
        }
        assert_eq!(registry.add(&job()).unwrap_err().code(), "TooManyPrewarms");
        let last = job();
        for n in 0..2 * KEPT {
            registry.jobs().iter().for_each(|job| job.end(None));
            let next = if n + 1 < 2 * KEPT {
                job()
            } else {
                Arc::clone(&last)
            };
            registry.add(&next).unwrap();
        }
        assert_eq!(registry.jobs().len(), KEPT);
        let code = |id: &str| {
            let found = registry.find(id, &Caller::Anybody);
            found.err().map(|failure| failure.code().to_owned())
        };
        assert_eq!(code(first.id()).as_deref(), Some("NoSuchPrewarm"));
        assert!(code(last.id()).is_none());
    }
}
