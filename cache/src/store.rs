//! What this node holds: blocks, heads, their bound in bytes, and the fence that keeps out what an invalidation has overtaken.
//!
//! It reads nothing from anywhere: others fill it, after they have reserved the memory here.

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

/// Everything that a node holds in memory for objects.
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
    /// Bytes of copies of others' blocks.
    pub replica_bytes: u64,
    /// Bytes that finding the blocks costs.
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

    /// The bound and what is used of it.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Charges `bytes` and evicts blocks for them where needed. `None` when the rest is in use: being read, filled or sent.
    ///
    /// Reserve what will be a replica as [`Kind::Replicas`]: once replicas have their share, it evicts one of them and no owned block.
    pub fn try_reserve(&self, kind: Kind, bytes: u64) -> Option<Charge> {
        self.blocks.try_reserve(kind, bytes)
    }

    /// As [`Store::try_reserve`], waiting up to `wait` until others let go of memory.
    pub async fn reserve(&self, kind: Kind, bytes: u64, wait: Duration) -> Option<Charge> {
        if bytes > self.budget.limit() {
            return None;
        }
        self.budget
            .until(wait, || self.try_reserve(kind, bytes))
            .await
    }

    /// The ticket of a read of `object` that begins now. Take it before the origin is asked.
    pub fn begin(&self, object: &ObjectId) -> Ticket {
        self.fence.begin(object)
    }

    /// What is known of the object, fresh or not.
    pub fn head(&self, object: &ObjectId) -> Option<Entry> {
        self.heads.get(object)
    }

    /// Replaces what is known of an object by what `amend` makes of it. Asked twice: the second time nothing can come between.
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

    /// Stores what is known of an object. False when it was not stored: an invalidation came since the ticket was taken,
    /// or all memory is in use. It may later be dropped for entries that are asked for more often; its blocks then age out.
    pub fn put_head(&self, object: &ObjectId, entry: Entry, ticket: Ticket) -> bool {
        let Some(charge) = self.try_reserve(Kind::Heads, Heads::cost(object, &entry)) else {
            return false;
        };
        self.fence.admit(object, ticket, || {
            self.heads.put(object, entry, charge);
            true
        })
    }

    /// Forgets what is known of the object if that is still this version. Its blocks age out.
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

    /// Stores a complete block. False when it was not stored: an invalidation came since the ticket was taken, or there is no room,
    /// which for a replica means no room in its share.
    pub fn put_block(&self, id: BlockId, block: Block, pool: Pool, ticket: Ticket) -> bool {
        let object = id.object.clone();
        self.fence
            .admit(&object, ticket, || self.blocks.put(id, block, pool))
    }

    /// Removes what the scope names; what was begun before is not stored any more.
    pub fn invalidate(&self, scope: &Scope) -> Dropped {
        self.fence.revoke(scope, || Dropped {
            heads: self.heads.remove(scope),
            blocks: self.blocks.remove(scope),
        })
    }

    /// Forgets what is known of all objects, and what is being found out. Their blocks stay.
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
