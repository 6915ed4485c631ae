//! What this node holds: blocks, heads, their bound in bytes, and the fence that rejects what was read before an
//! invalidation.
//!
//! It reads nothing itself: callers fill it, after they have reserved the memory here.

mod block_lease;
mod blocks;
mod budget;
mod buffer;
mod fence;
mod heads;
mod policy;
mod slab;

use std::time::Duration;

pub use block_lease::{BlockLease, ClientSpeed};
pub use blocks::Evictions;
pub use budget::{Budget, Charge, Kind};
pub use buffer::{Block, Buffer, Error};
pub use fence::{Generations, Ticket};
pub use heads::{Absent, Entry, EntryState};
pub use policy::{Policy, Pool};

use blocks::BlockStore;
use fence::Fence;
use heads::Heads;

use crate::object::{BlockId, ETag, ObjectId, Scope};

/// All that a node holds in memory for objects.
pub struct Store {
    budget: Budget,
    blocks: BlockStore,
    heads: Heads,
    fence: Fence,
}

/// What an invalidation removed from this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Entries of objects.
    pub heads: u64,
    /// Blocks, owned and replicas.
    pub blocks: u64,
}

/// What the store holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Complete blocks.
    pub blocks: u64,
    /// Entries of objects.
    pub heads: u64,
    /// Bytes of blocks that this node owns.
    pub owned_bytes: u64,
    /// Bytes of replicas.
    pub replica_bytes: u64,
    /// Bytes of the index that finds the blocks.
    pub index_bytes: u64,
    /// Blocks and heads removed since the start.
    pub evictions: Evictions,
}

impl Store {
    /// An empty store that never charges more than `limit` bytes; replicas keep `replica_share` of them, and
    /// take more while memory is free.
    pub fn new(limit: u64, replica_share: u64) -> Self {
        let budget = Budget::new(limit);
        Self {
            blocks: BlockStore::new(budget.clone(), replica_share),
            heads: Heads::new(&budget),
            fence: Fence::new(),
            budget,
        }
    }

    /// The bound, and how much of it is in use.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Charges `bytes`, and evicts blocks for them if necessary. `None` if the rest is in use: being read, filled or
    /// sent.
    ///
    /// Use [`Kind::Replicas`] for a future replica: once replicas have their share, only replicas are evicted for it,
    /// no owned block.
    pub fn try_reserve(&self, kind: Kind, bytes: u64) -> Option<Charge> {
        self.blocks.try_reserve(kind, bytes)
    }

    /// As [`Store::try_reserve`], but waits for others to release memory, for `wait` at most.
    pub async fn reserve(&self, kind: Kind, bytes: u64, wait: Duration) -> Option<Charge> {
        if bytes > self.budget.limit() {
            return None;
        }
        self.budget
            .until(wait, || self.try_reserve(kind, bytes))
            .await
    }

    /// The ticket for a read of `object` that begins now. Take it before asking the origin.
    pub fn begin(&self, object: &ObjectId) -> Ticket {
        self.fence.begin(object)
    }

    /// What is known about the object, fresh or not.
    pub fn head(&self, object: &ObjectId) -> Option<Entry> {
        self.heads.get(object)
    }

    /// Replaces what is known about an object by what `amend` returns. `amend` is called twice: nothing can change
    /// during the second call.
    pub fn amend_head(
        &self,
        object: &ObjectId,
        ticket: Ticket,
        amend: impl Fn(&Entry) -> Option<Entry>,
    ) -> bool {
        let cost = |entry: &Entry| Heads::cost(object, entry);
        let amended = || self.heads.get(object).as_ref().and_then(&amend);
        let Some(charge) = amended().and_then(|it| self.try_reserve(Kind::Heads, cost(&it))) else {
            return false;
        };
        self.fence.admit(object, ticket, || {
            let Some(entry) = amended().filter(|it| cost(it) <= charge.bytes()) else {
                return false;
            };
            self.heads.put(object, entry, charge);
            true
        })
    }

    /// Stores what is known about an object. False if it was not stored: an invalidation came since the ticket was
    /// taken, or all memory is in use. It may later be evicted for entries that are used more often; its blocks then
    /// age out.
    pub fn put_head(&self, object: &ObjectId, entry: Entry, ticket: Ticket) -> bool {
        let Some(charge) = self.try_reserve(Kind::Heads, Heads::cost(object, &entry)) else {
            return false;
        };
        self.fence.admit(object, ticket, || {
            self.heads.put(object, entry, charge);
            true
        })
    }

    /// Forgets what is known about the object if that is still this version. Its blocks age out.
    pub fn remove_head(&self, object: &ObjectId, etag: &ETag) {
        self.fence
            .alone(object, || self.heads.remove_version(object, etag));
    }

    /// The block, counted as a use.
    pub fn block(&self, id: &BlockId) -> Option<Block> {
        self.blocks.get(id)
    }

    /// The block, not counted as a use.
    pub fn peek_block(&self, id: &BlockId) -> Option<Block> {
        self.blocks.peek(id)
    }

    /// Stores a complete block. False if it was not stored: an invalidation came since the ticket was taken, or there
    /// is no room, which for a replica means no room in its share.
    pub fn put_block(&self, id: BlockId, block: Block, pool: Pool, ticket: Ticket) -> bool {
        let object = id.object.clone();
        self.fence
            .admit(&object, ticket, || self.blocks.put(id, block, pool))
    }

    /// Removes what the scope names. Reads that began before are not stored.
    pub fn invalidate(&self, scope: &Scope) -> Dropped {
        self.fence.revoke(scope, || Dropped {
            heads: self.heads.remove(scope),
            blocks: self.blocks.remove(scope),
        })
    }

    /// Forgets what is known about all objects, and voids lookups in progress. Blocks stay.
    pub fn forget_heads(&self) {
        let scope = Scope::All;
        self.fence.revoke(&scope, || self.heads.remove(&scope));
    }

    /// What is held now.
    pub fn stats(&self) -> Stats {
        let holdings = self.blocks.holdings();
        Stats {
            blocks: holdings.blocks,
            heads: self.heads.count(),
            owned_bytes: holdings.owned_bytes,
            replica_bytes: holdings.replica_bytes,
            index_bytes: holdings.index_bytes,
            evictions: holdings.evictions + self.heads.evictions(),
        }
    }
}

#[cfg(test)]
mod tests;
