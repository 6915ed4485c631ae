//! Parts of an object as they were uploaded: what S3 says of one is known from then on, with the version that it is of.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Freshness, Proxy, ReadOptions, Requester};
use crate::object::{ETag, Head, ObjectId, Part};
use crate::store::{Entry, EntryState, Ticket};

/// A lookup of a part at S3, begun before it went out.
pub struct PartLookup {
    proxy: Proxy,
    object: ObjectId,
    ticket: Ticket,
}

impl Proxy {
    /// What is known here of a part of the current version, and which that is.
    pub fn part(&self, object: &ObjectId, number: u32) -> Option<(ETag, Part)> {
        let opts = ReadOptions::head(object.clone(), Freshness::Stored, Requester::Client);
        let head = self.hit(&opts, Instant::now())?.ok()?.head;
        let part = head.parts.get(number)?.clone();
        Some((head.etag.clone(), part))
    }

    /// S3 is about to be asked for a part.
    pub fn begin_part_lookup(&self, object: &ObjectId) -> PartLookup {
        PartLookup {
            proxy: self.clone(),
            object: object.clone(),
            ticket: self.0.store.begin(object),
        }
    }
}

impl PartLookup {
    /// S3 said this of a part of that version.
    pub fn record(self, etag: &ETag, part: &Part) {
        let store = &self.proxy.0.store;
        store.amend_head(&self.object, self.ticket, |entry| {
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
