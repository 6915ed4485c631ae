//! Blocks on their way: one fill per block at a time, which all readers of the block follow byte by byte.
//!
//! A fill is written by a task of its own (see `proxy/fetch.rs`), never by a request, so whoever asked first may
//! hang up. Where the bytes come from is not known here.

mod follower;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::object::{BlockId, BypassReason, ETag, ObjectId, Relayed, Scope, Source};
use crate::origin;
use crate::store::{Block, Store};

pub use follower::Follower;

/// Why a block did not come. Shared by all its readers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// S3 refused, failed or could not be reached.
    #[error(transparent)]
    Origin(Arc<origin::Error>),
    /// Another node asked S3 and passed on what it heard.
    #[error(transparent)]
    Relayed(Relayed),
    /// S3 holds another version by now.
    #[error("the object was overwritten while it was read")]
    VersionChanged,
    /// The budget is spent on what is being read at this moment.
    #[error("no memory left for another block: raise --max-cache-size or lower the load")]
    NoMemory,
    /// The fill was given up; whether the object can be read is not known from it.
    #[error("the fetch was given up: {0}")]
    Abandoned(Abandoned),
}

/// Why a fill was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Abandoned {
    /// No reader follows it, and nothing of it would be stored.
    #[error("no reader wants it any more")]
    Unwanted,
    /// The bytes ended early, or were others than those asked for.
    #[error("the bytes that came were not those of the block")]
    WrongBytes,
    /// The peer that was asked is busy or can't be reached.
    #[error("the peer could not give it")]
    PeerFailed,
    /// The task that fetched it is gone.
    #[error("its task ended early")]
    TaskEnded,
}

/// One block while it fills.
#[derive(Debug)]
pub struct Fill {
    id: BlockId,
    from: FillSource,
    progress: watch::Sender<Progress>,
    ahead: Arc<AtomicU64>,
    /// An invalidation has overtaken it: no new reader joins it, and nothing of it is stored.
    detached: AtomicBool,
}

#[derive(Debug, Default)]
struct Progress {
    pieces: Vec<Bytes>,
    source: Option<Source>,
    end: Option<Result<(), Error>>,
    followers: usize,
    /// Those of them that have begun to read.
    reading: usize,
    /// One of them has.
    begun: bool,
    /// The block is in the store, for readers that have not begun here.
    stored: bool,
}

impl Progress {
    /// Its readers have asked for it ahead of themselves, and none is there yet.
    fn is_ahead(&self) -> bool {
        self.followers > 0 && !self.begun
    }

    /// Lets go of bytes that the store has, so that it may evict them.
    fn let_go(&mut self) {
        if self.stored && self.reading == 0 {
            self.pieces = Vec::new();
        }
    }
}

impl Fill {
    fn new(id: BlockId, from: FillSource, ahead: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            id,
            from,
            progress: watch::Sender::new(Progress::default()),
            ahead: Arc::clone(ahead),
            detached: AtomicBool::new(false),
        })
    }

    /// Which block it is.
    pub fn id(&self) -> &BlockId {
        &self.id
    }

    /// The bytes have begun to come, from there.
    pub fn began(&self, source: Source) {
        self.progress
            .send_modify(|progress| progress.source = Some(source));
    }

    /// The next bytes of the block.
    pub fn push(&self, piece: Bytes) {
        self.progress
            .send_modify(|progress| progress.pieces.push(piece));
    }

    /// No more bytes follow: the block is whole, or never will be. The first end counts.
    pub fn end(&self, end: Result<(), Error>) {
        self.progress.send_if_modified(|progress| {
            let first = progress.end.is_none();
            if first {
                progress.end = Some(end);
            }
            first
        });
    }

    /// The fill is over and its block is in the store: only its current readers still hold its bytes.
    pub fn stored(&self) {
        self.change(|progress| progress.stored = true);
    }

    /// Updates the follower counts without waking followers.
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_if_modified(|progress| {
            let before = progress.is_ahead();
            change(progress);
            progress.let_go();
            match (before, progress.is_ahead()) {
                (false, true) => self.ahead.fetch_add(1, Ordering::Relaxed),
                (true, false) => self.ahead.fetch_sub(1, Ordering::Relaxed),
                _ => 0,
            };
            false
        });
    }

    /// Comes back when the fill is over.
    pub async fn ended(&self) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        match progress.wait_for(|progress| progress.end.is_some()).await {
            Ok(progress) => progress.end.clone().unwrap_or(Ok(())),
            Err(_) => Err(Error::Abandoned(Abandoned::TaskEnded)),
        }
    }

    /// True while a reader follows, or is going to.
    pub fn is_followed(&self) -> bool {
        self.progress.borrow().followers > 0
    }

    /// True while a reader follows, or a task waits for its end.
    pub fn is_awaited(&self) -> bool {
        self.progress.receiver_count() > 0
    }

    /// True when an invalidation has overtaken it.
    pub fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed)
    }
}

/// The fills that run at this node.
///
/// A block may be filled twice at a time: from S3, and by way of a peer. A peer's request must never wait for a fill
/// that itself waits for a peer, or two nodes that disagree about the ring could wait for each other for ever.
pub struct Fills {
    store: Arc<Store>,
    running: Mutex<Running>,
    ahead: Arc<AtomicU64>,
}

type Running = HashMap<(BlockId, FillSource), Arc<Fill>>;

/// How a fill gets its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FillSource {
    /// From S3.
    Origin,
    /// From the extent's owner, else its stand-ins, and only then from S3.
    Peers,
}

/// Where a block is.
pub enum Location {
    /// In this node's memory.
    Held(Block),
    /// On its way here.
    Filling(Arc<Fill>),
    /// Neither: at its owner, or in S3 alone.
    Elsewhere,
}

