//! Reading a version block after block: from the store, from fills on their way, or past the cache.
//!
//! A reader asks for the parts ahead of it, as far as the memory in flight goes, and holds only what it has not given
//! yet. So an object larger than all memory streams through, and a slow reader does not hold up the others.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::ReadBody;
use super::bypass::Bypass;
use super::client_throughput::ClientThroughput;
use super::error::Error;
use super::fetch::Fetcher;
use super::lookup::Lookups;
use super::read::Requester;
use crate::fill::{self, Abandoned, Access, Fill, Follower, Location, Version};
use crate::object::{BypassReason, Source};
use crate::store::{Block, BlockLease, ClientSpeed, Kind};

/// Reads a range of a version from its first byte to its last.
pub(super) struct Reader {
    fetcher: Arc<Fetcher>,
    lookups: Arc<Lookups>,
    /// How long it waits for the memory without which its answer is refused or cut: as long as for S3's first byte.
    patience: Duration,
    version: Version,
    /// What is still to be given.
    range: Range<u64>,
    by: Requester,
    /// Blocks on their way, by index.
    ahead: BTreeMap<u32, Follower>,
    /// The first block that was not asked for yet.
    planned: u32,
    now: Now,
    /// Where the first bytes came from.
    source: Source,
    /// It asked for less than a part.
    small: bool,
    /// One copy is with the client at a time.
    copies: Arc<Semaphore>,
    client: ClientThroughput,
    /// The block of the store that it used last.
    used: Option<u32>,
}

/// Where the next byte comes from.
enum Now {
    /// Not known yet.
    Undecided,
    /// A stored block.
    Held(VecDeque<Bytes>, Arc<BlockLease>),
    /// A block on its way.
    Following(Follower, Arc<BlockLease>),
    /// A copy from either: a reader that may hold no block asks again for each.
    Copied(Bytes),
    /// Past the cache.
    Bypass(Box<Bypass>),
}

impl Reader {
    /// Reads `range` of a version, for a reader that follows `fills` already.
    pub(super) fn new(
        fetcher: Arc<Fetcher>,
        lookups: Arc<Lookups>,
        version: Version,
        range: Range<u64>,
        by: Requester,
        fills: Vec<Follower>,
    ) -> Self {
        let settings = fetcher.settings();
        let wanted = settings.blocks.covering(&range);
        let small = range.end - range.start < settings.part_bytes.min(version.size);
        let patience = settings.timeout;
        let fills = fills.into_iter().map(|fill| (fill.index(), fill));
        let ahead = fills.filter(|(index, _)| wanted.contains(index)).collect();
        Self {
            fetcher,
            lookups,
            patience,
            version,
            range,
            by,
            ahead,
            planned: wanted.start,
            now: Now::Undecided,
            source: Source::Memory,
            small,
            copies: Arc::new(Semaphore::new(1)),
            client: ClientThroughput::new(),
            used: None,
        }
    }

