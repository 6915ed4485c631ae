//! Write-through: the blocks of a new object go to their owners, so that its first read costs S3 no bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::lookup::Lookups;
use super::owners::Owners;
use super::read::{Freshness, ReadOptions, Requester};
use super::settings::ProxySettings;
use crate::fill::Version;
use crate::object::{Blocks, ETag, ObjectId, extent_of};
use crate::peer::ReadRequest;
use crate::store::{Block, Kind, Pool, Store};

/// Uploads that run hold at most one part in this many of all memory beside their buffers: a slow client must not
/// starve readers.
const SHARE: u64 = 4;

/// Writes blocks of new objects into the memory of their owners.
pub(super) struct WriteThroughs {
    blocks: Blocks,
    max_blob_size: u64,
    timeout: Duration,
    store: Arc<Store>,
    owners: Arc<Owners>,
    lookups: Arc<Lookups>,
    /// Bytes that uploads which run hold.
    held: Arc<AtomicU64>,
}

/// Blocks of an upload, held while it runs. Without memory for the next block it gives up: the upload goes on.
pub struct WriteThrough {
    to: Arc<WriteThroughs>,
    object: ObjectId,
    blocks: Option<Vec<Block>>,
    size: u64,
    share: UploadShare,
}

/// What an upload holds of the bytes that all uploads together may hold.
struct UploadShare {
    all: Arc<AtomicU64>,
    mine: u64,
    most: u64,
}

impl UploadShare {
    fn take(&mut self, bytes: u64) -> bool {
        let more = |all: u64| all.checked_add(bytes).filter(|sum| *sum <= self.most);
        // A count by itself: it orders nothing else.
        let taken = self
            .all
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok();
        self.mine += if taken { bytes } else { 0 };
        taken
    }

    fn give_back(&mut self) {
        let mine = std::mem::take(&mut self.mine);
        self.all.fetch_sub(mine, Ordering::Relaxed);
    }
}

impl Drop for UploadShare {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl WriteThroughs {
    pub(super) fn new(
        settings: ProxySettings,
        store: Arc<Store>,
        owners: Arc<Owners>,
        lookups: Arc<Lookups>,
    ) -> Self {
        Self {
            blocks: settings.blocks,
            max_blob_size: settings.max_blob_size,
            timeout: settings.timeout,
            store,
            owners,
            lookups,
            held: Arc::default(),
        }
    }

    /// Begins the write-through of an upload to `object`.
    pub(super) fn begin(self: &Arc<Self>, object: &ObjectId) -> WriteThrough {
        WriteThrough {
            to: Arc::clone(self),
            object: object.clone(),
            blocks: Some(Vec::new()),
            size: 0,
            share: UploadShare {
                all: Arc::clone(&self.held),
                mine: 0,
                most: self.store.budget().limit() / SHARE,
            },
        }
    }

    /// Stores a block that a peer just wrote to S3; `false` when there is no room, or it is not a block.
    pub(super) fn store_block(&self, version: &Version, index: u32, bytes: &[u8]) -> bool {
        let expected = self.blocks.bytes(index, version.size);
        if expected.end - expected.start != bytes.len() as u64 || !version.is_cacheable() {
            return false;
        }
        let ticket = self.store.begin(&version.object);
        self.block(bytes).is_some_and(|block| {
            let id = version.block(index);
            self.store.put_block(id, block, Pool::Owned, ticket)
        })
    }

    fn block(&self, bytes: &[u8]) -> Option<Block> {
        let charge = self.store.try_reserve(Kind::Fills, bytes.len() as u64)?;
        Some(Block::from_bytes(charge, bytes))
    }

    async fn write_at_owner(&self, version: &Version, index: u32, block: Block) {
        let owners = self.owners.before_me(&version.object, extent_of(index));
        let Some(owner) = owners.first() else {
            let ticket = self.store.begin(&version.object);
            let id = version.block(index);
            self.store.put_block(id, block, Pool::Owned, ticket);
            return;
        };
        let request = ReadRequest {
            bytes: Some(self.blocks.bytes(index, version.size)),
            version: Some((version.etag.clone(), version.size)),
            ..ReadRequest::current(&version.object)
        };
        let whole = Bytes::from(block.pieces().concat());
        let written = self.owners.write_through(owner, &request, whole);
        if let Err(error) = written.await {
            tracing::debug!(object = %version.object, owner = owner.name, %error, "failed to write a block through to its owner");
        }
    }

    /// The home learns the version from S3 itself: a head that an invalidation overtook must not be pushed.
    async fn announce(&self, object: ObjectId) {
        let opts = ReadOptions::head(object, Freshness::Revalidate, Requester::Client);
        let looked_up = tokio::time::timeout(self.timeout, self.lookups.current(&opts)).await;
        if let Ok(Err(error)) = looked_up {
            tracing::debug!(object = %opts.object, %error, "failed to look up a version that was written through");
        }
    }
}

impl WriteThrough {
    /// The next bytes of the upload. All calls but the last bring whole blocks; else it gives up.
    pub fn push(&mut self, bytes: &[u8]) {
        let block_bytes = self.to.blocks.size;
        let whole_before = self.size.is_multiple_of(block_bytes);
        self.size += bytes.len() as u64;
        let Some(blocks) = &mut self.blocks else {
            return;
        };
        let fits = whole_before && self.size <= self.to.max_blob_size;
        if !fits || !self.share.take(bytes.len() as u64) {
            return self.give_up();
        }
        let length = usize::try_from(block_bytes).unwrap_or(usize::MAX);
        for bytes in bytes.chunks(length) {
            match self.to.block(bytes) {
                Some(block) => blocks.push(block),
                None => return self.give_up(),
            }
        }
    }

    fn give_up(&mut self) {
        self.blocks = None;
        self.share.give_back();
    }

    /// S3 has the object, as this version, and every node has forgotten the one before.
    pub async fn finish(self, etag: ETag) {
        let Some(blocks) = self.blocks else { return };
        let version = Version {
            object: self.object,
            etag,
            size: self.size,
            bypass: None,
        };
        for (index, block) in (0..).zip(blocks) {
            self.to.write_at_owner(&version, index, block).await;
        }
        self.to.announce(version.object).await;
    }
}
