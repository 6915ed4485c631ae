//! What a lookup is about, and what it found.

use std::sync::Arc;

use super::answer_slot::AnswerSlot;
use crate::fill::Follower;
use crate::object::{Head, ObjectId, Source};
use crate::proxy::error::Error;
use crate::proxy::read::Freshness;
use crate::store::{Entry, EntryState};

/// What a lookup is about. Lookups of one key may share their answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LookupKey {
    pub(super) object: ObjectId,
    /// S3 is asked, and not the home.
    pub(super) at_origin: bool,
    pub(super) freshness: Freshness,
}

/// The current version, and what came with it.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Lookup {
    /// When S3 said so, and how long it counts.
    pub(in crate::proxy) entry: Entry,
    /// Its head.
    pub(in crate::proxy) head: Arc<Head>,
    /// Where that is known from.
    pub(in crate::proxy) source: Source,
    /// The first bytes, on their way.
    pub(in crate::proxy) fills: Vec<Follower>,
    /// S3's answer itself, where no two readers can share it.
    pub(in crate::proxy) answer: Option<AnswerSlot>,
}

impl Lookup {
    /// What an entry says: the current version, or that there is no such object.
    pub(super) fn new(entry: Entry, source: Source) -> Result<Self, Error> {
        match &entry.state {
            EntryState::Present(head) => Ok(Self {
                head: head.clone(),
                entry,
                source,
                fills: Vec::new(),
                answer: None,
            }),
            EntryState::Negative(absent) => Err(absent.as_ref().into()),
        }
    }
}
