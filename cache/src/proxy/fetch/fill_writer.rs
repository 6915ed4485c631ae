//! Writing into fills: block by block into memory that is reserved first, so that no reader holds up another.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::expected::{Expected, ExpectedBytes};
use super::source::StreamEnd;
use crate::fill::{Abandoned, Error, Fill, FillSource, Fills, Version};
use crate::metrics::Metrics;
use crate::object::{Blocks, Source};
use crate::store::{Buffer, Kind, Pool, Store, Ticket};

/// How long a fill waits for memory before its readers are told to read past the cache.
const MEMORY_WAIT: Duration = Duration::from_secs(2);

/// The stream is not of the blocks that it was opened for.
const WRONG_BYTES: Error = Error::Abandoned(Abandoned::WrongBytes);

/// What fills are written with, the same for all of them.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) blocks: Blocks,
    pub(super) store: Arc<Store>,
    pub(super) fills: Arc<Fills>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) expected: ExpectedBytes,
}

/// Neighbouring fills, first to last, and how far they are written.
pub(super) struct FillWriter {
    to: Destination,
    version: Version,
    fills: VecDeque<Arc<Fill>>,
    fill_source: FillSource,
    ticket: Ticket,
    /// Bytes of the first fill so far.
    buffer: Option<Buffer>,
    /// Where in the object the next byte to be written lies.
    next: u64,
    expected: Expected,
}

impl FillWriter {
    /// Writes `fills` of a version. What an invalidation voided after `ticket` was taken is not stored.
    pub(super) fn new(
        to: Destination,
        version: Version,
        fills: Vec<Arc<Fill>>,
        fill_source: FillSource,
        ticket: Ticket,
    ) -> Self {
        let bytes = |fill: &Arc<Fill>| to.blocks.bytes(fill.id().index, version.size);
        let expected = fills.iter().map(|fill| length(&bytes(fill))).sum();
        Self {
            expected: to.expected.add(expected),
            next: fills.first().map_or(0, |fill| bytes(fill).start),
            to,
            version,
            fills: fills.into(),
            fill_source,
            ticket,
            buffer: None,
        }
    }

    /// The version that is written.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// How the bytes are to come.
    pub(super) fn fill_source(&self) -> FillSource {
        self.fill_source
    }

    /// The first block that is still missing.
    pub(super) fn first_block(&self) -> u32 {
        self.fills.front().map_or(0, |fill| fill.id().index)
    }

    /// The bytes that are still missing, and those of other tasks' blocks between them.
    pub(super) fn missing(&self) -> Range<u64> {
        let last = self.fills.back();
        self.next..last.map_or(self.next, |fill| self.bytes(fill).end)
    }

    /// True when every block is whole.
    pub(super) fn is_done(&self) -> bool {
        self.fills.is_empty()
    }

    /// True while a reader follows one of them, or is going to.
    pub(super) fn is_followed(&self) -> bool {
        self.fills.iter().any(|fill| fill.is_followed())
    }

    /// True while a reader or another task waits for one of them.
    pub(super) fn is_awaited(&self) -> bool {
        self.fills.iter().any(|fill| fill.is_awaited())
    }

    /// True when an invalidation has overtaken one of them.
    pub(super) fn is_detached(&self) -> bool {
        self.fills.iter().any(|fill| fill.is_detached())
    }

    /// Writes a piece of the object that begins at byte `at`. What lies before the next missing byte is passed over: it
    /// is another task's.
    pub(super) async fn write(
        &mut self,
        source: Source,
        mut at: u64,
        mut piece: Bytes,
    ) -> Result<(), StreamEnd> {
        while !piece.is_empty() {
            let Some(fill) = self.fills.front().cloned() else {
                return Ok(());
            };
            if at > self.next {
                return Err(StreamEnd::Elsewhere(WRONG_BYTES));
            }
            let before = clamp(self.next - at, &piece);
            at += piece.split_to(before).len() as u64;
            if piece.is_empty() {
                return Ok(());
            }
            if !self.version.is_cacheable() && !self.is_followed() {
                return Err(StreamEnd::Final(Error::Abandoned(Abandoned::Unwanted)));
            }
            let rest = clamp(self.bytes(&fill).end - self.next, &piece);
            let bytes = piece.split_to(rest);
            at += bytes.len() as u64;
            self.write_block(&fill, source, &bytes).await?;
        }
        Ok(())
    }

    async fn write_block(
        &mut self,
        fill: &Arc<Fill>,
        source: Source,
        bytes: &[u8],
    ) -> Result<(), StreamEnd> {
        let block = self.bytes(fill);
        let mut buffer = match self.buffer.take() {
            Some(buffer) => buffer,
            None => self.begin_block(fill, source, length(&block)).await?,
        };
        let piece = buffer
            .push(bytes)
            .map_err(|_full| StreamEnd::Final(WRONG_BYTES))?;
        fill.push(piece);
        self.next += bytes.len() as u64;
        if let Some(reason) = self.version.bypass {
            self.to
                .metrics
                .bypassed(reason.as_str(), bytes.len() as u64);
        }
        if self.next < block.end {
            self.buffer = Some(buffer);
            return Ok(());
        }
        self.finish_block(fill, buffer)
    }

    async fn begin_block(
        &self,
        fill: &Fill,
        source: Source,
        length: u64,
    ) -> Result<Buffer, StreamEnd> {
        let kind = match self.fill_source {
            FillSource::Origin => Kind::Fills,
            FillSource::Peers => Kind::Replicas,
        };
        let Some(charge) = self.to.store.reserve(kind, length, MEMORY_WAIT).await else {
            return Err(StreamEnd::Final(Error::NoMemory));
        };
        fill.began(source);
        let length = usize::try_from(length).expect("a block fits into memory");
        Ok(Buffer::new(charge, length))
    }

