//! What is known about objects: present with this head, or absent. Found by one hash under one lock, evicted in the
//! policy's order, and bounded to the byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use tokio::time::Instant;

use super::blocks::Evictions;
use super::budget::{Budget, Charge, Kind};
use super::policy::{Policy, Pool};
use super::slab::Slots;
use crate::object::{ETag, Head, ObjectId, Said, Scope};

/// Heads may take this part of the memory.
const PART: u64 = 8;

/// The cost of an entry besides its own bytes and its names': slot (64), the policy's node (24), a table of 5 bytes at
/// its emptiest (12), a ghost (16).
const SLOT_BYTES: u64 = 116;

/// Reference counts, lengths and hash of an object's name, and of its head; what the allocator rounds up.
const SHARED_BYTES: u64 = 112;

/// What is known about an object, and how long that may be trusted. A clone shares the head.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What the origin said.
    pub state: EntryState,
    /// When it said so.
    pub fetched: Instant,
    /// Until when it is trusted without asking; `None` means for ever.
    pub fresh_until: Option<Instant>,
    /// It comes from another node, not from the origin itself. A peer is never answered with a copy: two nodes that
    /// take each other for an object's home would hand it back and forth, through any invalidation.
    pub copied: bool,
}

/// What the origin said about an object.
#[derive(Debug, Clone)]
pub enum EntryState {
    /// It has this version now.
    Present(Arc<Head>),
    /// It has no such object.
    Negative(Arc<Absent>),
}

/// The origin's 404.
#[derive(Debug, PartialEq, Eq)]
pub struct Absent {
    /// S3's error code.
    pub code: String,
    /// S3's message.
    pub message: String,
    /// What else S3 said.
    pub said: Option<Arc<Said>>,
}

impl Entry {
    /// The tag of the current version.
    fn etag(&self) -> Option<&ETag> {
        match &self.state {
            EntryState::Present(head) => Some(&head.etag),
            EntryState::Negative(_) => None,
        }
    }

    fn memory_bytes(&self) -> u64 {
        match &self.state {
            EntryState::Present(head) => head.memory_bytes(),
            EntryState::Negative(absent) => {
                let words = absent.code.capacity() + absent.message.capacity();
                let said = absent.said.as_ref().map_or(0, |said| said.memory_bytes());
                (size_of::<Absent>() + words) as u64 + said
            }
        }
    }
}

/// The entries, at most an eighth of the limit.
pub(crate) struct Heads {
    limit: u64,
    table: Mutex<EntryTable>,
}

struct EntryTable {
    slots: Slots<(ObjectId, Entry)>,
    by_object: HashTable<u32>,
    policy: Policy,
    /// Covers the entries, and the slots at their peak.
    charge: Charge,
    evictions: Evictions,
}

impl Heads {
    /// An empty store.
    pub(crate) fn new(budget: &Budget) -> Self {
        let table = EntryTable {
            slots: Slots::new(),
            by_object: HashTable::new(),
            policy: Policy::new(),
            charge: budget.nothing(Kind::Heads),
            evictions: Evictions::default(),
        };
        Self {
            limit: budget.limit() / PART,
            table: Mutex::new(table),
        }
    }

    /// Bytes to charge for an entry before it is stored.
    pub(crate) fn cost(object: &ObjectId, entry: &Entry) -> u64 {
        SLOT_BYTES + bytes_of(object, entry)
    }

    pub(crate) fn get(&self, object: &ObjectId) -> Option<Entry> {
        let mut table = self.lock();
        let place = table.find(object)?;
        table.policy.touch(place);
        table.entry(place).cloned()
    }

    /// Stores an entry, which replaces what is known about the object. `charge` covers its cost; the excess is given
    /// back.
    pub(crate) fn put(&self, object: &ObjectId, entry: Entry, mut charge: Charge) {
        let bytes = bytes_of(object, &entry);
        let mut table = self.lock();
        if let Some(place) = table.find(object) {
            table.remove(place);
        }
        while table.charge.bytes() + charge.bytes() > self.limit {
            let Some(place) = table.policy.evict(Pool::Owned, |_| false) else {
                break;
            };
            table.take(place);
            table.evictions.capacity += 1;
        }
        if table.slots.has_free() {
            charge.shrink(bytes);
        }
        table.charge.absorb(charge);
        table.insert(object.clone(), entry, bytes);
    }

    /// Removes the entry if it is of this version. The caller ensures that it does not change meanwhile.
    pub(crate) fn remove_version(&self, object: &ObjectId, etag: &ETag) {
        let mut table = self.lock();
        if let Some(place) = table.find(object)
            && table.entry(place).and_then(Entry::etag) == Some(etag)
        {
            table.invalidate(place);
        }
    }

    /// Removes what the scope names and counts it. The caller ensures that nothing is added meanwhile.
    pub(crate) fn remove(&self, scope: &Scope) -> u64 {
        if let Scope::Key { bucket, key } = scope {
            let object = ObjectId::new(bucket, key).ok();
            let mut table = self.lock();
            let place = object.and_then(|object| table.find(&object));
            if let Some(place) = place {
                table.invalidate(place);
            }
            return u64::from(place.is_some());
        }
        let (mut from, mut removed) = (0, 0);
        loop {
            let mut table = self.lock();
            let slice = table.slots.slice(from);
            if slice.is_empty() {
                return removed;
            }
            from = slice.end;
            for place in slice {
                if table.object(place).is_some_and(|it| scope.covers(it)) {
                    table.invalidate(place);
                    removed += 1;
                }
            }
        }
    }

    /// Entries held.
    pub(crate) fn count(&self) -> u64 {
        self.lock().by_object.len() as u64
    }

