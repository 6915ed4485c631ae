//! The index of blocks: slots, two tables over them, and the policy. The lock around it is the caller's.
//!
//! The blocks of one object form a list through the slots, so removing them costs no more than their number.

use std::ops::Add;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::budget::Charge;
use super::super::buffer::Block;
use super::super::policy::{Policy, Pool};
use super::super::slab::{NOWHERE, Slots};
use crate::object::{BlockId, ObjectId, Scope};

/// The cost of a block besides its bytes: slot (56), the policy's node (24), two tables of 5 bytes at their emptiest
/// (23), a ghost (16), the block's own reference counts, length and charge (64), and what the allocator rounds up. A
/// million blocks: 157 allocated, 188 resident.
pub(super) const BLOCK_BYTES: u64 = 200;

/// The cost of an object with blocks besides its name: reference counts, lengths, hash, its version's tag.
const OBJECT_BYTES: u64 = 128;

/// Why a block was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Capacity,
    Invalidated,
    Replaced,
}

/// How many blocks or heads were removed since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evictions {
    /// To make room.
    pub capacity: u64,
    /// By an invalidation, or because the version is gone.
    pub invalidated: u64,
    /// Replicas whose block this node now owns.
    pub replaced: u64,
}

impl Add for Evictions {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            capacity: self.capacity + other.capacity,
            invalidated: self.invalidated + other.invalidated,
            replaced: self.replaced + other.replaced,
        }
    }
}

pub(super) struct Index {
    pub(super) slots: Slots<StoredBlock>,
    pub(super) by_id: HashTable<u32>,
    pub(super) by_object: HashTable<u32>,
    pub(super) policy: Policy,
    /// Covers the index itself: its slots at their peak, and the names of the objects.
    pub(super) overhead: Charge,
    pub(super) evictions: Evictions,
}

pub(super) struct StoredBlock {
    pub(super) id: BlockId,
    pub(super) block: Block,
    /// The other blocks of the object.
    pub(super) next: u32,
    pub(super) previous: u32,
}

impl Index {
    /// An empty index; `overhead` is an empty charge that grows with it.
    pub(super) fn new(overhead: Charge) -> Self {
        Self {
            slots: Slots::new(),
            by_id: HashTable::new(),
            by_object: HashTable::new(),
            policy: Policy::new(),
            overhead,
            evictions: Evictions::default(),
        }
    }

    pub(super) fn find(&self, hash: u64, id: &BlockId) -> Option<u32> {
        let found = self.by_id.find(hash, |place| {
            self.slots.get(*place).is_some_and(|held| held.id == *id)
        });
        found.copied()
    }

    pub(super) fn first(&self, object: &ObjectId) -> Option<u32> {
        let found = self.by_object.find(object.stable_hash(), |place| {
            self.object(*place) == Some(object)
        });
        found.copied()
    }

    pub(super) fn block(&self, place: u32) -> Option<&Block> {
        self.slots.get(place).map(|held| &held.block)
    }

    pub(super) fn object(&self, place: u32) -> Option<&ObjectId> {
        self.slots.get(place).map(|held| &held.id.object)
    }

    pub(super) fn covers(&self, scope: &Scope, place: u32) -> bool {
        self.object(place)
            .is_some_and(|object| scope.covers(object))
    }

    /// Decides whether a block is stored: `Some(true)` if it is held already, `None` if there is room for it.
    pub(super) fn settle(
        &mut self,
        hash: u64,
        id: &BlockId,
        pool: Pool,
        dead: &mut Vec<Block>,
    ) -> Option<bool> {
        let place = self.find(hash, id)?;
        if pool == Pool::Owned && self.policy.pool(place) == Pool::Replica {
            dead.extend(self.remove(place, Cause::Replaced));
            return None;
        }
        Some(true)
    }

    pub(super) fn evict(&mut self, pool: Pool) -> Option<Block> {
        let slots = &self.slots;
        let is_in_use = |place| slots.get(place).is_some_and(|held| held.block.is_in_use());
        let place = self.policy.evict(pool, is_in_use)?;
        self.take(place, Cause::Capacity)
    }

