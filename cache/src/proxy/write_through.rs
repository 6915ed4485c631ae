//! Write-through: what was just written is kept. Its blocks go to their owners, so that the first read costs S3 no bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{Error, Freshness, Proxy, ReadOptions, Requester};
use crate::fill::Version;
use crate::object::{ETag, ObjectId, extent_of};
use crate::peer::ReadRequest;
use crate::store::{Block, Kind, Pool};

/// Uploads that run hold at most this part of all memory beside their buffers: a slow client must not starve readers.
const SHARE: u64 = 4;

/// Blocks of an upload, held while it runs. Without memory for the next block it gives up: the upload goes on.
pub struct WriteThrough {
    proxy: Proxy,
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

impl Proxy {
    /// Begins the write-through of an upload to `object`.
    pub fn write_through(&self, object: &ObjectId) -> WriteThrough {
        WriteThrough {
            proxy: self.clone(),
            object: object.clone(),
            blocks: Some(Vec::new()),
            size: 0,
            share: UploadShare {
                all: Arc::clone(&self.0.write_through_bytes),
                mine: 0,
                most: self.0.store.budget().limit() / SHARE,
            },
        }
    }

    /// Holds a block that a peer just wrote to S3; `false` when there is no room, or it is not a block.
    pub fn store_written_block(
        &self,
        object: &ObjectId,
        etag: ETag,
        size: u64,
        index: u32,
        bytes: &[u8],
    ) -> bool {
        let expected = self.0.settings.blocks.bytes(index, size);
        let version = Version {
            object: object.clone(),
            etag,
            size,
            cacheable: true,
        };
        if expected.end - expected.start != bytes.len() as u64
            || size > self.0.settings.max_blob_size
        {
            return false;
        }
        let ticket = self.0.store.begin(object);
        match self.block(bytes) {
            Some(block) => self
                .0
                .store
                .put_block(version.block(index), block, Pool::Owned, ticket),
            None => false,
        }
    }

    fn block(&self, bytes: &[u8]) -> Option<Block> {
        let charge = self.0.store.try_reserve(Kind::Fills, bytes.len() as u64)?;
        Some(Block::from_bytes(charge, bytes))
    }
}

impl WriteThrough {
    /// The next bytes of the upload. All calls but the last bring whole blocks; else it gives up.
    pub fn push(&mut self, bytes: &[u8]) {
        let settings = &self.proxy.0.settings;
        let whole_before = self.size.is_multiple_of(settings.blocks.size);
        self.size += bytes.len() as u64;
        let Some(blocks) = &mut self.blocks else {
            return;
        };
        let fits = whole_before && self.size <= settings.max_blob_size;
        if !fits || !self.share.take(bytes.len() as u64) {
            return self.give_up();
        }
        let length = usize::try_from(settings.blocks.size).unwrap_or(usize::MAX);
        for bytes in bytes.chunks(length) {
            match self.proxy.block(bytes) {
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
            cacheable: true,
        };
        for (index, block) in (0..).zip(blocks) {
            self.proxy.write_at_owner(&version, index, block).await;
        }
        // The home learns the version from S3 itself: a head that an invalidation overtook must not be pushed.
        let opts = ReadOptions::head(version.object, Freshness::Revalidate, Requester::Client);
        let read: Result<_, Error> = self.proxy.read(opts).await;
        if let Err(error) = read {
            tracing::debug!(%error, "what was written is kept, but its head is not known yet");
        }
    }
}

impl Proxy {
    async fn write_at_owner(&self, version: &Version, index: u32, block: Block) {
        let owners = self.peers_before_me(&version.object, extent_of(index), 1);
        let Some(owner) = owners.first() else {
            let ticket = self.0.store.begin(&version.object);
            let id = version.block(index);
            self.0.store.put_block(id, block, Pool::Owned, ticket);
            return;
        };
        let request = ReadRequest {
            bytes: Some(self.0.settings.blocks.bytes(index, version.size)),
            version: Some((version.etag.clone(), version.size)),
            ..ReadRequest::current(&version.object)
        };
        let whole = Bytes::from(block.pieces().concat());
        let written = self.0.peers.write_through(&owner.url, &request, whole);
        if let Err(error) = self.while_alive(owner, written).await {
            tracing::debug!(object = %version.object, owner = owner.name, %error, "a written block was not kept");
        }
    }
}
