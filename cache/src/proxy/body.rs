//! The bytes of an answer: held in memory, or read block by block.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::{self, BoxStream};

use super::reader::Reader;
use super::{Error, Inner, Proxy, Requester};
use crate::fill::{Follower, Version};
use crate::object::Source;
use crate::store::ClientSpeed;

/// The bytes of an answer, exactly as many as its range. An error cuts it off.
pub struct ReadBody(Bytestream);

enum Bytestream {
    Held(VecDeque<Bytes>),
    Read(BoxStream<'static, Result<Bytes, Error>>),
}

impl std::fmt::Debug for ReadBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Bytestream::Held(_) => "ReadBody::Held",
            Bytestream::Read(_) => "ReadBody::Read",
        })
    }
}

impl Stream for ReadBody {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Bytestream::Held(pieces) => Poll::Ready(pieces.pop_front().map(Ok)),
            Bytestream::Read(stream) => stream.as_mut().poll_next(context),
        }
    }
}

impl ReadBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Bytestream::Held(VecDeque::new()))
    }

    /// What a stream gives.
    pub(super) fn from_stream(
        stream: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Self {
        Self(Bytestream::Read(Box::pin(stream)))
    }

    /// True when there is nothing to give.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Bytestream::Held(pieces) if pieces.is_empty())
    }

    /// All of it, where it was in memory as the answer was made.
    pub fn into_memory(self) -> Option<VecDeque<Bytes>> {
        match self.0 {
            Bytestream::Held(pieces) => Some(pieces),
            Bytestream::Read(_) => None,
        }
    }

    /// Reads `range` of a version; comes back with its first bytes and where they came from.
    pub(super) async fn start(
        proxy: Proxy,
        version: Version,
        range: Range<u64>,
        by: Requester,
        fills: Vec<Follower>,
    ) -> Result<(Self, Source), Error> {
        let mut reader = Reader::new(proxy, version, range, by, fills);
        let Some(first) = reader.next().await else {
            return Ok((Self::empty(), Source::Memory));
        };
        let first = first?;
        let source = reader.source;
        let rest = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            let item = reader.next().await?;
            if let Err(Error::VersionChanged) = &item {
                // Made known before the body is cut: whoever asks again gets the new one.
                reader.proxy.drop_version(&reader.version, reader.by).await;
            }
            let next = item.is_ok().then_some(reader);
            Some((item, next))
        });
        let stream = stream::StreamExt::chain(stream::iter([Ok(first)]), rest);
        Ok((Self::from_stream(stream), source))
    }
}

/// The bytes of `range`, if all of it is in the store, it is no more than one part, and another client may hold that much.
pub(super) fn from_memory(
    inner: &Inner,
    version: &Version,
    range: &Range<u64>,
) -> Option<ReadBody> {
    let blocks = inner.settings.blocks;
    let mut pieces = VecDeque::new();
    if range.end - range.start > inner.settings.part_bytes {
        return None;
    }
    let wanted = blocks.covering(range);
    let whole = blocks.span(&wanted, version.size);
    let budget = inner.store.budget();
    let lease = budget.try_lease(whole.end - whole.start, ClientSpeed::Unknown)?;
    for index in wanted {
        let block = inner.store.block(&version.block(index))?;
        let bytes = blocks.bytes(index, version.size);
        let from = range.start.max(bytes.start) - bytes.start;
        let to = range.end.min(bytes.end) - bytes.start;
        pieces.extend(block.slice(from..to).map(|piece| lease.wrap(piece)));
    }
    Some(ReadBody(Bytestream::Held(pieces)))
}
