//! The barrier: once it is complete, no read that starts at any node gets what S3 held before it was called.
//!
//! `rounds` decides which nodes are told when, and why twice; `model` tries that in every order; `coordinator` carries
//! one invalidation out; `collect` retries nodes that did not answer; here are the callers and the answers to other
//! coordinators. An invalidation is never merged with one that has already been sent.

mod collect;
mod coordinator;
#[cfg(test)]
mod model;
mod rounds;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::members::Members;
use crate::metrics::Metrics;
use crate::object::Scope;
use crate::peer::{self, InvalidateAck, InvalidateRequest, Peers};
use crate::store::Dropped;
use coordinator::Coordinator;

/// Makes this node forget; it has happened when the call returns.
pub type Apply = Arc<dyn Fn(&Scope) -> Dropped + Send + Sync>;

/// Sends invalidations over the network.
pub trait InvalidateClient: Send + Sync {
    /// Sends `request` to the node at `url`. The caller bounds the time.
    fn send<'a>(
        &'a self,
        url: &'a str,
        request: &'a InvalidateRequest,
    ) -> BoxFuture<'a, Result<InvalidateAck, peer::Error>>;
}

impl InvalidateClient for Peers {
    fn send<'a>(
        &'a self,
        url: &'a str,
        request: &'a InvalidateRequest,
    ) -> BoxFuture<'a, Result<InvalidateAck, peer::Error>> {
        Box::pin(self.invalidate(url, request))
    }
}

/// What came of an invalidation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every node has forgotten: the promise holds. Otherwise every node that answered goes after the rest.
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
    client: Arc<dyn InvalidateClient>,
    apply: Apply,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// The nodes that are being asked for what they owe.
    asked: Mutex<HashSet<String>>,
    early: Mutex<EarlyInvalidations>,
}

/// Invalidations from before discovery has named anybody.
#[derive(Debug, Default)]
struct EarlyInvalidations {
    scopes: HashSet<Scope>,
    /// Somebody waits for the ring.
    waits: bool,
}

/// Beyond so many, those from before discovery has spoken become one of everything.
const MAX_EARLY: usize = 256;

/// A node that has answered so lately is one that can be reached.
const REACHED: Duration = Duration::from_secs(2);

/// Between two looks whether all have paid.
const LOOK: Duration = Duration::from_millis(20);

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator")
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl Invalidator {
    /// `apply` is this node's part; those that owe something are asked for it until `stop`.
    pub fn new(
        members: Arc<Members>,
        client: Arc<dyn InvalidateClient>,
        apply: Apply,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let inner = Arc::new(Inner {
            members,
            client,
            apply,
            metrics,
            stop,
            asked: Mutex::default(),
            early: Mutex::default(),
        });
        tokio::spawn(collect::whenever_noted(Arc::clone(&inner)));
        Self(inner)
    }

    /// Makes every node forget. It goes on if the caller goes away. A node that does not answer costs some seconds;
    /// then the report is incomplete, and every node that answered goes after the rest until it answers or is gone.
    pub async fn invalidate(&self, scope: Scope) -> Report {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let mut coordinator = Coordinator::new(Arc::clone(&this.0), scope);
            let complete = coordinator.run().await;
            this.0.metrics.invalidation(complete);
            if let Some(scope) = coordinator.missed_the_ring() {
                this.again_when_the_ring_is_known(scope);
            }
            coordinator.report(complete)
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

    /// Another node's request: this one forgets, and names those it knows. It remembers who has not answered: first, so
    /// that nothing that they know is copied after the forgetting.
    pub fn apply_request(&self, request: &InvalidateRequest) -> InvalidateAck {
        self.0.members.owe(&request.unanswered, &request.scope);
        let dropped = (self.0.apply)(&request.scope);
        InvalidateAck {
            name: self.0.members.name().to_owned(),
            dropped_heads: dropped.heads,
            dropped_blocks: dropped.blocks,
            // After the forgetting, so that nobody who came before it is missing.
            members: self.0.members.vouched(),
        }
    }

    /// Nodes that owe the answer to an invalidation, as far as this one knows; the ring counts as one while it is not
    /// known.
    pub fn pending(&self) -> usize {
        let early = self.0.early();
        self.0.members.owing().len() + usize::from(early.waits)
    }

    /// Waits until all have paid that can be reached, but no longer than `most`: whoever leaves may be the only one who
    /// knows.
    pub async fn collected(&self, most: Duration) {
        let members = &self.0.members;
        let reached = |name: &String| members.idle_for(name).is_some_and(|idle| idle < REACHED);
        let collected = async {
            while members.owing().iter().any(reached) {
                sleep(LOOK).await;
            }
        };
        let _in_time_or_not = timeout(most, collected).await;
    }

    fn again_when_the_ring_is_known(&self, scope: Scope) {
        let mut early = self.0.early();
        if early.scopes.len() >= MAX_EARLY {
            early.scopes = HashSet::from([Scope::All]);
        } else {
            early.scopes.insert(scope);
        }
        if !early.waits {
            early.waits = true;
            let (this, stop) = (self.clone(), self.0.stop.clone());
            tokio::spawn(async move {
                stop.run_until_cancelled(this.when_the_ring_is_known())
                    .await;
                this.0.early().waits = false;
            });
        }
    }

    async fn when_the_ring_is_known(&self) {
        loop {
            collect::until_the_ring_is_known(&self.0.members).await;
            let scopes = std::mem::take(&mut self.0.early().scopes);
            for scope in scopes {
                Box::pin(self.invalidate(scope)).await;
            }
            let mut early = self.0.early();
            if early.scopes.is_empty() {
                early.waits = false;
                return;
            }
        }
    }
}

impl Inner {
    fn asked(&self) -> MutexGuard<'_, HashSet<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, EarlyInvalidations> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
