//! The complete blocks: found by one hash under one lock, evicted in the policy's order, bounded by the budget to the byte.
//!
//! The blocks of one object are a list through the slots, so to remove them costs no more than they are.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::budget::{Budget, Charge, Kind};
use super::buffer::Block;
use super::policy::{Policy, Pool};
use super::slab::{NOWHERE, Slab};
use crate::object::{BlockId, ObjectId, Scope};

/// What a block costs beside its bytes: slot (48), the policy's node (24), two tables of 5 bytes at their emptiest (23), a ghost (16),
/// the block's own reference counts, length and charge (72), and what the allocator rounds up.
pub(crate) const BLOCK_BYTES: u64 = 200;

/// What an object with blocks costs beside its name: reference counts, lengths, hash, its version's tag.
const OBJECT_BYTES: u64 = 128;

/// Slots that an invalidation by prefix looks at before it lets go of the lock for a moment: about 0.1 ms.
const SLICE: u32 = 4096;

/// Why a block was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Capacity,
    Invalidated,
    Replaced,
}

/// How many blocks were removed since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evictions {
    /// To make room.
    pub capacity: u64,
    /// By an invalidation.
    pub invalidated: u64,
    /// Hot copies whose block this node now owns.
    pub replaced: u64,
}

/// What the blocks come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) blocks: u64,
    pub(crate) owned_bytes: u64,
    pub(crate) hot_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) evictions: Evictions,
}

pub(crate) struct BlockStore {
    budget: Budget,
    hot_share: u64,
    index: Mutex<Index>,
}

struct Index {
    slots: Slab<Slot>,
    free: u32,
    by_id: HashTable<u32>,
    by_object: HashTable<u32>,
    policy: Policy,
    /// Covers the index itself: what its slots ever came to, and the names of the objects.
    overhead: Charge,
    evictions: Evictions,
}

struct Slot {
    held: Option<(BlockId, Block)>,
    /// The other slots of the object. In a free slot, `next` is the next free one.
    next: u32,
    previous: u32,
}

impl BlockStore {
    /// An empty store. Hot copies take at most `hot_share` bytes.
    pub(crate) fn new(budget: Budget, hot_share: u64) -> Self {
        let overhead = budget
            .try_charge(Kind::Blocks, 0)
            .expect("nothing always fits");
        Self {
            budget,
            hot_share,
            index: Mutex::new(Index {
                slots: Slab::new(),
                free: NOWHERE,
                by_id: HashTable::new(),
                by_object: HashTable::new(),
                policy: Policy::new(),
                overhead,
                evictions: Evictions::default(),
            }),
        }
    }

