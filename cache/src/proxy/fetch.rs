//! Fetching what is missing: which blocks are read together, where from, and how many at one moment.

mod expected;
mod fill_writer;
mod layout;
mod permits;
mod read_ahead;
mod source;
mod stream_throughput;
mod task;

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::bypass::Bypass;
use super::error::Error;
use super::owners::Owners;
use super::read::Requester;
use super::settings::ProxySettings;
use crate::fill::{Access, Fill, FillSource, Fills, Follower, Location, Version};
use crate::metrics::Metrics;
use crate::object::{
    Blocks, BypassReason, ByteRange, ETag, EXTENT_BLOCKS, Head, ObjectId, Source, extent_of,
};
use crate::origin::Origin;
use crate::store::{Kind, Store, Ticket};

use expected::{Expected, ExpectedBytes};
use fill_writer::{Destination, FillWriter};
use layout::PartLayout;
use permits::{Permit, Permits};
use read_ahead::ReadAhead;
use source::Sources;
use task::FetchTask;

pub(super) use source::FillStream;

/// Fetches that no reader waits for: one in this many of all reads from S3.
const BACKGROUND_PARTS: usize = 16;
/// The part of all memory that may be on its way, or stored and not reached yet, before readers stop fetching ahead of
/// themselves: a quarter.
const AHEAD_PARTS: u64 = 4;

/// Fetches blocks into this node's memory.
pub(super) struct Fetcher {
    settings: ProxySettings,
    layout: PartLayout,
    sources: Arc<Sources>,
    to: Destination,
    /// Permits for what no reader waits for.
    background: Semaphore,
    read_ahead: ReadAhead,
}

impl Fetcher {
    pub(super) fn new(
        settings: ProxySettings,
        store: Arc<Store>,
        origin: Origin,
        owners: Arc<Owners>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (reads, blocks) = (settings.origin_reads, settings.blocks);
        Self {
            layout: PartLayout::new(blocks, settings.part_bytes),
            sources: Arc::new(Sources {
                permits: Permits::new(reads, store.budget().limit(), blocks.size),
                origin,
                owners,
            }),
            to: Destination {
                blocks,
                fills: Arc::new(Fills::new(Arc::clone(&store))),
                store,
                metrics,
                expected: ExpectedBytes::default(),
            },
            background: Semaphore::new(reads.div_ceil(BACKGROUND_PARTS)),
            read_ahead: ReadAhead::default(),
            settings,
        }
    }

    pub(super) fn settings(&self) -> &ProxySettings {
        &self.settings
    }

    pub(super) fn blocks(&self) -> Blocks {
        self.settings.blocks
    }

    pub(super) fn layout(&self) -> PartLayout {
        self.layout
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.to.store
    }

    pub(super) fn fills(&self) -> &Fills {
        &self.to.fills
    }

    /// The version that a head is of.
    pub(super) fn version(&self, object: &ObjectId, head: &Head) -> Version {
        let version = self.named_version(object, head.etag.clone(), head.size);
        Version {
            bypass: version.bypass.or_else(|| head.bypass_reason()),
            ..version
        }
    }

    /// A version that is known by its tag alone.
    pub(super) fn named_version(&self, object: &ObjectId, etag: ETag, size: u64) -> Version {
        Version {
            object: object.clone(),
            etag,
            size,
            bypass: (size > self.settings.max_blob_size).then_some(BypassReason::TooLarge),
        }
    }

    /// Reads from S3 that run: those that make progress, and those that crawl.
    pub(super) fn origin_reads(&self) -> (u64, u64) {
        self.sources.permits.running()
    }

    /// The permit for a read from S3, when one is free.
    pub(super) async fn permit(&self) -> Option<Permit> {
        self.sources.permits.take().await
    }

    /// Counts bytes as on their way from now on, until what it returns is dropped.
    pub(super) fn expect(&self, bytes: &Range<u64>) -> Expected {
        self.to.expected.add(bytes.end - bytes.start)
    }

