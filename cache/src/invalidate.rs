//! The barrier: once it is complete, no read that starts at any node gets what S3 held before it was called.
//!
//! `rounds` says who is told when, and why twice; `model` tries it in every order; `course` carries one invalidation out;
//! here are the callers, the answers to other coordinators, and what goes on behind after an incomplete one.
//! An invalidation is never merged with one that has been sent already.

mod course;
#[cfg(test)]
mod model;
mod rounds;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::members::Members;
use crate::metrics::Metrics;
use crate::object::Scope;
use crate::peer::{self, Ack, Order, Peers};
use crate::store::Dropped;
use course::Course;

/// Incomplete invalidations that are carried on one by one. Beyond that they become one of everything.
const MAX_PENDING: usize = 256;

/// Makes this node forget; it has happened when the call returns.
pub type Apply = Arc<dyn Fn(&Scope) -> Dropped + Send + Sync>;

/// Gives orders over the network.
pub trait Teller: Send + Sync {
    /// Gives `order` to the node at `url`. The caller bounds the time.
    fn tell<'a>(
        &'a self,
        url: &'a str,
        order: &'a Order,
    ) -> BoxFuture<'a, Result<Ack, peer::Error>>;
}

impl Teller for Peers {
    fn tell<'a>(
        &'a self,
        url: &'a str,
        order: &'a Order,
    ) -> BoxFuture<'a, Result<Ack, peer::Error>> {
        Box::pin(self.invalidate(url, order))
    }
}

/// What came of an invalidation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every node has forgotten: the promise holds. Otherwise the rest goes on behind.
    pub complete: bool,
    /// Every node that was told, by name.
    pub nodes: Vec<NodeReport>,
}

/// What one node made of an invalidation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// The node.
    pub name: String,
    /// It answered when it was last told.
    pub answered: bool,
    /// Heads that it threw out.
    pub dropped_heads: u64,
    /// Blocks that it threw out.
    pub dropped_blocks: u64,
    /// Why it did not answer, when it was last told.
    pub error: Option<String>,
}

/// Carries invalidations out, and answers those of others. A clone is another handle to the same.
#[derive(Clone)]
pub struct Invalidator(Arc<Inner>);

struct Inner {
    members: Arc<Members>,
    teller: Arc<dyn Teller>,
    apply: Apply,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    single: usize,
    /// Invalidations that the one of everything stands for, counted up as they come.
    merged: u64,
    merging: bool,
}

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator")
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl Invalidator {
    /// `apply` is this node's part; what is incomplete is carried on until `stop`.
    pub fn new(
        members: Arc<Members>,
        teller: Arc<dyn Teller>,
        apply: Apply,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            members,
            teller,
            apply,
            metrics,
            stop,
            pending: Mutex::default(),
        }))
    }

    /// Makes every node forget. It goes on if the caller goes away. A node that does not answer costs some seconds; then the
    /// report is incomplete, and the rest goes on behind until the node answers or is gone.
    pub async fn invalidate(&self, scope: Scope) -> Report {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let mut course = Course::new(Arc::clone(&this.0), scope);
            let complete = course.run().await;
            this.0.metrics.invalidation(complete);
            let report = course.report(complete);
            if !complete {
                this.carry_on(course);
            }
            report
        });
        // Lost only to a panic in `apply`, or to the end of the process.
        task.await.unwrap_or_else(|lost| Report {
            complete: false,
            nodes: vec![NodeReport {
                name: self.0.members.name().to_owned(),
                answered: false,
                dropped_heads: 0,
                dropped_blocks: 0,
                error: Some(lost.to_string()),
            }],
        })
    }

    /// Another node's order: this one forgets, and names those it knows.
    pub fn ordered(&self, order: &Order) -> Ack {
        let dropped = (self.0.apply)(&order.scope);
        Ack {
            name: self.0.members.name().to_owned(),
            dropped_heads: dropped.heads,
            dropped_blocks: dropped.blocks,
            // After the forgetting, so that nobody who came before it is missing.
            members: self.0.members.vouched(),
        }
    }

    /// Invalidations that are incomplete and still carried on; those merged into one count as one.
    pub fn pending(&self) -> usize {
        let pending = self.0.pending();
        pending.single + usize::from(pending.merging)
    }

    fn carry_on(&self, course: Course) {
        let mut pending = self.0.pending();
        if pending.single < MAX_PENDING {
            pending.single += 1;
            tokio::spawn(carry_on_single(Arc::clone(&self.0), course));
            return;
        }
        pending.merged += 1;
        if !pending.merging {
            pending.merging = true;
            tokio::spawn(carry_on_merged(Arc::clone(&self.0), course));
        }
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn carry_on_single(inner: Arc<Inner>, mut course: Course) {
    inner.stop.run_until_cancelled(course.persist(|| ())).await;
    inner.pending().single -= 1;
}

/// One invalidation of everything for all that found no room. Those that come before its first full round that counts are
/// covered; for later ones it starts over.
async fn carry_on_merged(inner: Arc<Inner>, mut course: Course) {
    course.widen();
    let work = async {
        loop {
            let mut covered = 0;
            course.persist(|| covered = inner.pending().merged).await;
            let mut pending = inner.pending();
            if pending.merged == covered {
                pending.merging = false;
                return;
            }
            drop(pending);
            course.start_over();
        }
    };
    if inner.stop.run_until_cancelled(work).await.is_none() {
        inner.pending().merging = false;
    }
}

#[cfg(test)]
mod tests;
