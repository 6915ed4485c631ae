//! What one upload holds: a buffer that grows with what comes, charged before it does, and its slot.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::slots::{SendRate, UploadSlot};
use crate::access::Caller;
use crate::api::state::Api;
use crate::store::{Charge, Kind};
use crate::web::failure::Failure;

/// Bytes that an upload may hold without a slot.
const FEW_BYTES: u64 = 64 * 1024;

/// The one buffer of an upload: its memory is used again for each part, once S3 has the one before.
pub(super) struct UploadResources {
    api: Arc<Api>,
    who: Caller,
    /// As many bytes as the buffer has room for; a request to S3 that outlives its client's holds it, too.
    charge: Option<Arc<Charge>>,
    bytes: BytesMut,
    room: u64,
    /// Bytes of a part.
    most: u64,
    slot: Option<UploadSlot>,
    rate: SendRate,
}

impl UploadResources {
    /// Nothing is held yet; in the end `most` bytes.
    pub(super) fn new(api: &Arc<Api>, who: Caller, most: u64) -> Self {
        Self {
            api: Arc::clone(api),
            who,
            charge: None,
            bytes: BytesMut::new(),
            room: 0,
            most,
            slot: None,
            rate: SendRate::default(),
        }
    }

    /// Forgets the bytes of the file before.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// True when a whole part is here.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() as u64 >= self.most
    }

    /// So many bytes came, after so long a wait. Too few for the slot that is held are an error.
    pub(super) fn came(&mut self, bytes: usize, waited: Duration) -> Result<(), Failure> {
        if self.slot.is_none() {
            return Ok(());
        }
        self.rate.came(bytes, waited)
    }

    /// Takes what fits of `chunk`, which keeps the rest.
    pub(super) async fn fill(&mut self, chunk: &mut Bytes) -> Result<(), Failure> {
        let wanted = (self.bytes.len() + chunk.len()) as u64;
        while self.room < wanted.min(self.most) {
            self.grow().await?;
        }
        let room = usize::try_from(self.room).unwrap_or(usize::MAX) - self.bytes.len();
        let part = chunk.split_to(room.min(chunk.len()));
        self.bytes.extend_from_slice(&part);
        Ok(())
    }

    /// Makes room for twice as much.
    async fn grow(&mut self) -> Result<(), Failure> {
        let room = (self.room * 2).max(FEW_BYTES).min(self.most);
        if room > FEW_BYTES {
            self.acquire_slot().await?;
        }
        let services = &self.api.services;
        let store = services.proxy.store();
        let charge = store.reserve(Kind::Uploads, room, services.settings.upload_wait);
        let Some(charge) = charge.await else {
            return Err(Failure::later(
                "NoMemory",
                "not enough memory for the upload's buffer at the moment: try again",
            ));
        };
        let mut bytes = BytesMut::with_capacity(usize::try_from(room).unwrap_or(usize::MAX));
        bytes.extend_from_slice(&self.bytes);
        (self.bytes, self.room) = (bytes, room);
        self.charge = Some(Arc::new(charge));
        Ok(())
    }

    /// Waits for a slot, if this upload has none.
    pub(super) async fn acquire_slot(&mut self) -> Result<(), Failure> {
        if self.slot.is_none() {
            let wait = self.api.services.settings.upload_wait;
            self.slot = Some(self.api.uploads.take(&self.who, wait).await?);
        }
        Ok(())
    }

    /// The charge for what is handed out.
    pub(super) fn charge(&self) -> Option<Arc<Charge>> {
        self.charge.clone()
    }

    /// What is in the buffer, and a second handle by which the memory comes back.
    pub(super) fn share(&mut self) -> (Bytes, Bytes) {
        let shared = std::mem::take(&mut self.bytes).freeze();
        (shared.clone(), shared)
    }

    /// The memory again; a new piece when a request that failed still holds the old one.
    pub(super) fn reclaim(&mut self, handle: Bytes) {
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        self.bytes = handle
            .try_into_mut()
            .unwrap_or_else(|_| BytesMut::with_capacity(room));
        self.bytes.clear();
    }
}
