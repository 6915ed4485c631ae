//! Parts of an object as they were uploaded: what S3 says of one is recorded with the version that it is of.

use std::sync::Arc;

use crate::object::{ETag, Head, ObjectId, Part};
use crate::store::{Entry, EntryState, Store, Ticket};

/// A lookup of a part at S3, begun before S3 was asked.
pub struct PartLookup {
    store: Arc<Store>,
    object: ObjectId,
    ticket: Ticket,
}

impl PartLookup {
    /// To be called before S3 is asked.
    pub(super) fn begin(store: &Arc<Store>, object: &ObjectId) -> Self {
        Self {
            store: Arc::clone(store),
            object: object.clone(),
            ticket: store.begin(object),
        }
    }

    /// Records what S3 said of a part of that version.
    pub fn record(self, etag: &ETag, part: &Part) {
        self.store.amend_head(&self.object, self.ticket, |entry| {
            let EntryState::Present(head) = &entry.state else {
                return None;
            };
            let parts = head
                .parts
                .with(part.clone())
                .filter(|_| head.etag == *etag)?;
            let head = Head {
                parts,
                ..head.as_ref().clone()
            };
            Some(Entry {
                state: EntryState::Present(Arc::new(head)),
                ..entry.clone()
            })
        });
    }
}