    /// How many blocks a reader may ask for ahead of itself. The next one always; more while little is in flight, so
    /// that readers of one object share its parts, and readers of many share the memory.
    pub(super) fn blocks_ahead(&self) -> u32 {
        let settings = &self.settings;
        let budget = self.to.store.budget();
        let in_flight =
            self.to.expected.total() + budget.used_by(Kind::Fills) + budget.used_by(Kind::Replicas);
        let ahead = self.to.fills.ahead() * settings.blocks.size;
        let room = (budget.limit() / AHEAD_PARTS).saturating_sub(ahead.max(in_flight));
        let most = settings.part_bytes * settings.parts_in_flight;
        u32::try_from(room.min(most) / settings.blocks.size)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// Sees to it that some blocks of one part come here. Returns those that are on their way; the others are held.
    ///
    /// `small`: the reader wants less than a part.
    pub(super) fn fetch(
        self: &Arc<Self>,
        version: &Version,
        blocks: Range<u32>,
        by: Requester,
        small: bool,
    ) -> Vec<Arc<Fill>> {
        let from = self.fill_source(version, extent_of(blocks.start), by);
        let claim = self.to.fills.claim(version, blocks, from);
        for fills in claim.start {
            let first = fills.first().map_or(0, |fill| fill.id().index);
            self.spawn(version, fills, from);
            if small && from == FillSource::Origin {
                self.note_small_fill(version, extent_of(first));
            }
        }
        claim.follow
    }

    /// The bytes that the first answer of an unknown object should bring: the first part that is asked for, if the home
    /// owns it.
    pub(super) fn first_bytes(&self, asked: Option<ByteRange>) -> Option<Range<u64>> {
        let (first, last) = match asked {
            None => (0, None),
            Some(ByteRange::FromTo(first, last)) if first <= last => (first, Some(last)),
            Some(ByteRange::From(first)) => (first, None),
            Some(ByteRange::FromTo(..) | ByteRange::Suffix(_)) => return None,
        };
        let blocks = self.settings.blocks;
        let index = blocks.index(first);
        if index >= EXTENT_BLOCKS {
            return None;
        }
        // No more than this reader would ask for later on, or many that come at once fill the memory before they are
        // counted.
        let part_end = self.layout.end(index).min(index + self.blocks_ahead());
        let end = last.map_or(part_end, |last| {
            part_end.min(blocks.index(last).saturating_add(1))
        });
        Some(u64::from(index) * blocks.size..u64::from(end) * blocks.size)
    }

    /// Streams the answer that brought an unknown object's first bytes into its blocks. Returns the fills to follow.
    pub(super) fn fetch_from(
        &self,
        object: &ObjectId,
        head: &Head,
        bytes: &Range<u64>,
        mut stream: FillStream,
        ticket: Ticket,
    ) -> Vec<Follower> {
        let version = self.version(object, head);
        if let Some(reason) = version.bypass
            && stream.source == Source::Origin
        {
            stream.source = Source::Bypass(reason);
        }
        let from = if stream.is_from_origin() {
            FillSource::Origin
        } else {
            FillSource::Peers
        };
        let blocks = self.settings.blocks.covering(bytes);
        let claim = self.to.fills.claim(&version, blocks, from);
        let followers = claim.follow.iter().map(Fill::follow).collect();
        let fills: Vec<_> = claim.start.into_iter().flatten().collect();
        if !fills.is_empty() {
            let task = self.task(&version, fills, from, ticket);
            tokio::spawn(task.run_from(stream));
        }
        followers
    }

    /// Where a block is.
    pub(super) fn locate(
        &self,
        version: &Version,
        index: u32,
        by: Requester,
        access: Access,
    ) -> Location {
        let from = || self.fill_source(version, extent_of(index), by);
        self.to.fills.locate(&version.block(index), from, access)
    }

    /// Reads a range of a version past the cache, straight from S3.
    pub(super) async fn bypass(
        &self,
        version: &Version,
        range: Range<u64>,
        reason: BypassReason,
    ) -> Result<Bypass, Error> {
        let charge = Bypass::reserve(&self.to.store, self.settings.timeout).await?;
        let (origin, etag) = (&self.sources.origin, Some(&version.etag));
        let reply = origin.read(&version.object, range.clone(), etag).await;
        let reply = reply.map_err(Error::from_read_of_known)?;
        if reply.head.size != version.size {
            return Err(Error::VersionChanged);
        }
        let metrics = Arc::clone(&self.to.metrics);
        Ok(Bypass::new(reply, &range, charge, reason, metrics))
    }

    /// Fetches an extent of a version from S3, at a lower priority than readers. Returns its bytes.
    pub(super) async fn warm_extent(&self, version: &Version, extent: u32) -> Result<u64, Error> {
        let (blocks, bytes) = self.layout.extent(extent, version.size);
        let mut next = blocks.start;
        while next < blocks.end {
            let part_end = self.layout.end(next).min(blocks.end);
            let permit = self.background.acquire().await;
            let part = next..part_end;
            let claim = self.to.fills.claim(version, part, FillSource::Origin);
            for fills in claim.start {
                self.spawn(version, fills, FillSource::Origin);
            }
            for fill in claim.follow {
                fill.ended().await?;
            }
            drop(permit);
            next = part_end;
        }
        Ok(bytes.end - bytes.start)
    }

    /// A small read had to fetch blocks of an extent from S3.
    fn note_small_fill(self: &Arc<Self>, version: &Version, extent: u32) {
        if !version.is_cacheable() || !self.read_ahead.notice(&version.object, extent) {
            return;
        }
        let (fetcher, version) = (Arc::clone(self), version.clone());
        tokio::spawn(async move {
            if let Err(error) = fetcher.warm_extent(&version, extent).await {
                tracing::debug!(object = %version.object, extent, %error, "failed to read ahead");
            }
        });
    }

    /// How the blocks of an extent come here.
    fn fill_source(&self, version: &Version, extent: u32, by: Requester) -> FillSource {
        let is_mine = || self.sources.owners.is_me(&version.object, extent);
        if by == Requester::Peer || !version.is_cacheable() || is_mine() {
            FillSource::Origin
        } else {
            FillSource::Peers
        }
    }

    /// Fetches neighbouring blocks that were claimed together, in a task of its own.
    fn spawn(&self, version: &Version, fills: Vec<Arc<Fill>>, from: FillSource) {
        let ticket = self.to.store.begin(&version.object);
        tokio::spawn(self.task(version, fills, from, ticket).run());
    }

    fn task(
        &self,
        version: &Version,
        fills: Vec<Arc<Fill>>,
        from: FillSource,
        ticket: Ticket,
    ) -> FetchTask {
        let writer = FillWriter::new(self.to.clone(), version.clone(), fills, from, ticket);
        FetchTask::new(Arc::clone(&self.sources), writer)
    }
}