    /// Charges `bytes`, evicting what is needed. `None` when they don't fit even so; nothing is evicted for what can't succeed.
    pub(crate) fn try_reserve(&self, kind: Kind, bytes: u64) -> Option<Charge> {
        loop {
            if let Some(charge) = self.budget.try_charge(kind, bytes) {
                return Some(charge);
            }
            // Another thread may take what is freed here; then it goes on, until nothing is left to evict.
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

    pub(crate) fn holds(&self, id: &BlockId) -> bool {
        let hash = hash_of(id);
        self.lock().find(hash, id).is_some()
    }

    /// Stores a block. One that is there already stays; only a hot copy gives way to an owned block. False when there is no room.
    pub(crate) fn put(&self, id: BlockId, block: Block, pool: Pool) -> bool {
        let hash = hash_of(&id);
        let kind = match pool {
            Pool::Owned => Kind::Blocks,
            Pool::Hot => Kind::Relays,
        };
        // What is evicted is dropped after the lock is released: giving memory back to the system takes its time.
        let mut dead = Vec::new();
        let mut spare: Option<Charge> = None;
        loop {
            let mut index = self.lock();
            if let Some(held) = index.settle(hash, &id, pool, &mut dead) {
                return held;
            }
            if pool == Pool::Hot && !index.make_hot_room(self.hot_share, block.len(), &mut dead) {
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
            // Reserved without the lock, since it may evict. Meanwhile others change the index: look again.
            dead.clear();
            drop(spare.take());
            spare = self.try_reserve(kind, cost);
            if spare.is_none() {
                return false;
            }
        }
    }

    /// Removes all blocks of the scope and counts them. The caller keeps others from adding to it meanwhile.
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
            let end = u32::try_from(index.slots.len()).unwrap_or(u32::MAX);
            let slice = from..end.min(from.saturating_add(SLICE));
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
            hot_bytes: index.policy.bytes(Pool::Hot),
            index_bytes: index.overhead.bytes(),
            evictions: index.evictions,
        }
    }

    /// Evicts blocks until `missing` bytes are free, for a charge of `bytes`. Returns the bytes that it freed.
    fn evict(&self, kind: Kind, bytes: u64, missing: u64) -> u64 {
        let mut index = self.lock();
        let (owned, hot) = (
            index.policy.bytes(Pool::Owned),
            index.policy.bytes(Pool::Hot),
        );
        if owned + hot + index.overhead.bytes() < missing {
            return 0;
        }
        // A relayed block will be a hot copy: when their share is full, it takes the place of one of them.
        let coming = if kind == Kind::Relays { bytes } else { 0 };
        let order = if hot.saturating_add(coming) > self.hot_share {
            [Pool::Hot, Pool::Owned]
        } else {
            [Pool::Owned, Pool::Hot]
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
        // Nothing under the lock panics but by a bug; then a wrong answer is worse than none.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn find(&self, hash: u64, id: &BlockId) -> Option<u32> {
        let found = self.by_id.find(hash, |place| {
            self.slots[*place]
                .held
                .as_ref()
                .is_some_and(|(other, _)| other == id)
        });
        found.copied()
    }

    fn first(&self, object: &ObjectId) -> Option<u32> {
        let found = self.by_object.find(object.stable_hash(), |place| {
            self.object(*place) == Some(object)
        });
        found.copied()
    }

    fn block(&self, place: u32) -> Option<&Block> {
        self.slots[place].held.as_ref().map(|(_, block)| block)
    }

    fn object(&self, place: u32) -> Option<&ObjectId> {
        self.slots[place].held.as_ref().map(|(id, _)| &id.object)
    }

    fn covers(&self, scope: &Scope, place: u32) -> bool {
        // A slice's end may lie beyond slots that were all freed meanwhile.
        (place as usize) < self.slots.len()
            && self
                .object(place)
                .is_some_and(|object| scope.covers(object))
    }

    /// Decides what is to be done with a block that is there already: `Some(true)` when it stays, `None` when there is room for a new one.
    fn settle(
        &mut self,
        hash: u64,
        id: &BlockId,
        pool: Pool,
        dead: &mut Vec<Block>,
    ) -> Option<bool> {
        let place = self.find(hash, id)?;
        if pool == Pool::Owned && self.policy.pool(place) == Pool::Hot {
            dead.extend(self.remove(place, Cause::Replaced));
            return None;
        }
        Some(true)
    }

    fn make_hot_room(&mut self, share: u64, bytes: u64, dead: &mut Vec<Block>) -> bool {
        while bytes <= share && self.policy.bytes(Pool::Hot) + bytes > share {
            let Some(block) = self.evict(Pool::Hot) else {
                return false;
            };
            dead.push(block);
        }
        bytes <= share
    }

    fn evict(&mut self, pool: Pool) -> Option<Block> {
        let slots = &self.slots;
        let is_read = |place| {
            slots[place]
                .held
                .as_ref()
                .is_some_and(|(_, block)| block.is_read())
        };
        let place = self.policy.evict(pool, is_read)?;
        self.take(place, Cause::Capacity)
    }

    /// What the index will grow by for one more block of this object.
    fn cost(&self, object: &ObjectId) -> u64 {
        let slot = if self.free == NOWHERE { BLOCK_BYTES } else { 0 };
        let name = if self.first(object).is_none() {
            name_bytes(object)
        } else {
            0
        };
        slot + name
    }

    fn insert(&mut self, hash: u64, mut id: BlockId, block: Block, pool: Pool) {
        let (object_hash, size) = (
            id.object.stable_hash(),
            u32::try_from(block.len()).unwrap_or(u32::MAX),
        );
        let sibling = self.first(&id.object);
        if let Some((other, _)) = sibling.and_then(|place| self.slots[place].held.as_ref()) {
            // One copy of the names for all blocks of the object.
            id.object = other.object.clone();
            if id.etag == other.etag {
                id.etag = other.etag.clone();
            }
        }
        let place = self.place(Slot {
            held: Some((id, block)),
            next: sibling.map_or(NOWHERE, |first| self.slots[first].next),
            previous: sibling.unwrap_or(NOWHERE),
        });
        self.policy.insert(place, pool, hash, size);
        let policy = &self.policy;
        self.by_id
            .insert_unique(hash, place, |place| policy.hash(*place));
        if let Some(first) = sibling {
            let next = std::mem::replace(&mut self.slots[first].next, place);
            if next != NOWHERE {
                self.slots[next].previous = place;
            }
        } else {
            let slots = &self.slots;
            self.by_object
                .insert_unique(object_hash, place, |place| object_hash_of(slots, *place));
        }
    }

    fn place(&mut self, slot: Slot) -> u32 {
        let place = self.free;
        if place == NOWHERE {
            let place = u32::try_from(self.slots.len()).expect("the budget ends before the places");
            self.slots.push(slot);
            return place;
        }
        self.free = self.slots[place].next;
        self.slots[place] = slot;
        place
    }

    fn remove(&mut self, place: u32, cause: Cause) -> Option<Block> {
        self.policy.remove(place);
        self.take(place, cause)
    }

    /// Takes a block out of all but the policy, which has let go of it.
    fn take(&mut self, place: u32, cause: Cause) -> Option<Block> {
        let slot = &mut self.slots[place];
        let (next, previous) = (slot.next, slot.previous);
        let (id, block) = slot.held.take()?;
        (slot.next, slot.previous) = (self.free, NOWHERE);
        self.free = place;
        if let Ok(entry) = self
            .by_id
            .find_entry(self.policy.hash(place), |other| *other == place)
        {
            entry.remove();
        }
        if next != NOWHERE {
            self.slots[next].previous = previous;
        }
        if previous == NOWHERE {
            self.replace_first(&id.object, place, next);
        } else {
            self.slots[previous].next = next;
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

    /// Nothing is held: what the index grew to is given back.
    fn start_again(&mut self) {
        self.slots.clear();
        self.policy.clear();
        self.free = NOWHERE;
        (self.by_id, self.by_object) = (HashTable::new(), HashTable::new());
        self.overhead.shrink(0);
    }
}

fn object_hash_of(slots: &Slab<Slot>, place: u32) -> u64 {
    slots[place]
        .held
        .as_ref()
        .map_or(0, |(id, _)| id.object.stable_hash())
}

fn hash_of(id: &BlockId) -> u64 {
    // The odd constant spreads the index over all bits of the seed.
    let place = u64::from(id.index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    xxh3_64_with_seed(id.etag.as_str().as_bytes(), id.object.stable_hash() ^ place)
}

fn name_bytes(object: &ObjectId) -> u64 {
    OBJECT_BYTES + (object.bucket().len() + object.key().len()) as u64
}

#[cfg(test)]
mod tests;