    /// The first block is whole: it is stored before its fill is over, so that no reader can miss it in both places.
    fn finish_block(&mut self, fill: &Arc<Fill>, buffer: Buffer) -> Result<(), StreamEnd> {
        let mut stored = false;
        if self.version.is_cacheable() {
            let pool = match self.fill_source {
                FillSource::Origin => Pool::Owned,
                FillSource::Peers => Pool::Replica,
            };
            let block = buffer
                .finish()
                .map_err(|_short| StreamEnd::Final(WRONG_BYTES))?;
            let (id, store) = (fill.id().clone(), &self.to.store);
            stored = store.put_block(id, block, pool, self.ticket);
        }
        self.fills.pop_front();
        self.end(fill, Ok(()));
        if stored {
            fill.stored();
        }
        if let Some(next) = self.fills.front() {
            self.next = self.bytes(next).start;
        }
        Ok(())
    }

    /// Gives up the blocks that are not whole.
    pub(super) fn fail(&mut self, error: &Error) {
        self.buffer = None;
        while let Some(fill) = self.fills.pop_front() {
            self.end(&fill, Err(error.clone()));
        }
    }

    /// Off the table, then over.
    fn end(&mut self, fill: &Arc<Fill>, end: Result<(), Error>) {
        self.to.fills.remove(fill);
        fill.end(end);
        self.expected.settle(length(&self.bytes(fill)));
    }

    fn bytes(&self, fill: &Fill) -> Range<u64> {
        self.to.blocks.bytes(fill.id().index, self.version.size)
    }
}

impl Drop for FillWriter {
    /// A task that is cut off leaves nobody waiting.
    fn drop(&mut self) {
        self.fail(&Error::Abandoned(Abandoned::TaskEnded));
    }
}

fn length(bytes: &Range<u64>) -> u64 {
    bytes.end - bytes.start
}

/// As many of `count` bytes as the piece has.
fn clamp(count: u64, piece: &Bytes) -> usize {
    usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(piece.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::Claim;
    use crate::object::ObjectId;

    const BLOCKS: Blocks = Blocks { size: 4 };

    fn destination() -> Destination {
        let store = Arc::new(Store::new(1 << 20, 0));
        Destination {
            blocks: BLOCKS,
            fills: Arc::new(Fills::new(Arc::clone(&store))),
            store,
            metrics: Arc::default(),
            expected: ExpectedBytes::default(),
        }
    }

    fn version(object: &ObjectId) -> Version {
        Version {
            object: object.clone(),
            etag: "\"v\"".into(),
            size: 11,
            bypass: None,
        }
    }

    fn writer(to: &Destination, claim: Claim) -> (FillWriter, ObjectId) {
        let object = ObjectId::new("b", "k").unwrap();
        let ticket = to.store.begin(&object);
        let fills = claim.start.into_iter().flatten().collect();
        let from = FillSource::Origin;
        let writer = FillWriter::new(to.clone(), version(&object), fills, from, ticket);
        (writer, object)
    }

    fn held(to: &Destination, object: &ObjectId, index: u32) -> Option<Vec<u8>> {
        let block = to.store.peek_block(&version(object).block(index))?;
        Some(block.pieces().concat())
    }

    async fn write(writer: &mut FillWriter, at: u64, piece: &'static str) -> Result<(), StreamEnd> {
        writer.write(Source::Origin, at, Bytes::from(piece)).await
    }

    #[tokio::test]
    async fn pieces_of_any_length_become_blocks_and_others_blocks_are_passed_over() {
        let to = destination();
        let object = ObjectId::new("b", "k").unwrap();
        // The middle block is another task's.
        let theirs = to.fills.claim(&version(&object), 1..2, FillSource::Origin);
        let mine = to.fills.claim(&version(&object), 0..3, FillSource::Origin);
        let (mut writer, object) = writer(&to, mine);
        assert_eq!(writer.missing(), 0..11);
        assert_eq!(to.expected.total(), 7);
        let pieces = [(0, "ab"), (2, "cdefg"), (7, "hij"), (10, "k")];
        for (at, piece) in pieces {
            assert!(write(&mut writer, at, piece).await.is_ok());
        }
        assert!(writer.is_done());
        assert_eq!(to.expected.total(), 0);
        assert_eq!(held(&to, &object, 0).unwrap(), b"abcd");
        assert_eq!(held(&to, &object, 1), None);
        assert_eq!(held(&to, &object, 2).unwrap(), b"ijk");
        assert_eq!(theirs.start.len(), 1);
        assert_eq!(to.fills.len(), 1);
    }

    #[tokio::test]
    async fn a_stream_that_begins_behind_the_missing_byte_is_refused() {
        let to = destination();
        let object = ObjectId::new("b", "k").unwrap();
        let mine = to.fills.claim(&version(&object), 0..1, FillSource::Origin);
        let (mut writer, object) = writer(&to, mine);
        assert!(write(&mut writer, 0, "a").await.is_ok());
        let end = write(&mut writer, 2, "cd").await;
        let Err(StreamEnd::Elsewhere(Error::Abandoned(why))) = end else {
            panic!("the stream was taken");
        };
        assert_eq!(why, Abandoned::WrongBytes);
        // The next stream goes on where the first one stopped.
        assert_eq!(writer.missing(), 1..4);
        assert!(write(&mut writer, 0, "abcd").await.is_ok());
        assert_eq!(held(&to, &object, 0).unwrap(), b"abcd");
    }
}
