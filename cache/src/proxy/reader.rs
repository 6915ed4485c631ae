//! Reading a version block after block: from the store, from fills on their way, or past the cache.
//!
//! A reader asks for the parts ahead of it, as far as the memory in flight goes, and holds only what it has not given
//! yet. So an object larger than all memory streams through, and a slow reader holds up nobody.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::throughput::ClientThroughput;
use super::{Error, Proxy, Requester};
use crate::fill::{self, FillSource, Follower, Version};
use crate::object::{Source, extent_of};
use crate::origin;
use crate::store::{Block, BlockLease, Charge, ClientSpeed, Kind};

/// What a reader past the cache holds of its stream: the client's read buffer and what is being sent.
pub(super) const BYPASS_BYTES: u64 = 512 * 1024;
/// The part of all memory that may be on its way, or stored and not reached yet, before readers stop fetching ahead of
/// themselves: a quarter.
const AHEAD_SHARE: u64 = 4;

impl Proxy {
    /// Blocks that a reader may ask for ahead of itself. The next one always; more while little is in flight, so
    /// that readers of one object share its parts, and readers of many share the memory.
    pub(super) fn share(&self) -> u32 {
        let settings = &self.0.settings;
        let budget = self.0.store.budget();
        let ahead = self.0.fills.ahead() * settings.blocks.size;
        let room = (budget.limit() / AHEAD_SHARE).saturating_sub(ahead.max(self.in_flight()));
        let most = settings.part_bytes * settings.parts_in_flight;
        u32::try_from(room.min(most) / settings.blocks.size)
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

/// Reads a range of a version from its first byte to its last.
pub(super) struct Reader {
    pub(super) proxy: Proxy,
    pub(super) version: Version,
    /// What is still to be given.
    range: Range<u64>,
    pub(super) by: Requester,
    /// Blocks on their way, by index.
    ahead: BTreeMap<u32, Follower>,
    /// The first block that was not asked for yet.
    planned: u32,
    now: Now,
    /// Where the first bytes came from.
    pub(super) source: Source,
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
    /// A copy from either: a reader that may hold no block asks anew for each.
    Copied(Bytes),
    /// Past the cache.
    Bypass(Box<Bypass>),
}

/// A stream of S3's, and the charge for what the client's connection buffers of it.
struct Bypass {
    body: origin::OriginBody,
    _charge: Charge,
}

impl Reader {
    pub(super) fn new(
        proxy: Proxy,
        version: Version,
        range: Range<u64>,
        by: Requester,
        fills: Vec<Follower>,
    ) -> Self {
        let blocks = proxy.0.settings.blocks;
        let wanted = blocks.covering(&range);
        let small = range.end - range.start < proxy.0.settings.part_bytes.min(version.size);
        let fills = fills.into_iter().map(|fill| (fill.index(), fill));
        let ahead = fills.filter(|(index, _)| wanted.contains(index)).collect();
        Self {
            proxy,
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

    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Error>> {
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
                    Some(Err(fill::Error::NoMemory)) => match self.bypass().await {
                        Ok(()) => continue,
                        Err(error) => return Some(Err(error)),
                    },
                    Some(Err(error)) => return Some(Err(error.into())),
                    None => None,
                },
                Now::Bypass(bypass) => match bypass.body.next().await {
                    Some(Ok(bytes)) => {
                        let metrics = &self.proxy.0.metrics;
                        metrics.bypassed("memory", bytes.len() as u64);
                        Some(bytes)
                    }
                    Some(Err(error)) => return Some(Err(Error::Origin(error))),
                    None => return Some(Err(Error::NoMemory)),
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
        let blocks = self.proxy.0.settings.blocks;
        let index = blocks.index(self.range.start);
        let bytes = blocks.bytes(index, self.version.size);
        let within = self.range.start - bytes.start;
        // Before the block is looked for: who waits here for its client holds nothing.
        self.client.waits();
        let copy = self.copies.clone().acquire_owned().await.ok();
        self.client.is_there();
        let speed = self.client.judge();
        self.plan_ahead(index, speed);
        let budget = self.proxy.0.store.budget();
        let lease = budget.try_lease(bytes.end - bytes.start, speed);
        if let Some(mut follower) = self.ahead.remove(&index) {
            follower.skip(within);
            match follower.source().await {
                Ok(source) => self.came_from(source),
                Err(fill::Error::NoMemory) => return self.bypass().await,
                Err(error) => return Err(error.into()),
            }
            let Some(lease) = lease else {
                return self.copy_of(follower, copy).await;
            };
            self.now = Now::Following(follower, lease);
        } else if let Some(block) = self.stored(index) {
            let end = block.len();
            self.now = if let Some(lease) = lease {
                Now::Held(block.slice(within..end).collect(), lease)
            } else {
                let pieces = block.slice(within..end);
                Now::Copied(self.copy(pieces, end - within, copy).await?)
            };
        } else {
            // It was there when the plan was made and is gone: ask for it again.
            self.planned = self.planned.min(index);
        }
        Ok(())
    }

    /// A block of the store. To read it in several copies is one use of it.
    fn stored(&mut self, index: u32) -> Option<Block> {
        let id = self.version.block(index);
        let used = self.used.replace(index);
        if used == Some(index) {
            self.proxy.0.store.block_again(&id)
        } else {
            self.proxy.0.store.block(&id)
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
            Some(Err(fill::Error::NoMemory)) => self.bypass().await,
            Some(Err(error)) => Err(error.into()),
            // It is in the store by now.
            None => Ok(()),
        }
    }

    /// How long it waits for the memory without which its answer is refused or cut: as long as for S3's first byte.
    fn patience(&self) -> Duration {
        self.proxy.0.settings.timeout
    }

    /// As much of the pieces, which are `bytes` long, as is given at a time.
    async fn copy(
        &self,
        pieces: impl Iterator<Item = Bytes>,
        bytes: u64,
        copy: Option<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Error> {
        let store = &self.proxy.0.store;
        let length = bytes.min(store.budget().copy_bytes());
        let charge = store
            .reserve(Kind::Answers, length, self.patience())
            .await
            .ok_or(Error::NoMemory)?;
        Ok(charge.copy(pieces, copy))
    }

    /// Asks for the parts between the next byte and as far ahead as this reader may.
    fn plan_ahead(&mut self, index: u32, speed: ClientSpeed) {
        let blocks = self.proxy.0.settings.blocks;
        let end = blocks.covering(&self.range).end;
        // A slow one is ahead of S3 by itself, and what is fetched for it would be evicted before it gets there.
        let share = if speed == ClientSpeed::Slow {
            1
        } else {
            self.proxy.share()
        };
        let reach = index.saturating_add(share);
        // Only whole parts, but for the range's end, or where the memory in flight has no room for one.
        let whole = self.proxy.part_start(reach);
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
            // What came with the first answer is here already: it may be over by now, and kept nowhere.
            let held = self.ahead.range(self.planned..).next();
            let held = held.map_or(horizon, |(index, _)| *index);
            if held == self.planned {
                self.planned += 1;
                continue;
            }
            let part_end = self.proxy.part_end(self.planned).min(horizon).min(held);
            let fill_source =
                self.proxy
                    .fill_source(&self.version, extent_of(self.planned), self.by);
            let claim = self.proxy.0.fills.claim(
                &self.proxy.0.store,
                &self.version,
                self.planned..part_end,
                fill_source,
            );
            for fill in claim.follow {
                self.ahead
                    .entry(fill.id().index)
                    .or_insert_with(|| fill.follow());
            }
            for fills in claim.start {
                if self.small && fill_source == FillSource::Origin {
                    self.proxy.note_small_fill(
                        &self.version,
                        fills.first().map_or(0, |fill| fill.id().index),
                    );
                }
                self.proxy
                    .start_part(self.version.clone(), fills, fill_source);
            }
            self.planned = part_end;
        }
    }

    /// Goes on past the cache: no memory is left for whole blocks.
    async fn bypass(&mut self) -> Result<(), Error> {
        let inner = &self.proxy.0;
        let charge = inner
            .store
            .reserve(Kind::Replicas, BYPASS_BYTES, self.patience())
            .await
            .ok_or(Error::NoMemory)?;
        let reply = inner
            .origin
            .read(
                &self.version.object,
                self.range.clone(),
                Some(&self.version.etag),
            )
            .await;
        let reply = reply.map_err(|error| match error {
            origin::Error::VersionChanged => Error::VersionChanged,
            error => Error::Origin(Arc::new(error)),
        })?;
        if reply.head.size != self.version.size {
            return Err(Error::VersionChanged);
        }
        self.ahead.clear();
        self.came_from(Source::Bypass);
        self.now = Now::Bypass(Box::new(Bypass {
            body: reply.body,
            _charge: charge,
        }));
        Ok(())
    }

    /// The first bytes say where the answer comes from.
    fn came_from(&mut self, source: Source) {
        if self.source == Source::Memory {
            self.source = source;
        }
    }
}