    /// Waits for the first bytes. Returns the body and where they came from.
    pub(super) async fn start(mut self) -> Result<(ReadBody, Source), Error> {
        let Some(first) = self.next().await else {
            return Ok((ReadBody::empty(), Source::Memory));
        };
        let first = first?;
        let source = self.source;
        let rest = stream::unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            let item = reader.next().await?;
            if let Err(Error::VersionChanged) = &item {
                // Made known before the body is cut: a client that asks again gets the new one.
                let (version, by) = (&reader.version, reader.by);
                reader.lookups.replace_version(version, by).await;
            }
            let next = item.is_ok().then_some(reader);
            Some((item, next))
        });
        let body = ReadBody::from_stream(stream::iter([Ok(first)]).chain(rest));
        Ok((body, source))
    }

    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        self.client.is_there();
        while !self.range.is_empty() {
            let bytes = match &mut self.now {
                Now::Undecided => match self.decide().await {
                    Ok(()) => continue,
                    Err(error) => return Some(Err(error)),
                },
                Now::Held(pieces, lease) => pieces.pop_front().map(|piece| lease.wrap(piece)),
                Now::Copied(bytes) if bytes.is_empty() => None,
                Now::Copied(bytes) => Some(std::mem::take(bytes)),
                Now::Following(follower, lease) => match follower.next().await {
                    Some(Ok(bytes)) => Some(lease.wrap(bytes)),
                    Some(Err(error)) => match self.read_past(error).await {
                        Ok(()) => continue,
                        Err(error) => return Some(Err(error)),
                    },
                    None => None,
                },
                Now::Bypass(bypass) => match bypass.next().await {
                    Some(Ok(bytes)) => Some(bytes),
                    Some(Err(error)) => return Some(Err(error)),
                    None => return Some(Err(Error::Abandoned(Abandoned::WrongBytes))),
                },
            };
            let Some(mut bytes) = bytes else {
                self.now = Now::Undecided;
                continue;
            };
            let left = self.range.end - self.range.start;
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
            self.range.start += bytes.len() as u64;
            self.client.given(bytes.len());
            return Some(Ok(bytes));
        }
        None
    }

    /// Finds the block of the next byte, and asks for those ahead of it.
    async fn decide(&mut self) -> Result<(), Error> {
        let blocks = self.fetcher.blocks();
        let index = blocks.index(self.range.start);
        let bytes = blocks.bytes(index, self.version.size);
        let within = self.range.start - bytes.start;
        // Before the block is looked for: a reader that waits here for its client holds nothing.
        self.client.waits();
        let copy = self.copies.clone().acquire_owned().await.ok();
        self.client.is_there();
        let speed = self.client.judge();
        self.plan_ahead(index, speed);
        let budget = self.fetcher.store().budget();
        let lease = budget.try_lease(bytes.end - bytes.start, speed);
        if let Some(follower) = self.ahead.remove(&index) {
            return self.follow(follower, within, lease, copy).await;
        }
        // To read a block of the store in several copies is one use of it.
        let access = match self.used.replace(index) {
            Some(used) if used == index => Access::Peek,
            _ => Access::Use,
        };
        match self.fetcher.locate(&self.version, index, self.by, access) {
            Location::Held(block) => self.read_held(&block, within, lease, copy).await,
            Location::Filling(fill) => self.follow(fill.follow(), within, lease, copy).await,
            Location::Elsewhere => {
                // It was there when the plan was made and is gone: ask for it again.
                self.planned = self.planned.min(index);
                Ok(())
            }
        }
    }

    async fn read_held(
        &mut self,
        block: &Block,
        within: u64,
        lease: Option<Arc<BlockLease>>,
        copy: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Error> {
        let pieces = block.slice(within..block.len());
        self.now = match lease {
            Some(lease) => Now::Held(pieces.collect(), lease),
            None => Now::Copied(self.copy(pieces, block.len() - within, copy).await?),
        };
        Ok(())
    }

    async fn follow(
        &mut self,
        mut follower: Follower,
        within: u64,
        lease: Option<Arc<BlockLease>>,
        copy: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Error> {
        follower.skip(within);
        match follower.source().await {
            Ok(source) => self.came_from(source),
            Err(error) => return self.read_past(error).await,
        }
        match lease {
            Some(lease) => {
                self.now = Now::Following(follower, lease);
                Ok(())
            }
            None => self.copy_of(follower, copy).await,
        }
    }

    /// The next bytes of a block on its way, without holding on to it.
    async fn copy_of(
        &mut self,
        mut follower: Follower,
        copy: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Error> {
        let again = follower.clone();
        match follower.next().await {
            Some(Ok(piece)) => {
                let bytes = piece.len() as u64;
                let pieces = std::iter::once(piece);
                self.now = Now::Copied(self.copy(pieces, bytes, copy).await?);
                self.ahead.insert(again.index(), again);
                Ok(())
            }
            Some(Err(error)) => self.read_past(error).await,
            // It is in the store by now.
            None => Ok(()),
        }
    }

    /// As much of the pieces, which are `bytes` long, as is given at a time.
    async fn copy(
        &self,
        pieces: impl Iterator<Item = Bytes>,
        bytes: u64,
        copy: Option<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Error> {
        let store = self.fetcher.store();
        let length = bytes.min(store.budget().copy_bytes());
        let charge = store
            .reserve(Kind::Answers, length, self.patience)
            .await
            .ok_or(Error::NoMemory)?;
        Ok(charge.copy(pieces, copy))
    }

    /// Asks for the parts between the next byte and as far ahead as this reader may.
    fn plan_ahead(&mut self, index: u32, speed: ClientSpeed) {
        let blocks = self.fetcher.blocks();
        let layout = self.fetcher.layout();
        let end = blocks.covering(&self.range).end;
        // A slow one is ahead of S3 by itself, and what is fetched for it would be evicted before it gets there.
        let share = if speed == ClientSpeed::Slow {
            1
        } else {
            self.fetcher.blocks_ahead()
        };
        let reach = index.saturating_add(share);
        // Only whole parts, but for the range's end, or where the memory in flight has no room for one.
        let whole = layout.start(reach);
        let horizon = if reach < end && whole > self.planned.max(index) {
            whole
        } else {
            reach.min(end)
        };
        // Half of the share is given before more is asked for, so that parts stay large.
        if self.planned > index && self.planned + share / 2 > horizon && self.planned < end {
            return;
        }
        while self.planned < horizon {
            // What came with the first answer is here already: it may be over by now, and stored nowhere.
            let held = self.ahead.range(self.planned..).next();
            let held = held.map_or(horizon, |(index, _)| *index);
            if held == self.planned {
                self.planned += 1;
                continue;
            }
            let part_end = layout.end(self.planned).min(horizon).min(held);
            let part = self.planned..part_end;
            for fill in self.fetcher.fetch(&self.version, part, self.by, self.small) {
                self.ahead
                    .entry(fill.id().index)
                    .or_insert_with(|| Fill::follow(&fill));
            }
            self.planned = part_end;
        }
    }

    /// Goes on past the cache, where the end of a fill says nothing of the object.
    async fn read_past(&mut self, ended: fill::Error) -> Result<(), Error> {
        let reason = match ended {
            fill::Error::NoMemory => BypassReason::NoMemory,
            fill::Error::Abandoned(_) => BypassReason::FetchFailed,
            error => return Err(error.into()),
        };
        let object = &self.version.object;
        tracing::debug!(%object, reason = reason.as_str(), %ended, "reading past the cache");
        let rest = self.range.clone();
        let bypass = self.fetcher.bypass(&self.version, rest, reason).await?;
        self.ahead.clear();
        self.came_from(Source::Bypass(reason));
        self.now = Now::Bypass(Box::new(bypass));
        Ok(())
    }

    /// The first bytes say where the answer comes from.
    fn came_from(&mut self, source: Source) {
        if self.source == Source::Memory {
            self.source = source;
        }
    }
}
