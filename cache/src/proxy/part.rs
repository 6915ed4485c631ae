//! Which missing blocks are fetched together, and which way they come.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::feeder::Feeder;
use super::open::Opened;
use super::permits::Permit;
use super::stream::Stream;
use super::{Hop, Proxy};
use crate::fill::{Fill, Version, Way};
use crate::object::{ObjectId, RUN_BLOCKS, Source};
use crate::store::{Kind, Known, Ticket};

/// Bytes that were asked for and don't come yet.
pub(super) struct Expected(Proxy, u64);

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.0.expected.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Proxy {
    /// The block after the last of the part that `index` lies in. A part never reaches into the next run.
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
            .unwrap_or(RUN_BLOCKS)
            .clamp(1, RUN_BLOCKS)
    }

    /// Fetches neighbouring blocks that were claimed together, in a task of its own.
    pub(super) fn start_part(&self, version: Version, fills: Vec<Arc<Fill>>, way: Way) {
        let ticket = self.0.store.begin(&version.object);
        let feeder = Feeder::new(self.clone(), version, fills, ticket, way);
        tokio::spawn(feeder.run());
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
        let held = budget.used_by(Kind::Fills) + budget.used_by(Kind::Relays);
        self.0.expected.load(Ordering::Relaxed) + held
    }

    pub(super) fn length(&self, version: &Version, fill: &Fill) -> u64 {
        let bytes = self.0.settings.blocks.bytes(fill.id().index, version.size);
        bytes.end - bytes.start
    }

    /// How the blocks of a run come here.
    pub(super) fn way(&self, version: &Version, run: u32, hop: Hop) -> Way {
        if hop == Hop::Last || !version.kept || self.0.ring.borrow().owns(&version.object, run) {
            Way::Origin
        } else {
            Way::Peers
        }
    }

    /// Pours the first answer of an object that was unknown into its blocks, in a task of its own.
    pub(super) fn pour_first(
        &self,
        object: &ObjectId,
        mut opened: Opened,
        bytes: Range<u64>,
        mut stream: Stream,
        ticket: Ticket,
        permit: Option<Permit>,
    ) -> Opened {
        let Known::Present(head) = &opened.record.known else {
            return opened;
        };
        let version = self.version(object, head);
        let source = match opened.source.unwrap_or(Source::Origin) {
            Source::Origin if !version.kept => Source::Bypass,
            source => source,
        };
        let way = match stream {
            Stream::Origin(_) => Way::Origin,
            Stream::Peer(..) => Way::Peers,
        };
        let claim = self.0.fills.claim(
            &self.0.store,
            &version,
            self.0.settings.blocks.of(&bytes),
            way,
        );
        opened.fills = claim.follow.iter().map(Fill::follow).collect();
        let fills: Vec<_> = claim.start.into_iter().flatten().collect();
        if !fills.is_empty() {
            let mut feeder = Feeder::new(self.clone(), version, fills, ticket, way);
            feeder.begin(bytes.start, source);
            tokio::spawn(async move {
                let poured = feeder.pour(&mut stream, permit).await;
                drop(stream);
                feeder.after(poured).await;
            });
        }
        opened
    }

    /// The reason of what is read and not kept, as metrics call it.
    pub(super) fn why_not_kept(&self, version: &Version) -> &'static str {
        if version.size > self.0.settings.max_blob_bytes {
            "size"
        } else {
            "no-store"
        }
    }

    pub(super) async fn origin_permit(&self) -> Option<Permit> {
        self.0.permits.take().await
    }
}
