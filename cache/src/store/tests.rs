//! The store as a whole: budget, fence and what is evicted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use super::*;
use crate::object::{FieldLines, Head};

const MIB: u64 = 1 << 20;

pub(super) fn object(key: &str) -> ObjectId {
    ObjectId::new("b", key).unwrap()
}

fn block_id(object: &ObjectId, etag: &str, index: u32) -> BlockId {
    BlockId {
        object: object.clone(),
        etag: etag.into(),
        size: 1 << 20,
        index,
    }
}

fn block(store: &Store, data: &[u8]) -> Block {
    let charge = store.try_reserve(Kind::Fills, data.len() as u64).unwrap();
    Block::from_bytes(charge, data)
}

fn entry(etag: &str) -> Entry {
    record_with(etag, "value")
}

/// An entry of a head with some text stored in it.
pub(super) fn record_with(etag: &str, stored: &str) -> Entry {
    let head = Head {
        etag: etag.into(),
        size: 1,
        last_modified: None,
        fields: FieldLines::from_iter([("x-amz-meta-name", stored)]),
        checksums: FieldLines::default(),
        whole_only: false,
        checksums_known: true,
        parts: crate::object::Parts::default(),
    };
    Entry {
        state: EntryState::Present(Arc::new(head)),
        fetched: Instant::now(),
        fresh_until: None,
        copied: false,
    }
}

fn etag_of(entry: &Entry) -> &str {
    match &entry.state {
        EntryState::Present(head) => head.etag.as_str(),
        EntryState::Negative(_) => "",
    }
}

fn prefix(prefix: &str) -> Scope {
    Scope::Prefix {
        bucket: "b".into(),
        prefix: prefix.into(),
    }
}

#[test]
fn what_was_begun_before_an_invalidation_is_not_stored_after_it() {
    let (store, object) = (Store::new(MIB, 0), object("dir/a"));
    for scope in [Scope::from(&object), prefix("dir"), Scope::All] {
        let ticket = store.begin(&object);
        assert!(store.put_head(&object, entry("1"), ticket));
        let id = block_id(&object, "1", 0);
        assert!(store.put_block(id.clone(), block(&store, b"x"), Pool::Owned, ticket));
        let dropped = store.invalidate(&scope);
        assert_eq!((dropped.heads, dropped.blocks), (1, 1), "{scope:?}");
        assert!(store.head(&object).is_none() && store.block(&id).is_none());
        assert!(!store.put_head(&object, entry("1"), ticket));
        assert!(!store.put_block(id, block(&store, b"x"), Pool::Owned, ticket));
    }
    assert_eq!((store.stats().heads, store.stats().blocks), (0, 0));
}

#[test]
fn an_invalidation_takes_what_it_names_and_leaves_the_rest() {
    let store = Store::new(4 * MIB, 0);
    let objects: Vec<ObjectId> = (0..1000)
        .map(|i| object(&format!("dir{}/{i}", i % 10)))
        .collect();
    for object in &objects {
        let ticket = store.begin(object);
        assert!(store.put_head(object, entry("1"), ticket));
        let id = block_id(object, "1", 0);
        assert!(store.put_block(id, block(&store, b"x"), Pool::Owned, ticket));
    }
    let all = store.stats().heads;
    let dropped = store.invalidate(&prefix("dir3/"));
    assert_eq!(dropped.blocks, 100);
    assert_eq!(store.stats().blocks, 900);
    assert_eq!(store.stats().heads, all - dropped.heads);
    for object in &objects {
        let held = store.peek_block(&block_id(object, "1", 0)).is_some();
        assert_eq!(held, !object.key().starts_with("dir3/"));
        assert!(held || store.head(object).is_none());
    }
    assert_eq!(store.invalidate(&Scope::All).blocks, 900);
    assert_eq!(store.stats().heads, 0);
}

#[test]
fn a_head_is_removed_only_while_it_has_the_version_that_was_seen() {
    let (store, object) = (Store::new(MIB, 0), object("a"));
    let ticket = store.begin(&object);
    assert!(store.put_head(&object, entry("2"), ticket));
    store.remove_head(&object, &"1".into());
    assert_eq!(etag_of(&store.head(&object).unwrap()), "2");
    store.remove_head(&object, &"2".into());
    assert!(store.head(&object).is_none());
    // A removal of one version is no invalidation: what was begun may be stored.
    assert!(store.put_head(&object, entry("3"), ticket));
}

#[test]
fn heads_stay_below_their_part_and_push_blocks_out_for_it() {
    let store = Store::new(MIB, 0);
    let big = object("big");
    for index in 0..16 {
        let id = block_id(&big, "1", index);
        let filled = block(&store, &vec![0; 65_000]);
        assert!(store.put_block(id, filled, Pool::Owned, store.begin(&big)));
    }
    for i in 0..2_000 {
        let object = object(&format!("k{i}"));
        assert!(store.put_head(&object, entry("1"), store.begin(&object)));
    }
    assert!(store.stats().heads > 50, "{:?}", store.stats());
    assert!(store.budget().used_by(Kind::Heads) <= MIB / 8);
    // The heads that are not held any more, and at least one block.
    let stats = store.stats();
    assert!(stats.evictions.capacity > 2_000 - stats.heads);
    assert_eq!(stats.evictions.invalidated, 0);
    let dropped = store.invalidate(&Scope::All);
    let invalidated = store.stats().evictions.invalidated;
    assert_eq!(invalidated, dropped.heads + dropped.blocks);
    assert!(store.budget().peak() <= MIB);
}

