//! A read, as it is asked for and as it is answered.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::body::ReadBody;
use super::error::Error;
use crate::object::{ByteRange, ETag, Head, ObjectId, Source};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Requester {
    /// A client: the owner may be asked.
    Client,
    /// A peer: answered from memory or S3, never sent on.
    Peer,
}

/// How current the answer must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// What is held will do while it is fresh.
    Stored,
    /// S3 must be asked.
    Revalidate,
    /// The caller saw that this version is gone.
    Not(ETag),
}

/// A read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The object.
    pub object: ObjectId,
    /// The bytes; `None` is all.
    pub range: Option<ByteRange>,
    /// How current.
    pub freshness: Freshness,
    /// Who asks.
    pub by: Requester,
    /// `false`: the head alone.
    pub body: bool,
}

impl ReadOptions {
    /// A read of the head alone.
    pub(super) fn head(object: ObjectId, freshness: Freshness, by: Requester) -> Self {
        Self {
            object,
            range: None,
            freshness,
            by,
            body: false,
        }
    }

    /// The bytes that it asks for of this version.
    pub(super) fn resolve(&self, head: &Arc<Head>) -> Result<Range<u64>, Error> {
        match self.range {
            Some(range) if head.is_sized() => range
                .resolve(head.size)
                .ok_or_else(|| Error::Unsatisfiable { head: head.clone() }),
            _ => Ok(0..head.size),
        }
    }
}

/// The answer to a read.
#[derive(Debug)]
pub struct ReadResult {
    /// The version that is answered with.
    pub head: Arc<Head>,
    /// Since S3 said that it is the current one.
    pub age: Duration,
    /// How much longer it is taken as current; `None` is for ever.
    pub fresh: Option<Duration>,
    /// Where it came from.
    pub source: Source,
    /// The bytes that `body` gives.
    pub range: Range<u64>,
    /// The bytes.
    pub body: ReadBody,
}
