//! Parts of an object as they were uploaded: what S3 says of one is known from then on, with the version that it is of.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Ask, Freshness, Hop, Proxy};
use crate::object::{ETag, Head, ObjectId, Part};
use crate::store::{Known, Record, Ticket};

/// A question to S3 for a part, begun before it went out.
pub struct PartQuestion {
    proxy: Proxy,
    object: ObjectId,
    ticket: Ticket,
}

impl Proxy {
    /// What is known here of a part of the current version, and which that is.
    pub fn part(&self, object: &ObjectId, number: u32) -> Option<(ETag, Part)> {
        let ask = Ask {
            object: object.clone(),
            range: None,
            freshness: Freshness::Stored,
            hop: Hop::First,
            body: false,
        };
        let head = self.hit(&ask, Instant::now())?.ok()?.head;
        let part = head.parts.get(number)?.clone();
        Some((head.etag.clone(), part))
    }

    /// S3 is about to be asked for a part.
    pub fn asks_for_part(&self, object: &ObjectId) -> PartQuestion {
        PartQuestion {
            proxy: self.clone(),
            object: object.clone(),
            ticket: self.0.store.begin(object),
        }
    }
}

impl PartQuestion {
    /// S3 said this of a part of that version.
    pub fn answered(self, etag: &ETag, part: &Part) {
        let store = &self.proxy.0.store;
        store.amend_head(&self.object, self.ticket, |record| {
            let Known::Present(head) = &record.known else {
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
            Some(Record {
                known: Known::Present(Arc::new(head)),
                ..record.clone()
            })
        });
    }
}
