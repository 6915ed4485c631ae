//! Warming: a whole object into the memory of its owners, without a reader.

use std::sync::Arc;

use super::error::Error;
use super::fetch::Fetcher;
use super::lookup::Lookups;
use super::owners::{Owners, relayed};
use super::read::{Freshness, ReadOptions, Requester};
use crate::fill::Version;
use crate::object::{ObjectId, extent_of};
use crate::peer::{self, ReadRequest};

/// Has objects fetched by their owners.
pub(super) struct Warmer {
    pub(super) lookups: Arc<Lookups>,
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) owners: Arc<Owners>,
}

impl Warmer {
    /// Has each extent of an object fetched by its owner. Returns the bytes that are held now; none of an object that
    /// is too large to be stored, or that S3 forbids to store.
    pub(super) async fn warm(&self, object: &ObjectId) -> Result<u64, Error> {
        let opts = ReadOptions::head(object.clone(), Freshness::Stored, Requester::Client);
        let lookup = self.lookups.current(&opts).await?;
        let version = self.fetcher.version(object, &lookup.head);
        if !version.is_cacheable() {
            return Ok(0);
        }
        let mut bytes = 0;
        let blocks = self.fetcher.blocks().covering(&(0..version.size));
        for extent in 0..=extent_of(blocks.end.saturating_sub(1)) {
            bytes += self.warm_at_owner(&version, extent).await?;
        }
        Ok(bytes)
    }

    async fn warm_at_owner(&self, version: &Version, extent: u32) -> Result<u64, Error> {
        for owner in self.owners.before_me(&version.object, extent) {
            let (_, bytes) = self.fetcher.layout().extent(extent, version.size);
            let request = ReadRequest {
                bytes: Some(bytes),
                version: Some((version.etag.clone(), version.size)),
                ..ReadRequest::current(&version.object)
            };
            match self.owners.warm(&owner, &request).await {
                Ok(bytes) => return Ok(bytes),
                Err(peer::Error::Refused(refusal)) => return Err(Error::Relayed(relayed(refusal))),
                Err(error) => {
                    tracing::debug!(object = %version.object, owner = owner.name, %error, "failed to have an extent warmed by its owner");
                }
            }
        }
        self.fetcher.warm_extent(version, extent).await
    }
}
