//! A trace through a cache of so many bytes: the cache's own policy, and LRU beside it.

use super::traces::Trace;
use super::{Policy, Pool};

/// A cache that holds whole blocks.
pub(crate) trait Cache {
    /// True when the block is there; else it is there from now on, if it may be.
    fn ask(&mut self, block: u32, size: u32) -> bool;
}

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    /// Requests all of whose blocks were there.
    pub(crate) requests: u64,
    pub(crate) blocks: u64,
    /// Bytes of those blocks.
    pub(crate) bytes: u64,
}

/// Asks for all of a trace.
pub(crate) fn replay(trace: &Trace, cache: &mut impl Cache) -> Hits {
    let mut hits = Hits::default();
    for request in trace.requests() {
        let mut whole = true;
        for block in request {
            let size = trace.sizes[*block as usize];
            if cache.ask(*block, size) {
                hits.blocks += 1;
                hits.bytes += u64::from(size);
            } else {
                whole = false;
            }
        }
        hits.requests += u64::from(whole);
    }
    hits
}

/// What the policies know a block by.
pub(crate) fn hash(block: u32) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&block.to_le_bytes())
}

const NOWHERE: u32 = u32::MAX;

/// The policy of the cache, called as the store calls it.
pub(crate) struct Falcon {
    policy: Policy,
    capacity: u64,
    /// Where a block is, and which block is at a place.
    places: Vec<u32>,
    blocks: Vec<u32>,
    free: Vec<u32>,
}

impl Falcon {
    pub(crate) fn new(trace: &Trace, capacity: u64) -> Self {
        Self {
            policy: Policy::new(),
            capacity,
            places: vec![NOWHERE; trace.sizes.len()],
            blocks: vec![],
            free: vec![],
        }
    }
}

impl Cache for Falcon {
    fn ask(&mut self, block: u32, size: u32) -> bool {
        let place = self.places[block as usize];
        if place != NOWHERE {
            self.policy.touch(place);
            return true;
        }
        if u64::from(size) > self.capacity {
            return false;
        }
        while self.policy.bytes(Pool::Owned) + u64::from(size) > self.capacity {
            let Some(place) = self.policy.evict(Pool::Owned, |_| false) else {
                return false;
            };
            self.places[self.blocks[place as usize] as usize] = NOWHERE;
            self.free.push(place);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.blocks.push(block);
            u32::try_from(self.blocks.len() - 1).expect("blocks are named by 32 bits")
        });
        self.blocks[place as usize] = block;
        self.places[block as usize] = place;
        self.policy.insert(place, Pool::Owned, hash(block), size);
        false
    }
}

/// The least recently used one goes first.
pub(crate) struct Lru {
    /// For each block its older and newer neighbour, and its size; the last entry ends the list both ways.
    nodes: Vec<(u32, u32, u32)>,
    bytes: u64,
    capacity: u64,
}

impl Lru {
    pub(crate) fn new(trace: &Trace, capacity: u64) -> Self {
        let mut nodes = vec![(NOWHERE, NOWHERE, 0); trace.sizes.len() + 1];
        let end = u32::try_from(trace.sizes.len()).expect("blocks are named by 32 bits");
        nodes[end as usize] = (end, end, 0);
        Self {
            nodes,
            bytes: 0,
            capacity,
        }
    }

    fn unlink(&mut self, block: u32) {
        let (older, newer, size) = self.nodes[block as usize];
        self.nodes[older as usize].1 = newer;
        self.nodes[newer as usize].0 = older;
        self.nodes[block as usize].0 = NOWHERE;
        self.bytes -= u64::from(size);
    }

    fn link(&mut self, block: u32, size: u32) {
        let end = self.nodes.len() - 1;
        let newest = self.nodes[end].0;
        let end = u32::try_from(end).expect("blocks are named by 32 bits");
        self.nodes[block as usize] = (newest, end, size);
        self.nodes[newest as usize].1 = block;
        self.nodes[end as usize].0 = block;
        self.bytes += u64::from(size);
    }
}

impl Cache for Lru {
    fn ask(&mut self, block: u32, size: u32) -> bool {
        let held = self.nodes[block as usize].0 != NOWHERE;
        if held {
            self.unlink(block);
        } else if u64::from(size) > self.capacity {
            return false;
        }
        while self.bytes + u64::from(size) > self.capacity {
            let oldest = self.nodes[self.nodes.len() - 1].1;
            self.unlink(oldest);
        }
        self.link(block, size);
        held
    }
}