    /// How much the index grows for one more block of this object.
    pub(super) fn cost(&self, object: &ObjectId) -> u64 {
        let slot = if self.slots.has_free() {
            0
        } else {
            BLOCK_BYTES
        };
        let name = if self.first(object).is_none() {
            name_bytes(object)
        } else {
            0
        };
        slot + name
    }

    pub(super) fn insert(&mut self, hash: u64, mut id: BlockId, block: Block, pool: Pool) {
        let (object_hash, size) = (
            id.object.stable_hash(),
            u32::try_from(block.len()).unwrap_or(u32::MAX),
        );
        let sibling = self.first(&id.object);
        let first = sibling.and_then(|place| self.slots.get(place));
        if let Some(first) = first {
            // One copy of the names for all blocks of the object.
            id.object = first.id.object.clone();
            if id.etag == first.id.etag {
                id.etag = first.id.etag.clone();
            }
        }
        let next = first.map_or(NOWHERE, |first| first.next);
        let place = self.slots.insert(StoredBlock {
            id,
            block,
            next,
            previous: sibling.unwrap_or(NOWHERE),
        });
        self.policy.insert(place, pool, hash, size);
        let policy = &self.policy;
        self.by_id
            .insert_unique(hash, place, |place| policy.hash(*place));
        if let Some(first) = sibling {
            self.link(first, |first| first.next = place);
            self.link(next, |next| next.previous = place);
        } else {
            let slots = &self.slots;
            self.by_object
                .insert_unique(object_hash, place, |place| object_hash_of(slots, *place));
        }
    }

    /// Changes the neighbour of a block at an end of a list, if there is one.
    fn link(&mut self, place: u32, change: impl FnOnce(&mut StoredBlock)) {
        if place != NOWHERE
            && let Some(held) = self.slots.get_mut(place)
        {
            change(held);
        }
    }

    pub(super) fn remove(&mut self, place: u32, cause: Cause) -> Option<Block> {
        self.policy.remove(place);
        self.take(place, cause)
    }

    /// Removes a block from everything but the policy, which has removed it already.
    fn take(&mut self, place: u32, cause: Cause) -> Option<Block> {
        let StoredBlock {
            id,
            block,
            next,
            previous,
        } = self.slots.take(place)?;
        if let Ok(entry) = self
            .by_id
            .find_entry(self.policy.hash(place), |other| *other == place)
        {
            entry.remove();
        }
        self.link(next, |next| next.previous = previous);
        if previous == NOWHERE {
            self.replace_first(&id.object, place, next);
        } else {
            self.link(previous, |previous| previous.next = next);
        }
        let count = match cause {
            Cause::Capacity => &mut self.evictions.capacity,
            Cause::Invalidated => &mut self.evictions.invalidated,
            Cause::Replaced => &mut self.evictions.replaced,
        };
        *count += 1;
        if self.by_id.is_empty() {
            self.start_again();
        }
        Some(block)
    }

    fn replace_first(&mut self, object: &ObjectId, place: u32, next: u32) {
        let entry = self
            .by_object
            .find_entry(object.stable_hash(), |other| *other == place);
        let Ok(mut entry) = entry else {
            return;
        };
        if next == NOWHERE {
            entry.remove();
            let rest = self.overhead.bytes().saturating_sub(name_bytes(object));
            self.overhead.shrink(rest);
        } else {
            *entry.get_mut() = next;
        }
    }

    /// Nothing is held: the index gives its memory back.
    fn start_again(&mut self) {
        self.slots.clear();
        self.policy.clear();
        (self.by_id, self.by_object) = (HashTable::new(), HashTable::new());
        self.overhead.shrink(0);
    }
}

fn object_hash_of(slots: &Slots<StoredBlock>, place: u32) -> u64 {
    slots
        .get(place)
        .map_or(0, |held| held.id.object.stable_hash())
}

pub(super) fn hash_of(id: &BlockId) -> u64 {
    // The odd constant spreads the index over all bits of the seed.
    let place = u64::from(id.index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    xxh3_64_with_seed(id.etag.as_str().as_bytes(), id.object.stable_hash() ^ place)
}

pub(super) fn name_bytes(object: &ObjectId) -> u64 {
    OBJECT_BYTES + (object.bucket().len() + object.key().len()) as u64
}
