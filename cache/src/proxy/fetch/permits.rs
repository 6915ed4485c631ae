//! Permits for reads from S3: how many may run at one moment. A read that crawls gives its permit up for one of a
//! second, smaller pool, so that it holds up no other read.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads that crawl hold a block each; together they may hold one part in this many of all memory.
const MEMORY_PARTS: u64 = 4;

/// The permits of a node.
pub(super) struct Permits {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    reads: usize,
    crawlers: usize,
}

impl Permits {
    /// Permits for `reads` reads, and beside them for as many that crawl, if a quarter of the `memory` has room for
    /// their blocks.
    pub(super) fn new(reads: usize, memory: u64, block: u64) -> Self {
        let room = usize::try_from(memory / MEMORY_PARTS / block.max(1)).unwrap_or(usize::MAX);
        let crawlers = room.clamp(1, reads.max(1));
        Self {
            quick: Arc::new(Semaphore::new(reads)),
            slow: Arc::new(Semaphore::new(crawlers)),
            reads,
            crawlers,
        }
    }

    /// The permit for one read, when its turn comes.
    pub(super) async fn take(&self) -> Option<Permit> {
        let held = Arc::clone(&self.quick).acquire_owned().await.ok()?;
        Some(Permit {
            held,
            quick: Arc::clone(&self.quick),
            slow: Arc::clone(&self.slow),
            crawls: false,
        })
    }

    /// Reads that run now: those that go on, and those that crawl.
    pub(super) fn running(&self) -> (u64, u64) {
        let taken = |all: usize, pool: &Semaphore| all.saturating_sub(pool.available_permits());
        (
            taken(self.reads, &self.quick) as u64,
            taken(self.crawlers, &self.slow) as u64,
        )
    }
}

/// The permit of one read from S3, until it is dropped.
pub(in crate::proxy) struct Permit {
    held: OwnedSemaphorePermit,
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    crawls: bool,
}

impl Permit {
    /// Counts the read among those that crawl, or no longer. False when as many crawl as may.
    pub(super) fn counts_as(&mut self, crawls: bool) -> bool {
        if self.crawls == crawls {
            return true;
        }
        let pool = if crawls { &self.slow } else { &self.quick };
        let Ok(held) = Arc::clone(pool).try_acquire_owned() else {
            // It runs on where it is, until there is room.
            return !crawls;
        };
        (self.held, self.crawls) = (held, crawls);
        true
    }
}
