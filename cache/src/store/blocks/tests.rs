//! The block store against a model, and its bounds.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::slab::NOWHERE;
use super::index::{BLOCK_BYTES, name_bytes};
use super::*;
use crate::object::ETag;

fn store(limit: u64, replica_share: u64) -> BlockStore {
    BlockStore::new(Budget::new(limit), replica_share)
}

fn id(object: u32, version: u32, index: u32) -> BlockId {
    BlockId {
        object: ObjectId::new("b", &format!("dir{}/k{object}", object % 2)).unwrap(),
        etag: ETag::from(format!("\"{version}\"")),
        size: 1 << 20,
        index,
    }
}

fn put(store: &BlockStore, id: BlockId, data: &[u8], pool: Pool) -> bool {
    let kind = match pool {
        Pool::Owned => Kind::Fills,
        Pool::Replica => Kind::Replicas,
    };
    store
        .try_reserve(kind, data.len() as u64)
        .is_some_and(|charge| store.put(id, Block::from_bytes(charge, data), pool))
}

fn found(store: &BlockStore, id: &BlockId) -> Option<Vec<u8>> {
    store.get(id).map(|block| block.pieces().concat())
}

/// Lists, tables, policy and budget agree with each other.
fn check(store: &BlockStore) {
    let index = store.lock();
    let (mut blocks, mut charged, mut names) = (0, 0, 0);
    for place in 0..u32::try_from(index.slots.len()).unwrap() {
        let Some(held) = index.slots.get(place) else {
            continue;
        };
        let (id, block) = (&held.id, &held.block);
        blocks += 1;
        charged += block.charged();
        assert_eq!(index.find(hash_of(id), id), Some(place));
        let first = index.first(&id.object).unwrap();
        if first == place {
            names += name_bytes(&id.object);
            assert_eq!(held.previous, NOWHERE);
        }
        let next = held.next;
        if next != NOWHERE {
            assert_eq!(index.slots.get(next).unwrap().previous, place);
            assert_eq!(index.object(next), Some(&id.object));
        }
    }
    assert_eq!(index.by_id.len(), blocks);
    let counted = index.policy.count(Pool::Owned) + index.policy.count(Pool::Replica);
    assert_eq!(counted, blocks);
    let bytes = index.policy.bytes(Pool::Owned) + index.policy.bytes(Pool::Replica);
    assert_eq!(bytes, charged);
    assert_eq!(
        index.overhead.bytes(),
        names + BLOCK_BYTES * index.slots.len() as u64
    );
    assert_eq!(store.budget.used(), charged + index.overhead.bytes());
}

#[test]
fn an_empty_store_has_given_everything_back() {
    let store = store(1_000_000, 0);
    for object in 0..100 {
        assert!(put(&store, id(object, 0, 0), &[1; 100], Pool::Owned));
    }
    assert_eq!(store.remove(&Scope::All), 100);
    assert_eq!(store.budget.used(), 0);
    assert_eq!(store.holdings().evictions.invalidated, 100);
}

#[test]
fn slots_are_used_again_so_churn_does_not_grow_the_index() {
    let store = store(20_000, 0);
    for object in 0..50_000 {
        assert!(put(&store, id(object, 0, 0), &[1; 100], Pool::Owned));
    }
    check(&store);
    let index = store.lock();
    assert!(index.slots.len() < 60, "{}", index.slots.len());
    assert!(index.by_id.capacity() < 250 && index.by_object.capacity() < 250);
}

#[test]
fn hot_copies_push_out_hot_copies_and_never_owned_blocks() {
    let store = store(100_000, 10_000);
    let mut owned = 0;
    while store.holdings().evictions.capacity == 0 {
        owned += 1;
        assert!(put(&store, id(owned, 0, 0), &[1; 1000], Pool::Owned));
    }
    // Until the share is full, copies take what is theirs; from then on only from each other.
    for copy in 0..10 {
        assert!(put(&store, id(copy, 1, 0), &[2; 1000], Pool::Replica));
    }
    let before = store.holdings();
    for copy in 10..1_000 {
        assert!(put(&store, id(copy, 1, 0), &[2; 1000], Pool::Replica));
    }
    let after = store.holdings();
    assert!(after.replica_bytes >= 9_000 && after.replica_bytes <= 10_000);
    assert_eq!(after.owned_bytes, before.owned_bytes);
    assert!(!put(&store, id(1, 2, 0), &[2; 10_001], Pool::Replica));
    check(&store);
}