#[test]
fn without_memory_a_head_is_not_stored() {
    let (store, object) = (Store::new(MIB, 0), object("a"));
    let _all = store.try_reserve(Kind::Uploads, MIB).unwrap();
    assert!(!store.put_head(&object, entry("1"), store.begin(&object)));
    assert!(store.head(&object).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reservation_waits_for_a_reader_to_let_go_of_a_block_that_stays() {
    let (store, object) = (Store::new(MIB, 0), object("a"));
    let id = block_id(&object, "1", 0);
    let filled = block(&store, &vec![0; 1_000_000]);
    assert!(store.put_block(id.clone(), filled, Pool::Owned, store.begin(&object)));
    let reading = store.block(&id).unwrap();
    let wait = Duration::from_secs(1);
    assert!(store.reserve(Kind::Fills, 100_000, wait).await.is_none());
    assert!(store.reserve(Kind::Fills, 2 * MIB, wait).await.is_none());
    let (charge, ()) = tokio::join!(store.reserve(Kind::Fills, 100_000, wait), async {
        drop(reading);
    });
    assert!(charge.is_some());
}

#[test]
fn a_storm_of_fills_reads_and_invalidations_never_passes_the_bound() {
    let limit = 2 * MIB;
    let store = Store::new(limit, limit / 8);
    std::thread::scope(|threads| {
        for thread in 0..4u64 {
            let store = &store;
            threads.spawn(move || storm(store, thread));
        }
    });
    let used = store.budget().used();
    assert!(store.budget().peak() <= limit && used <= limit);
    assert!(store.stats().evictions.capacity > 500);
    let stats = store.stats();
    let blocks = store.budget().used_by(Kind::Blocks);
    assert_eq!(
        blocks,
        stats.owned_bytes + stats.replica_bytes + stats.index_bytes
    );
    assert!(stats.owned_bytes > limit / 4, "{stats:?}");
    store.invalidate(&Scope::All);
    assert_eq!(store.budget().used_by(Kind::Blocks), 0);
    assert_eq!(store.budget().used_by(Kind::Fills), 0);
}

fn storm(store: &Store, thread: u64) {
    let data = vec![7; 100_000];
    let mut seed = thread + 1;
    let mut reading = std::collections::VecDeque::new();
    for round in 0..2_500u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pick = usize::try_from(seed >> 33).unwrap();
        let object = object(&format!("k{}", pick % 300));
        let id = block_id(&object, "1", u32::try_from(pick / 300 % 3).unwrap());
        let ticket = store.begin(&object);
        if let Some(block) = store.block(&id) {
            assert!(
                block
                    .slice(0..10)
                    .all(|piece| piece.iter().all(|byte| *byte == 7))
            );
            reading.push_back(block.pieces());
        } else {
            let len = pick % data.len();
            if let Some(charge) = store.try_reserve(Kind::Fills, len as u64) {
                let mut buffer = Buffer::new(charge, len);
                for chunk in data[..len].chunks(1 + pick % 40_000) {
                    reading.push_back(vec![buffer.push(chunk).unwrap()]);
                }
                let pool = if pick % 4 == 0 {
                    Pool::Replica
                } else {
                    Pool::Owned
                };
                store.put_block(id, buffer.finish().unwrap(), pool, ticket);
                store.put_head(&object, entry("1"), ticket);
            }
        }
        while reading.len() > 5 {
            reading.pop_front();
        }
        if round % 500 == 0 {
            store.invalidate(&prefix("k1"));
        }
        if round % 50 == 0 {
            store.invalidate(&Scope::from(&object));
        }
        assert!(store.budget().used() <= store.budget().limit());
    }
}

/// A version is current when the origin is asked after it was written; an invalidation follows each write.
#[test]
fn readers_that_race_an_invalidation_leave_nothing_old_behind() {
    let (store, object) = (Store::new(4 * MIB, 0), object("a"));
    let (origin, stop) = (AtomicU64::new(1), AtomicBool::new(false));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let ticket = store.begin(&object);
                    let version = origin.load(Ordering::SeqCst).to_string();
                    std::thread::yield_now();
                    store.put_head(&object, entry(&version), ticket);
                }
            });
        }
        let mut stale = None;
        for _ in 0..1_000 {
            let newest = origin.fetch_add(1, Ordering::SeqCst) + 1;
            store.invalidate(&Scope::from(&object));
            std::thread::yield_now();
            if let Some(entry) = store.head(&object) {
                let seen: u64 = etag_of(&entry).parse().unwrap();
                if seen < newest {
                    stale = Some((seen, newest));
                    break;
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
        assert_eq!(stale, None);
    });
}
