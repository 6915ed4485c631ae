//! What one upload holds: its slot, and a buffer that is charged before it grows.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::slots::{SendRate, UploadSlot};
use crate::access::Caller;
use crate::api::state::Api;
use crate::store::{Charge, Kind};
use crate::web::failure::Failure;

/// Bytes that an upload may buffer without a slot.
const FEW_BYTES: u64 = 64 * 1024;

/// The buffer of an upload. Its memory is reused for each part, once S3 has the previous one.
pub(super) struct UploadResources {
    api: Arc<Api>,
    who: Caller,
    /// For the buffer's capacity. A request to S3 that outlives the client's holds it, too.
    charge: Option<Arc<Charge>>,
    bytes: BytesMut,
    room: u64,
    /// Bytes of a part.
    most: u64,
    slot: Option<UploadSlot>,
    rate: SendRate,
}

impl UploadResources {
    /// Holds nothing yet, and at most `most` bytes later.
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

    /// Drops the bytes of the previous file.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// True when a whole part is here.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() as u64 >= self.most
    }

    /// Counts bytes that came after a wait. An error when the upload is too slow for the slot that it holds.
    pub(super) fn record(&mut self, bytes: usize, waited: Duration) -> Result<(), Failure> {
        if self.slot.is_none() {
            return Ok(());
        }
        self.rate.record(bytes, waited)
    }

    /// Takes what fits of `chunk`; the rest stays there.
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

    /// Doubles the room.
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

    /// The charge for the bytes that are shared.
    pub(super) fn charge(&self) -> Option<Arc<Charge>> {
        self.charge.clone()
    }

    /// The bytes in the buffer, and a second handle by which the memory comes back.
    pub(super) fn share(&mut self) -> (Bytes, Bytes) {
        let shared = std::mem::take(&mut self.bytes).freeze();
        (shared.clone(), shared)
    }

    /// Takes the memory back, or allocates it again when a failed request still holds it.
    pub(super) fn reclaim(&mut self, handle: Bytes) {
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        self.bytes = handle
            .try_into_mut()
            .unwrap_or_else(|_| BytesMut::with_capacity(room));
        self.bytes.clear();
    }
}
