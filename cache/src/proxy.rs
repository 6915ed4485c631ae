//! Stand-in until the real module is merged.
#![expect(missing_docs, clippy::unused_async, reason = "a stand-in")]
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;

use crate::object::{ByteRange, ETag, Head, ObjectId};
use crate::origin;
use crate::store::Store;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    First,
    Last,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    Stored,
    Revalidate,
    Not(ETag),
}

#[derive(Debug, Clone)]
pub struct Ask {
    pub object: ObjectId,
    pub range: Option<ByteRange>,
    pub freshness: Freshness,
    pub hop: Hop,
    pub body: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Memory,
    Peer,
    Origin,
    Revalidated,
    Stale,
    Bypass,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Peer => "peer",
            Self::Origin => "origin",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Bypass => "bypass",
        }
    }
}

pub struct Answer {
    pub head: Arc<Head>,
    pub age: Duration,
    pub source: Source,
    pub range: Range<u64>,
    pub body: Body,
}

pub struct Body;

impl Stream for Body {
    type Item = Result<Bytes, Error>;
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        unreachable!()
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{message}")]
    Absent { code: String, message: String },
    #[error("unsatisfiable")]
    Unsatisfiable { head: Arc<Head> },
    #[error("{0}")]
    Origin(Arc<origin::Error>),
    #[error("the object changed while it was read")]
    VersionChanged,
    #[error("no memory")]
    NoMemory,
    #[error("this node is stopping")]
    Shutdown,
}

pub struct Proxy;

impl Proxy {
    pub async fn read(&self, _ask: Ask) -> Result<Answer, Error> {
        unreachable!()
    }
    pub async fn warm(&self, _object: &ObjectId) -> Result<u64, Error> {
        unreachable!()
    }
    pub fn store(&self) -> &Store {
        unreachable!()
    }
}
