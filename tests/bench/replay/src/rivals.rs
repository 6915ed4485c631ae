//! What others decide by: moka's policies, quick_cache, SIEVE, and Belady, who knows the future.

use std::collections::BinaryHeap;
use std::hash::{BuildHasherDefault, Hasher};

use moka::policy::EvictionPolicy;
use quick_cache::unsync;

use crate::replay::{Cache, Hits, hash};
use crate::traces::Trace;

/// Block → its size: the values of caches that want some.
type Place = u32;

/// Libraries hash with what they are given, or else differently at each start.
#[derive(Default)]
pub(crate) struct Fixed(u64);

impl Hasher for Fixed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("blocks are u32");
    }

    fn write_u32(&mut self, block: u32) {
        self.0 = hash(block);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// moka, its pending work done after each request: it never lags behind.
pub(crate) struct Moka(moka::sync::Cache<u32, Place, BuildHasherDefault<Fixed>>);

impl Moka {
    pub(crate) fn new(capacity: u64, policy: EvictionPolicy) -> Self {
        Self(
            moka::sync::Cache::builder()
                .max_capacity(capacity)
                .weigher(|_, size| *size)
                .eviction_policy(policy)
                .build_with_hasher(BuildHasherDefault::default()),
        )
    }
}

impl Cache for Moka {
    fn ask(&mut self, block: u32, size: u32) -> bool {
        let held = self.0.get(&block).is_some();
        if !held {
            self.0.insert(block, size);
        }
        self.0.run_pending_tasks();
        held
    }
}

#[derive(Clone)]
pub(crate) struct Size;

impl quick_cache::Weighter<u32, Place> for Size {
    fn weight(&self, _: &u32, size: &Place) -> u64 {
        u64::from(*size)
    }
}

/// quick_cache.
pub(crate) struct Quick(unsync::Cache<u32, Place, Size, BuildHasherDefault<Fixed>>);

impl Quick {
    pub(crate) fn new(trace: &Trace, capacity: u64) -> Self {
        let bytes: u64 = trace.sizes.iter().map(|size| u64::from(*size)).sum();
        // It wants to be told how many will fit.
        let items = trace.sizes.len() as u64 * capacity / bytes;
        let items = usize::try_from(items).expect("fewer than there are blocks");
        Self(unsync::Cache::with(
            items,
            capacity,
            Size,
            BuildHasherDefault::default(),
            unsync::DefaultLifecycle::default(),
        ))
    }
}

impl Cache for Quick {
    fn ask(&mut self, block: u32, size: u32) -> bool {
        let held = self.0.get(&block).is_some();
        if !held {
            self.0.insert(block, size);
        }
        held
    }
}

/// The best that can be done: what is asked for again latest goes first, and what is asked for later than all that is
/// held is not stored. It holds parts of blocks, a byte being a page: only where all pages have one size is the rule
/// the best one.
pub(crate) fn belady(trace: &Trace, capacity: u64) -> Hits {
    const NEVER: u32 = u32::MAX;
    let asked: Vec<u32> = trace.requests().flatten().copied().collect();
    let (mut next, mut seen) = (vec![NEVER; asked.len()], vec![NEVER; trace.sizes.len()]);
    for (at, block) in asked.iter().enumerate().rev() {
        let now = u32::try_from(at).expect("fewer than 2^32 are asked for");
        next[at] = std::mem::replace(&mut seen[*block as usize], now);
    }
    // Bytes held of each block. An entry of the heap is of use while its block is next asked for then.
    let mut held = vec![0u32; trace.sizes.len()];
    let mut until = vec![NEVER; trace.sizes.len()];
    let (mut latest, mut bytes) = (BinaryHeap::new(), 0u64);
    let (mut hits, mut at) = (Hits::default(), 0);
    for request in trace.requests() {
        let mut whole = true;
        for block in request {
            let (place, size) = (*block as usize, trace.sizes[*block as usize]);
            hits.bytes += u64::from(held[place]);
            hits.blocks += u64::from(held[place] == size);
            whole &= held[place] == size;
            bytes -= u64::from(std::mem::take(&mut held[place]));
            until[place] = next[at];
            if next[at] != NEVER {
                held[place] = size;
                bytes += u64::from(size);
                latest.push((next[at], *block));
            }
            at += 1;
            while bytes > capacity {
                let (then, block) = *latest.peek().expect("what is held is in the heap");
                let place = block as usize;
                if until[place] != then || held[place] == 0 {
                    latest.pop();
                    continue;
                }
                let over = u32::try_from(bytes - capacity).unwrap_or(u32::MAX);
                let gone = over.min(held[place]);
                held[place] -= gone;
                bytes -= u64::from(gone);
            }
        }
        hits.requests += u64::from(whole);
    }
    hits
}