/// What looking for a block means to the eviction policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A use of the block.
    Use,
    /// None, or one that was counted already.
    Peek,
}

/// What a reader that wants some blocks got.
#[derive(Debug, Default)]
pub struct Claim {
    /// Blocks on their way, by index: those that ran already and those of `start`.
    pub follow: Vec<Arc<Fill>>,
    /// Neighbouring blocks that are not being filled yet: the caller must start them, each group as one read.
    pub start: Vec<Vec<Arc<Fill>>>,
}

impl Fills {
    /// No fills yet; their blocks go to `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            running: Mutex::default(),
            ahead: Arc::default(),
        }
    }

    /// Where a block is, for a reader that may follow fills which get their bytes `from` there.
    pub fn locate(
        &self,
        id: &BlockId,
        from: impl FnOnce() -> FillSource,
        access: Access,
    ) -> Location {
        // A hit asks for nothing else, and takes no lock but the store's.
        if let Some(block) = self.held(id, access) {
            return Location::Held(block);
        }
        let from = from();
        self.locate_in(&self.running(), id, from, access)
    }

    /// Claims `blocks` of one version. What is neither held nor on its way becomes the caller's to fill, `from` there.
    pub fn claim(&self, version: &Version, blocks: Range<u32>, from: FillSource) -> Claim {
        let mut claim = Claim::default();
        let mut group: Vec<Arc<Fill>> = Vec::new();
        let mut running = self.running();
        for index in blocks {
            let id = version.block(index);
            match self.locate_in(&running, &id, from, Access::Peek) {
                Location::Held(_) => {}
                Location::Filling(fill) => claim.follow.push(fill),
                Location::Elsewhere => {
                    let fill = Fill::new(id.clone(), from, &self.ahead);
                    running.insert((id, from), fill.clone());
                    claim.follow.push(fill.clone());
                    group.push(fill);
                    continue;
                }
            }
            if !group.is_empty() {
                claim.start.push(std::mem::take(&mut group));
            }
        }
        if !group.is_empty() {
            claim.start.push(group);
        }
        claim
    }

    /// Under the lock of the fills: a block is stored before its fill leaves the table, so one that is in neither was
    /// never filled.
    fn locate_in(
        &self,
        running: &Running,
        id: &BlockId,
        from: FillSource,
        access: Access,
    ) -> Location {
        let mut key = (id.clone(), FillSource::Origin);
        let mut fill = running.get(&key);
        if fill.is_none() && from == FillSource::Peers {
            key.1 = from;
            fill = running.get(&key);
        }
        if let Some(fill) = fill {
            return Location::Filling(fill.clone());
        }
        self.held(id, access)
            .map_or(Location::Elsewhere, Location::Held)
    }

    fn held(&self, id: &BlockId, access: Access) -> Option<Block> {
        match access {
            Access::Use => self.store.block(id),
            Access::Peek => self.store.peek_block(id),
        }
    }

    /// The fill has ended, and its block is stored if it may be: later readers look elsewhere.
    pub fn remove(&self, fill: &Arc<Fill>) {
        let key = (fill.id.clone(), fill.from);
        let mut running = self.running();
        if running
            .get(&key)
            .is_some_and(|current| Arc::ptr_eq(current, fill))
        {
            running.remove(&key);
        }
    }

    /// Lets go of what an invalidation names: its readers go on, later ones begin new fills.
    pub fn detach(&self, scope: &Scope) {
        self.running().retain(|(id, _), fill| {
            let stays = !scope.covers(&id.object);
            fill.detached.fetch_or(!stays, Ordering::Relaxed);
            stays
        });
    }

    /// Blocks that readers have asked for ahead of themselves: on their way, or in the store until they are reached.
    pub fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.running().len()
    }

    /// True when none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many readers follow them.
    pub fn followers(&self) -> usize {
        self.running()
            .values()
            .map(|fill| fill.progress.borrow().followers)
            .sum()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One version of an object, as far as its blocks need to know.
#[derive(Debug, Clone)]
pub struct Version {
    /// The object.
    pub object: ObjectId,
    /// The version's tag.
    pub etag: ETag,
    /// Bytes of the whole object.
    pub size: u64,
    /// Why its blocks are not stored; `None`: they may be.
    pub bypass: Option<BypassReason>,
}

impl Version {
    /// True when its blocks may be stored.
    pub fn is_cacheable(&self) -> bool {
        self.bypass.is_none()
    }

    /// The id of its block `index`.
    pub fn block(&self, index: u32) -> BlockId {
        BlockId {
            object: self.object.clone(),
            etag: self.etag.clone(),
            size: self.size,
            index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_block_is_ahead_from_when_it_is_asked_for_until_a_reader_comes_to_it() {
        let fills = Fills::new(Arc::new(Store::new(8 << 20, 0)));
        let version = Version {
            object: ObjectId::new("b", "k").unwrap(),
            etag: ETag::from("\"1\"".to_owned()),
            size: 3 << 20,
            bypass: None,
        };
        let claim = fills.claim(&version, 0..3, FillSource::Origin);
        assert_eq!(fills.ahead(), 0);
        let mut followers: Vec<Follower> = claim.follow.iter().map(Fill::follow).collect();
        assert_eq!(fills.ahead(), 3);
        for fill in &claim.follow {
            fill.push(Bytes::from("bytes"));
            fill.end(Ok(()));
            fill.stored();
            fills.remove(fill);
        }
        assert_eq!(fills.ahead(), 3);
        assert!(followers[0].next().await.is_none());
        assert_eq!(fills.ahead(), 2);
        drop(followers);
        assert_eq!(fills.ahead(), 0);
    }
}
