//! Reading without a reader: a whole object into the memory of its owners, behind those who wait for theirs.

use super::ask_peers::relayed;
use super::{Error, Freshness, Proxy, ReadOptions, Requester};
use crate::fill::{FillSource, Version};
use crate::object::{ETag, EXTENT_BLOCKS, ObjectId, extent_of};
use crate::peer::{self, ReadRequest};
use crate::store::EntryState;

/// Owners of an extent that are asked to hold it before this node does: the first, and its stand-in.
const PEERS_TRIED: usize = 2;

impl Proxy {
    /// Has each extent of an object fetched by its owner. Returns the bytes that are held now; none of an object that
    /// is too large to be stored, or that S3 forbids to store.
    pub async fn warm(&self, object: &ObjectId) -> Result<u64, Error> {
        let opts = ReadOptions::head(object.clone(), Freshness::Stored, Requester::Client);
        let lookup = self.lookup(&opts).await?;
        let EntryState::Present(head) = &lookup.entry.state else {
            return Ok(0);
        };
        let version = self.version(object, head);
        if !version.cacheable {
            return Ok(0);
        }
        let mut bytes = 0;
        let blocks = self.0.settings.blocks.covering(&(0..version.size));
        for extent in 0..=extent_of(blocks.end.saturating_sub(1)) {
            bytes += self.warm_at_owner(&version, extent).await?;
        }
        Ok(bytes)
    }

    /// Fetches an extent that a peer says this node owns.
    pub async fn warm_extent(
        &self,
        object: &ObjectId,
        etag: ETag,
        size: u64,
        extent: u32,
    ) -> Result<u64, Error> {
        let version = Version {
            object: object.clone(),
            etag,
            size,
            cacheable: size <= self.0.settings.max_blob_size,
        };
        self.warm_here(&version, extent).await
    }

    async fn warm_at_owner(&self, version: &Version, extent: u32) -> Result<u64, Error> {
        for owner in self.peers_before_me(&version.object, extent, PEERS_TRIED) {
            let request = ReadRequest {
                bytes: Some(self.extent_bytes(version, extent)),
                version: Some((version.etag.clone(), version.size)),
                ..ReadRequest::current(&version.object)
            };
            match self
                .while_alive(&owner, self.0.peers.warm(&owner.url, &request))
                .await
            {
                Ok(bytes) => return Ok(bytes),
                Err(peer::Error::Refused(refusal)) => return Err(relayed(refusal).into()),
                Err(error) => {
                    tracing::debug!(object = %version.object, owner = owner.name, %error, "the owner did not warm its extent");
                }
            }
        }
        self.warm_here(version, extent).await
    }

    pub(super) async fn warm_here(&self, version: &Version, extent: u32) -> Result<u64, Error> {
        let bytes = self.extent_bytes(version, extent);
        let blocks = self.0.settings.blocks.covering(&bytes);
        let mut next = blocks.start;
        while next < blocks.end {
            let part_end = self.part_end(next).min(blocks.end);
            // One of few: readers come first.
            let permit = self.0.background.clone().acquire_owned().await;
            let claim =
                self.0
                    .fills
                    .claim(&self.0.store, version, next..part_end, FillSource::Origin);
            for fills in claim.start {
                self.start_part(version.clone(), fills, FillSource::Origin);
            }
            for fill in claim.follow {
                fill.ended().await?;
            }
            drop(permit);
            next = part_end;
        }
        Ok(bytes.end - bytes.start)
    }

    fn extent_bytes(&self, version: &Version, extent: u32) -> std::ops::Range<u64> {
        self.0.settings.blocks.span(
            &(extent * EXTENT_BLOCKS..(extent + 1) * EXTENT_BLOCKS),
            version.size,
        )
    }
}