#[test]
fn owned_blocks_take_the_hot_share_only_when_nothing_else_is_left() {
    let store = store(20_000, 5_000);
    for copy in 0..12 {
        assert!(put(&store, id(copy, 1, 0), &[2; 1000], Pool::Replica));
    }
    // Nobody else needs it yet.
    assert_eq!(store.holdings().replica_bytes, 12_000);
    for object in 0..100 {
        assert!(put(&store, id(object, 0, 0), &[1; 1000], Pool::Owned));
    }
    assert_eq!(store.holdings().replica_bytes, 5_000);
    check(&store);
    let all = store.try_reserve(Kind::Uploads, 20_000);
    assert!(all.is_some());
    assert_eq!(store.holdings().blocks, 0);
}

#[test]
fn a_hot_copy_gives_way_to_an_owned_block_and_not_the_other_way_round() {
    let store = store(20_000, 5_000);
    assert!(put(&store, id(1, 1, 0), &[2; 1000], Pool::Replica));
    assert!(put(&store, id(1, 1, 0), &[2; 1000], Pool::Owned));
    assert!(put(&store, id(1, 1, 0), &[2; 1000], Pool::Replica));
    let holdings = store.holdings();
    assert_eq!((holdings.owned_bytes, holdings.replica_bytes), (1000, 0));
    assert_eq!(holdings.evictions.replaced, 1);
    check(&store);
}

#[test]
fn a_block_that_is_read_stays_and_one_that_is_not_goes() {
    let store = store(10_000, 0);
    for index in 0..4 {
        assert!(put(&store, id(1, 0, index), &[1; 1000], Pool::Owned));
    }
    let reading = store.get(&id(1, 0, 0)).unwrap().pieces();
    let held = store.get(&id(1, 0, 1)).unwrap();
    let rest = store.budget.limit() - 2_000 - store.holdings().index_bytes;
    assert!(store.try_reserve(Kind::Fills, rest + 1).is_none());
    let filling = store.try_reserve(Kind::Fills, rest);
    assert!(filling.is_some());
    assert!(store.peek(&id(1, 0, 0)).is_some() && store.peek(&id(1, 0, 1)).is_some());
    assert!(store.peek(&id(1, 0, 2)).is_none() && store.peek(&id(1, 0, 3)).is_none());
    // An invalidation takes it out of the store, not out of the reader's hands or off the books.
    assert_eq!(store.remove(&Scope::All), 2);
    drop(held);
    assert_eq!(store.budget.used(), rest + 1_000);
    assert_eq!(reading.concat(), [1; 1000]);
    drop(reading);
    assert_eq!(store.budget.used(), rest);
}

#[test]
fn a_block_that_is_read_in_many_pieces_is_used_once() {
    let store = store(10_000, 0);
    for (object, uses) in [(0, 2), (1, 1)] {
        assert!(put(&store, id(object, 0, 0), &[1; 1000], Pool::Owned));
        for _ in 0..uses {
            assert!(store.get(&id(object, 0, 0)).is_some());
        }
    }
    for _ in 0..9 {
        assert!(store.peek(&id(1, 0, 0)).is_some());
    }
    for scanned in 2..100 {
        assert!(put(&store, id(scanned, 0, 0), &[1; 1000], Pool::Owned));
    }
    assert!(store.peek(&id(0, 0, 0)).is_some() && store.peek(&id(1, 0, 0)).is_none());
}

#[test]
fn what_can_never_fit_evicts_nothing() {
    let store = store(10_000, 0);
    assert!(put(&store, id(1, 0, 0), &[1; 1000], Pool::Owned));
    let filling = store.try_reserve(Kind::Fills, 8_000);
    assert!(filling.is_some());
    assert!(store.try_reserve(Kind::Fills, 3_000).is_none());
    assert!(store.try_reserve(Kind::Fills, u64::MAX).is_none());
    assert!(store.peek(&id(1, 0, 0)).is_some());
}

