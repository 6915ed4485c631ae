//! Reading without a reader: a whole object into the memory of its owners, behind those who wait for theirs.

use super::ask::relayed;
use super::{Ask, Error, Freshness, Hop, Proxy};
use crate::fill::{Version, Way};
use crate::object::{ETag, ObjectId, RUN_BLOCKS, run_of};
use crate::peer::{self, Want};
use crate::store::Known;

/// Owners of a run that are asked to hold it before this node does: the first, and its stand-in.
const PEERS_TRIED: usize = 2;

impl Proxy {
    /// Has each run of an object fetched by its owner. Returns the bytes that are held now; none of an object that
    /// is too large to be stored, or that S3 forbids to store.
    pub async fn warm(&self, object: &ObjectId) -> Result<u64, Error> {
        let ask = Ask {
            object: object.clone(),
            range: None,
            freshness: Freshness::Stored,
            hop: Hop::First,
            body: false,
        };
        let opened = self.open(&ask).await?;
        let Known::Present(head) = &opened.record.known else {
            return Ok(0);
        };
        let version = self.version(object, head);
        if !version.kept {
            return Ok(0);
        }
        let mut bytes = 0;
        let blocks = self.0.settings.blocks.of(&(0..version.size));
        for run in 0..=run_of(blocks.end.saturating_sub(1)) {
            bytes += self.warm_at_owner(&version, run).await?;
        }
        Ok(bytes)
    }

    /// Fetches a run that a peer says this node owns.
    pub async fn warm_run(
        &self,
        object: &ObjectId,
        etag: ETag,
        size: u64,
        run: u32,
    ) -> Result<u64, Error> {
        let version = Version {
            object: object.clone(),
            etag,
            size,
            kept: size <= self.0.settings.max_blob_bytes,
        };
        self.warm_here(&version, run).await
    }

    async fn warm_at_owner(&self, version: &Version, run: u32) -> Result<u64, Error> {
        for owner in self.peers_before_me(&version.object, run, PEERS_TRIED) {
            let want = Want {
                bytes: Some(self.run_bytes(version, run)),
                version: Some((version.etag.clone(), version.size)),
                ..Want::current(&version.object)
            };
            match self
                .while_alive(&owner, self.0.peers.warm(&owner.url, &want))
                .await
            {
                Ok(bytes) => return Ok(bytes),
                Err(peer::Error::Refused(refusal)) => return Err(relayed(refusal).into()),
                Err(error) => {
                    tracing::debug!(object = %version.object, owner = owner.name, %error, "the owner did not warm its run");
                }
            }
        }
        self.warm_here(version, run).await
    }

    pub(super) async fn warm_here(&self, version: &Version, run: u32) -> Result<u64, Error> {
        let bytes = self.run_bytes(version, run);
        let blocks = self.0.settings.blocks.of(&bytes);
        let mut next = blocks.start;
        while next < blocks.end {
            let part_end = self.part_end(next).min(blocks.end);
            // One of few: readers come first.
            let permit = self.0.background.clone().acquire_owned().await;
            let claim = self
                .0
                .fills
                .claim(&self.0.store, version, next..part_end, Way::Origin);
            for fills in claim.start {
                self.start_part(version.clone(), fills, Way::Origin);
            }
            for fill in claim.follow {
                fill.ended().await?;
            }
            drop(permit);
            next = part_end;
        }
        Ok(bytes.end - bytes.start)
    }

    fn run_bytes(&self, version: &Version, run: u32) -> std::ops::Range<u64> {
        self.0
            .settings
            .blocks
            .span(&(run * RUN_BLOCKS..(run + 1) * RUN_BLOCKS), version.size)
    }
}
