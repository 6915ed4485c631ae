//! What this node holds: blocks, heads, their bound in bytes, and the fence that keeps out what an invalidation has overtaken.
//!
//! It reads nothing from anywhere: others fill it, after they have reserved the memory here.

mod blocks;
mod budget;
mod buffer;
mod fence;
mod heads;
mod lent;
mod policy;
mod slab;

use std::time::Duration;

pub use blocks::Evictions;
pub use budget::{Budget, Charge, Kind};
pub use buffer::{Block, Buffer, Error};
pub use fence::{Generations, Ticket};
pub use heads::{Absent, Known, Record};
pub use lent::{Loan, Pace};
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
    /// Records of objects.
    pub heads: u64,
    /// Blocks, owned and hot.
    pub blocks: u64,
}

/// What the store holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Complete blocks.
    pub blocks: u64,
    /// Records of objects.
    pub heads: u64,
    /// Bytes of blocks that this node owns.
    pub owned_bytes: u64,
    /// Bytes of copies of others' blocks.
    pub hot_bytes: u64,
    /// Bytes that finding the blocks costs.
    pub index_bytes: u64,
    /// Blocks removed since the start.
    pub evictions: Evictions,
}

impl Store {
    /// An empty store that never charges more than `limit` bytes; hot copies keep `hot_share` of them, and
    /// take more while memory is free.
    pub fn new(limit: u64, hot_share: u64) -> Self {
        let budget = Budget::new(limit);
        Self {
            blocks: BlockStore::new(budget.clone(), hot_share),
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
    /// Reserve what will be a hot copy as [`Kind::Relays`]: once hot copies have their share, it evicts one of them and no owned block.
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
    pub fn head(&self, object: &ObjectId) -> Option<Record> {
        self.heads.get(object)
    }

    /// Replaces what is known of an object by what `amend` makes of it. Asked twice: the second time nothing can come between.
    pub fn amend_head(
        &self,
        object: &ObjectId,
        ticket: Ticket,
        amend: impl Fn(&Record) -> Option<Record>,
    ) -> bool {
        let cost = |record: &Record| Heads::cost(object, record);
        let amended = || self.heads.get(object).as_ref().and_then(&amend);
        let Some(charge) = amended().and_then(|it| self.try_reserve(Kind::Heads, cost(&it))) else {
            return false;
        };
        self.fence.admit(object, ticket, || {
            let Some(record) = amended().filter(|it| cost(it) <= charge.bytes()) else {
                return false;
            };
            self.heads.put(object, record, charge);
            true
        })
    }

    /// Stores what is known of an object. False when it was not stored: an invalidation came since the ticket was taken,
    /// or all memory is in use. It may later be dropped for records that are asked for more often; its blocks then age out.
    pub fn put_head(&self, object: &ObjectId, record: Record, ticket: Ticket) -> bool {
        let Some(charge) = self.try_reserve(Kind::Heads, Heads::cost(object, &record)) else {
            return false;
        };
        self.fence.admit(object, ticket, || {
            self.heads.put(object, record, charge);
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

    /// The block, for a reader whose use of it is counted already.
    pub fn block_again(&self, id: &BlockId) -> Option<Block> {
        self.blocks.get_again(id)
    }

    /// True when the block is here; not counted as a use.
    pub fn holds(&self, id: &BlockId) -> bool {
        self.blocks.holds(id)
    }

    /// Stores a complete block. False when it was not stored: an invalidation came since the ticket was taken, or there is no room,
    /// which for a hot copy means no room in its share.
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
            hot_bytes: holdings.hot_bytes,
            index_bytes: holdings.index_bytes,
            evictions: holdings.evictions,
        }
    }
}

#[cfg(test)]
mod tests;
