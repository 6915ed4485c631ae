//! The bytes of an answer: held in memory, or read block by block.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;

use super::error::Error;

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
        Self::from_memory(VecDeque::new())
    }

    /// Bytes that are held already.
    pub(super) fn from_memory(pieces: VecDeque<Bytes>) -> Self {
        Self(Bytestream::Held(pieces))
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
}