#[test]
fn an_object_larger_than_the_store_passes_through_it() {
    let store = store(10_000, 0);
    for index in 0..100 {
        assert!(put(&store, id(1, 0, index), &[1; 3000], Pool::Owned));
        assert!(store.peek(&id(1, 0, index)).is_some());
        check(&store);
    }
}

#[test]
fn an_object_is_removed_with_all_its_versions_and_nothing_else_is() {
    let store = store(10_000_000, 0);
    for index in 0..50 {
        for object in 0..20 {
            for version in 0..2 {
                let id = id(object, version, index);
                assert!(put(&store, id, &[1; 10], Pool::Owned));
            }
        }
    }
    assert_eq!(store.remove(&Scope::from(&id(7, 0, 0).object)), 100);
    assert_eq!(store.remove(&Scope::from(&id(7, 0, 0).object)), 0);
    check(&store);
    let prefix = |prefix: &str| Scope::Prefix {
        bucket: "b".into(),
        prefix: prefix.into(),
    };
    assert_eq!(store.remove(&prefix("dir1/k")), 900);
    check(&store);
    assert_eq!(store.remove(&prefix("dir0")), 1000);
    assert_eq!(store.budget.used(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u32, u32, u32, bool),
    Get(u32, u32, u32),
    Remove(u32),
    Prefix(u32),
    Press(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let part = || (0u32..6, 0u32..2, 0u32..4);
    prop_oneof![
        8 => (part(), any::<bool>()).prop_map(|((o, v, i), hot)| Step::Put(o, v, i, hot)),
        6 => part().prop_map(|(o, v, i)| Step::Get(o, v, i)),
        1 => (0u32..6).prop_map(Step::Remove),
        1 => (0u32..2).prop_map(Step::Prefix),
        1 => (0u64..6_000).prop_map(Step::Press),
    ]
}

/// A block's bytes follow from its name, as they do in S3.
fn bytes_of(id: &BlockId) -> Vec<u8> {
    let hash = hash_of(id);
    vec![hash.to_le_bytes()[0]; usize::try_from(hash >> 32).unwrap() % 400]
}

proptest! {
    /// The model loses only what it is told to remove; the store may lack more, but only under pressure.
    #[test]
    fn the_store_holds_what_a_plain_map_would(limit in prop_oneof![3_000u64..9_000, Just(1_000_000)], steps in prop::collection::vec(step(), 1..120)) {
        let roomy = limit == 1_000_000;
        let store = store(limit, limit / 8);
        let mut model: HashMap<BlockId, Vec<u8>> = HashMap::new();
        for step in steps {
            match step {
                Step::Put(o, v, i, hot) => {
                    let id = id(o, v, i);
                    let pool = if hot { Pool::Replica } else { Pool::Owned };
                    let stored = put(&store, id.clone(), &bytes_of(&id), pool);
                    prop_assert!(stored || !roomy);
                    prop_assert_eq!(store.peek(&id).is_some(), stored);
                    if stored {
                        model.insert(id.clone(), bytes_of(&id));
                    }
                }
                Step::Get(o, v, i) => {
                    let id = id(o, v, i);
                    let got = found(&store, &id);
                    if got.is_some() || roomy {
                        prop_assert_eq!(got.as_ref(), model.get(&id));
                    }
                }
                Step::Remove(o) => {
                    let object = id(o, 0, 0).object;
                    store.remove(&Scope::from(&object));
                    model.retain(|id, _| id.object != object);
                }
                Step::Prefix(p) => {
                    let scope = Scope::Prefix { bucket: "b".into(), prefix: format!("dir{p}/") };
                    store.remove(&scope);
                    model.retain(|id, _| !scope.covers(&id.object));
                }
                Step::Press(bytes) => drop(store.try_reserve(Kind::Fills, bytes)),
            }
            check(&store);
            prop_assert!(store.budget.peak() <= limit);
        }
        if roomy {
            prop_assert_eq!(store.holdings().blocks, model.len() as u64);
        }
    }
}
