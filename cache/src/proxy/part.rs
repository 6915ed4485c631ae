//! Which missing blocks are fetched together, and which way they come.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fetch_task::FetchTask;
use super::lookup::Lookup;
use super::permits::Permit;
use super::stream::FillStream;
use super::{Proxy, Requester};
use crate::fill::{Fill, FillSource, Version};
use crate::object::{EXTENT_BLOCKS, ObjectId, Source};
use crate::store::{EntryState, Kind, Ticket};

/// Bytes that were asked for and don't come yet.
pub(super) struct Expected(Proxy, u64);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.0.expected.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Proxy {
    /// The block after the last of the part that `index` lies in. A part never reaches into the next extent.
    pub(super) fn part_end(&self, index: u32) -> u32 {
        let blocks = self.part_blocks();
        (index / blocks + 1) * blocks
    }

    /// The first block of the part that `index` lies in.
    pub(super) fn part_start(&self, index: u32) -> u32 {
        let blocks = self.part_blocks();
        index / blocks * blocks
    }

    fn part_blocks(&self) -> u32 {
        let settings = &self.0.settings;
        u32::try_from(settings.part_bytes / settings.blocks.size)
            .unwrap_or(EXTENT_BLOCKS)
            .clamp(1, EXTENT_BLOCKS)
    }

    /// Fetches neighbouring blocks that were claimed together, in a task of its own.
    pub(super) fn start_part(
        &self,
        version: Version,
        fills: Vec<Arc<Fill>>,
        fill_source: FillSource,
    ) {
        let ticket = self.0.store.begin(&version.object);
        let fetch_task = FetchTask::new(self.clone(), version, fills, ticket, fill_source);
        tokio::spawn(fetch_task.run());
    }

    /// Counts bytes as on their way from now on, until what it returns is dropped.
    pub(super) fn expect(&self, bytes: &Range<u64>) -> Expected {
        let bytes = bytes.end - bytes.start;
        self.0.expected.fetch_add(bytes, Ordering::Relaxed);
        Expected(self.clone(), bytes)
    }

    /// Bytes that are on their way, or came and are held for one reader alone.
    pub(super) fn in_flight(&self) -> u64 {
        let budget = self.0.store.budget();
        let held = budget.used_by(Kind::Fills) + budget.used_by(Kind::Replicas);
        self.0.expected.load(Ordering::Relaxed) + held
    }

    pub(super) fn length(&self, version: &Version, fill: &Fill) -> u64 {
        let bytes = self.0.settings.blocks.bytes(fill.id().index, version.size);
        bytes.end - bytes.start
    }

    /// How the blocks of an extent come here.
    pub(super) fn fill_source(&self, version: &Version, extent: u32, by: Requester) -> FillSource {
        if by == Requester::Peer
            || !version.cacheable
            || self.0.ring.borrow().owns(&version.object, extent)
        {
            FillSource::Origin
        } else {
            FillSource::Peers
        }
    }

    /// Streams the first answer of an object that was unknown into its blocks, in a task of its own.
    pub(super) fn stream_first_part(
        &self,
        object: &ObjectId,
        mut lookup: Lookup,
        bytes: Range<u64>,
        mut stream: FillStream,
        ticket: Ticket,
        permit: Option<Permit>,
    ) -> Lookup {
        let EntryState::Present(head) = &lookup.entry.state else {
            return lookup;
        };
        let version = self.version(object, head);
        let source = match lookup.source.unwrap_or(Source::Origin) {
            Source::Origin if !version.cacheable => Source::Bypass,
            source => source,
        };
        let fill_source = match stream {
            FillStream::Origin(_) => FillSource::Origin,
            FillStream::Peer(..) => FillSource::Peers,
        };
        let claim = self.0.fills.claim(
            &self.0.store,
            &version,
            self.0.settings.blocks.covering(&bytes),
            fill_source,
        );
        lookup.fills = claim.follow.iter().map(Fill::follow).collect();
        let fills: Vec<_> = claim.start.into_iter().flatten().collect();
        if !fills.is_empty() {
            let mut fetch_task = FetchTask::new(self.clone(), version, fills, ticket, fill_source);
            fetch_task.begin(bytes.start, source);
            tokio::spawn(async move {
                let streamed = fetch_task.stream_into(&mut stream, permit).await;
                drop(stream);
                fetch_task.finish(streamed).await;
            });
        }
        lookup
    }

    /// The reason of what is read and not kept, as metrics call it.
    pub(super) fn bypass_reason(&self, version: &Version) -> &'static str {
        if version.size > self.0.settings.max_blob_size {
            "size"
        } else {
            "no-store"
        }
    }

    pub(super) async fn origin_permit(&self) -> Option<Permit> {
        self.0.permits.take().await
    }
}
