//! What is known of objects: present with this head, or absent. moka holds it; the accountant sees every record.

use std::sync::Arc;

use moka::sync::Cache;
use tokio::time::Instant;

use super::budget::Charge;
use crate::object::{ETag, Head, ObjectId, Scope};

/// Heads may take this part of all memory.
const PART: u64 = 8;

/// What a record costs beside its own bytes and its key's: moka's entry, its queues and its table, the reference counts. Measured.
const RECORD_BYTES: u64 = 360;

/// What is known of an object, and how long that may be believed.
#[derive(Debug, Clone)]
pub struct Record {
    /// What the origin said.
    pub known: Known,
    /// When it said so.
    pub fetched: Instant,
    /// Until when it is believed unasked; `None` means for ever.
    pub fresh_until: Option<Instant>,
    /// Another node said so, and not the origin itself. A peer is never answered with a copy: two nodes that take each
    /// other for an object's home would hand it back and forth, past any invalidation.
    pub copied: bool,
}

/// What the origin said of an object.
#[derive(Debug, Clone)]
pub enum Known {
    /// It has this version now.
    Present(Arc<Head>),
    /// It has no such object.
    Absent(Absent),
}

/// The origin's 404.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// S3's error code.
    pub code: String,
    /// S3's message.
    pub message: String,
}

impl Record {
    /// The tag of the present version.
    fn etag(&self) -> Option<&ETag> {
        match &self.known {
            Known::Present(head) => Some(&head.etag),
            Known::Absent(_) => None,
        }
    }

    fn memory_bytes(&self) -> u64 {
        let known = match &self.known {
            Known::Present(head) => head.memory_bytes(),
            Known::Absent(absent) => (absent.code.capacity() + absent.message.capacity()) as u64,
        };
        size_of::<Self>() as u64 + known
    }
}

/// The records, at most an eighth of the limit.
pub(crate) struct Heads {
    records: Cache<ObjectId, Arc<Held>>,
}

struct Held {
    record: Arc<Record>,
    /// moka drops late; the bytes are given back when it does.
    charge: Charge,
}

impl Heads {
    pub(crate) fn new(limit: u64) -> Self {
        let records = Cache::builder()
            .max_capacity(limit / PART)
            .weigher(|_, held: &Arc<Held>| u32::try_from(held.charge.bytes()).unwrap_or(u32::MAX))
            .build();
        Self { records }
    }

    /// Bytes to charge for a record before it is put.
    pub(crate) fn cost(object: &ObjectId, record: &Record) -> u64 {
        let name = object.bucket().len() + object.key().len();
        RECORD_BYTES + name as u64 + record.memory_bytes()
    }

    pub(crate) fn get(&self, object: &ObjectId) -> Option<Arc<Record>> {
        self.records.get(object).map(|held| held.record.clone())
    }

    pub(crate) fn put(&self, object: &ObjectId, record: Record, charge: Charge) {
        let record = Arc::new(record);
        self.records
            .insert(object.clone(), Arc::new(Held { record, charge }));
        self.records.run_pending_tasks();
    }

    /// Removes the record if it is of this version. The caller keeps others from changing it meanwhile.
    pub(crate) fn remove_version(&self, object: &ObjectId, etag: &ETag) {
        if self
            .get(object)
            .is_some_and(|record| record.etag() == Some(etag))
        {
            self.records.invalidate(object);
            self.records.run_pending_tasks();
        }
    }

    /// Removes what the scope names and counts it. The caller keeps others from adding to it meanwhile.
    pub(crate) fn remove(&self, scope: &Scope) -> u64 {
        let mut removed = 0;
        if let Scope::Key { bucket, key } = scope {
            let held = ObjectId::new(bucket, key)
                .ok()
                .and_then(|object| self.records.remove(&object));
            removed = u64::from(held.is_some());
        } else {
            let covered: Vec<Arc<ObjectId>> = self
                .records
                .iter()
                .map(|(object, _)| object)
                .filter(|object| scope.covers(object))
                .collect();
            for object in covered {
                removed += u64::from(self.records.remove(&*object).is_some());
            }
        }
        self.records.run_pending_tasks();
        removed
    }

    /// Records held.
    pub(crate) fn count(&self) -> u64 {
        self.records.entry_count()
    }
}