    /// Entries removed since the start. One that was replaced by a newer entry of its object is not counted.
    pub(crate) fn evictions(&self) -> Evictions {
        self.lock().evictions
    }

    fn lock(&self) -> MutexGuard<'_, EntryTable> {
        // Only a bug can panic under the lock, and then a wrong answer is worse than none.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EntryTable {
    fn find(&self, object: &ObjectId) -> Option<u32> {
        let found = self.by_object.find(object.stable_hash(), |place| {
            self.object(*place) == Some(object)
        });
        found.copied()
    }

    fn object(&self, place: u32) -> Option<&ObjectId> {
        self.slots.get(place).map(|(object, _)| object)
    }

    fn entry(&self, place: u32) -> Option<&Entry> {
        self.slots.get(place).map(|(_, entry)| entry)
    }

    fn insert(&mut self, object: ObjectId, entry: Entry, bytes: u64) {
        let hash = object.stable_hash();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let place = self.slots.insert((object, entry));
        self.policy.insert(place, Pool::Owned, hash, bytes);
        let policy = &self.policy;
        self.by_object
            .insert_unique(hash, place, |place| policy.hash(*place));
    }

    fn invalidate(&mut self, place: u32) {
        self.remove(place);
        self.evictions.invalidated += 1;
    }

    fn remove(&mut self, place: u32) {
        self.policy.remove(place);
        self.take(place);
    }

    /// Removes an entry from everything but the policy, which has removed it already.
    fn take(&mut self, place: u32) {
        let Some((object, entry)) = self.slots.take(place) else {
            return;
        };
        if let Ok(place) = self
            .by_object
            .find_entry(object.stable_hash(), |other| *other == place)
        {
            place.remove();
        }
        if self.by_object.is_empty() {
            self.slots.clear();
            self.policy.clear();
            self.by_object = HashTable::new();
            self.charge.shrink(0);
        } else {
            let rest = self.charge.bytes() - bytes_of(&object, &entry);
            self.charge.shrink(rest);
        }
    }
}

/// What is given back when the entry is removed; its slot stays.
fn bytes_of(object: &ObjectId, entry: &Entry) -> u64 {
    let name = object.bucket().len() + object.key().len();
    SHARED_BYTES + name as u64 + entry.memory_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{self, record_with};

    const LIMIT: u64 = 64 << 10;

    fn object(n: u64) -> ObjectId {
        tests::object(&format!("k{n}"))
    }

    fn put(heads: &Heads, budget: &Budget, object: &ObjectId, entry: Entry) {
        let cost = Heads::cost(object, &entry);
        let charge = budget.try_charge(Kind::Heads, cost).unwrap();
        heads.put(object, entry, charge);
    }

    fn size(heads: &Heads, object: &ObjectId) -> Option<u64> {
        heads.get(object).map(|entry| entry.memory_bytes())
    }

    /// Checks that table, policy, slots and charge agree.
    fn check(heads: &Heads) {
        let table = heads.lock();
        let (mut entries, mut bytes) = (0, 0);
        for place in 0..u32::try_from(table.slots.len()).unwrap() {
            if let Some((object, entry)) = table.slots.get(place) {
                entries += 1;
                bytes += bytes_of(object, entry);
                assert_eq!(table.find(object), Some(place));
            }
        }
        assert_eq!(table.by_object.len(), entries);
        assert_eq!(table.policy.count(Pool::Owned), entries);
        assert_eq!(table.policy.bytes(Pool::Owned), bytes);
        let slots = table.slots.len() as u64 * SLOT_BYTES;
        assert_eq!(table.charge.bytes(), bytes + slots);
        assert!(table.charge.bytes() <= heads.limit);
    }

    #[test]
    fn whatever_is_put_read_and_removed_the_charge_is_what_is_held() {
        let budget = Budget::new(LIMIT * PART);
        let heads = Heads::new(&budget);
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (dice, n) = (seed >> 40, seed >> 33 & 255);
            match dice % 16 {
                0..10 => {
                    let stored = usize::try_from(dice >> 4 & 511).unwrap();
                    put(
                        &heads,
                        &budget,
                        &object(n),
                        record_with("1", &"x".repeat(stored)),
                    );
                    assert!(size(&heads, &object(n)).is_some_and(|size| size >= stored as u64));
                }
                10..13 => drop(heads.get(&object(n))),
                13 => heads.remove_version(&object(n), &"1".into()),
                14 => {
                    let held = heads.get(&object(n)).is_some();
                    assert_eq!(heads.remove(&Scope::from(&object(n))), u64::from(held));
                }
                _ => {
                    let (bucket, prefix) = ("b".into(), format!("k{}", n % 10));
                    let (before, scope) = (heads.count(), Scope::Prefix { bucket, prefix });
                    assert_eq!(heads.remove(&scope), before - heads.count());
                }
            }
            check(&heads);
        }
        assert!(heads.count() > 0);
        assert_eq!(heads.count(), heads.remove(&Scope::All));
        assert_eq!((heads.count(), budget.used()), (0, 0));
    }

    #[test]
    fn a_head_that_is_asked_for_outlives_those_that_are_not() {
        let budget = Budget::new(LIMIT * PART);
        let heads = Heads::new(&budget);
        put(&heads, &budget, &object(0), record_with("1", "text/html"));
        for n in 1..5_000 {
            assert!(heads.get(&object(0)).is_some(), "gone after {n} others");
            put(&heads, &budget, &object(n), record_with("1", "text/html"));
        }
        assert!((50..500).contains(&heads.count()), "{}", heads.count());
    }
}
