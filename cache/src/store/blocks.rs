//! The complete blocks: found by one hash under one lock, evicted in the policy's order, and bounded by the budget to
//! the byte.

mod index;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use index::Evictions;
use index::{Cause, Index, hash_of};

use super::budget::{Budget, Charge, Kind};
use super::buffer::Block;
use super::policy::Pool;
use crate::object::{BlockId, ObjectId, Scope};

/// Totals over the blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) blocks: u64,
    pub(crate) owned_bytes: u64,
    pub(crate) replica_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) evictions: Evictions,
}

pub(crate) struct BlockStore {
    budget: Budget,
    replica_share: u64,
    index: Mutex<Index>,
}

impl BlockStore {
    /// An empty store. Replicas keep `replica_share` bytes, and take more while memory is free; with a share of 0 there
    /// are none.
    pub(crate) fn new(budget: Budget, replica_share: u64) -> Self {
        let overhead = budget.nothing(Kind::Blocks);
        Self {
            budget,
            replica_share,
            index: Mutex::new(Index::new(overhead)),
        }
    }

    /// Charges `bytes`, and evicts what is necessary. `None` if they don't fit even then; nothing is evicted in vain.
    pub(crate) fn try_reserve(&self, kind: Kind, bytes: u64) -> Option<Charge> {
        loop {
            if let Some(charge) = self.budget.try_charge(kind, bytes) {
                return Some(charge);
            }
            // Another thread may take what is freed here, so this repeats until nothing is left to evict.
            let missing = self.budget.missing(bytes);
            if missing > 0 && self.evict(kind, bytes, missing) == 0 {
                return None;
            }
        }
    }

    pub(crate) fn get(&self, id: &BlockId) -> Option<Block> {
        let hash = hash_of(id);
        let mut index = self.lock();
        let place = index.find(hash, id)?;
        index.policy.touch(place);
        index.block(place).cloned()
    }

    pub(crate) fn peek(&self, id: &BlockId) -> Option<Block> {
        let hash = hash_of(id);
        let index = self.lock();
        let place = index.find(hash, id)?;
        index.block(place).cloned()
    }

    /// Stores a block. If it is held already, that one stays, unless it is a replica and this one is owned. False if
    /// there is no room.
    pub(crate) fn put(&self, id: BlockId, block: Block, pool: Pool) -> bool {
        let hash = hash_of(&id);
        let kind = match pool {
            Pool::Owned => Kind::Blocks,
            Pool::Replica => Kind::Replicas,
        };
        // Evicted blocks are dropped after the lock is released: returning memory to the system takes time.
        let mut dead = Vec::new();
        let mut spare: Option<Charge> = None;
        loop {
            let mut index = self.lock();
            if let Some(held) = index.settle(hash, &id, pool, &mut dead) {
                return held;
            }
            // Beyond their share, replicas only use free memory: any other need evicts them first.
            if pool == Pool::Replica && block.len() > self.replica_share {
                return false;
            }
            let cost = index.cost(&id.object);
            if cost == 0 || spare.as_ref().is_some_and(|spare| spare.bytes() >= cost) {
                if let Some(mut spare) = spare {
                    spare.shrink(cost);
                    index.overhead.absorb(spare);
                }
                index.insert(hash, id, block, pool);
                return true;
            }
            drop(index);
            // Reserved without the lock, since it may evict. The index may change meanwhile, so check again.
            dead.clear();
            drop(spare.take());
            spare = self.try_reserve(kind, cost);
            if spare.is_none() {
                return false;
            }
        }
    }

    /// Removes all blocks of the scope and counts them. The caller ensures that none is added meanwhile.
    pub(crate) fn remove(&self, scope: &Scope) -> u64 {
        let mut removed = 0;
        if let Scope::Key { bucket, key } = scope {
            let Ok(object) = ObjectId::new(bucket, key) else {
                return 0;
            };
            let mut index = self.lock();
            let mut dead = Vec::new();
            while let Some(place) = index.first(&object) {
                dead.extend(index.remove(place, Cause::Invalidated));
            }
            drop(index);
            return dead.len() as u64;
        }
        let mut from = 0u32;
        loop {
            let mut index = self.lock();
            let slice = index.slots.slice(from);
            if slice.is_empty() {
                return removed;
            }
            from = slice.end;
            let mut dead = Vec::new();
            for place in slice {
                if index.covers(scope, place) {
                    dead.extend(index.remove(place, Cause::Invalidated));
                }
            }
            drop(index);
            removed += dead.len() as u64;
        }
    }

    pub(crate) fn holdings(&self) -> Holdings {
        let index = self.lock();
        Holdings {
            blocks: index.by_id.len() as u64,
            owned_bytes: index.policy.bytes(Pool::Owned),
            replica_bytes: index.policy.bytes(Pool::Replica),
            index_bytes: index.overhead.bytes(),
            evictions: index.evictions,
        }
    }

    /// Evicts blocks until `missing` bytes are free, for a charge of `bytes`. Returns the bytes that it freed.
    fn evict(&self, kind: Kind, bytes: u64, missing: u64) -> u64 {
        let mut index = self.lock();
        let (owned, replicas) = (
            index.policy.bytes(Pool::Owned),
            index.policy.bytes(Pool::Replica),
        );
        if owned + replicas + index.overhead.bytes() < missing {
            return 0;
        }
        // A block from a peer will be a replica: if their share is full, it replaces one of them.
        let coming = if kind == Kind::Replicas { bytes } else { 0 };
        let order = if replicas.saturating_add(coming) > self.replica_share {
            [Pool::Replica, Pool::Owned]
        } else {
            [Pool::Owned, Pool::Replica]
        };
        let (mut dead, mut freed) = (Vec::new(), 0);
        for pool in order {
            while freed < missing {
                let Some(block) = index.evict(pool) else {
                    break;
                };
                freed += block.charged();
                dead.push(block);
            }
        }
        drop(index);
        freed
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Only a bug can panic under the lock, and then a wrong answer is worse than none.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
