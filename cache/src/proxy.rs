//! The decision: this node's memory, else the owner's, else S3. It knows no HTTP, no SDK and no Kubernetes.
//!
//! `lookup` finds out which version is current, `reader` reads the bytes of that version block by block, `fetch` brings
//! the blocks that are missing, `warm` does so without a reader, and `write_through` after a write. Each owns what it
//! decides by; `owners` is how they reach other nodes.

mod body;
mod bypass;
mod client_throughput;
mod error;
mod fetch;
mod lookup;
mod owners;
mod pass_through;
mod read;
mod reader;
mod settings;
mod upload_parts;
mod warm;
mod write_through;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::fill::{Access, Fills, Location, Version};
use crate::members::Members;
use crate::metrics::Metrics;
use crate::object::{Blocks, ETag, Head, ObjectId, Part, Scope, Source};
use crate::origin::Origin;
use crate::peer::Peers;
use crate::store::{ClientSpeed, Dropped, Entry, EntryState, Store};

pub use body::ReadBody;
pub use error::Error;
pub use read::{Freshness, ReadOptions, ReadResult, Requester};
pub use settings::ProxySettings;
pub use upload_parts::PartLookup;
pub use write_through::WriteThrough;

use fetch::Fetcher;
use lookup::{Lookup, Lookups};
use owners::Owners;
use pass_through::PassThrough;
use reader::Reader;
use warm::Warmer;
use write_through::WriteThroughs;

/// How often a read begins again because the object was overwritten meanwhile.
const ATTEMPTS: usize = 4;
/// The asked node has `timeout` for S3; the asking one waits a little longer to hear of it.
const RELAY_GRACE: Duration = Duration::from_secs(2);

/// The decision, shared by all APIs of a node.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy")
    }
}

struct Inner {
    settings: ProxySettings,
    store: Arc<Store>,
    lookups: Arc<Lookups>,
    fetcher: Arc<Fetcher>,
    pass_through: PassThrough,
    warmer: Warmer,
    write_throughs: Arc<WriteThroughs>,
}

impl Proxy {
    /// Puts the parts together.
    pub fn new(
        settings: ProxySettings,
        store: Arc<Store>,
        origin: Origin,
        peers: Peers,
        members: Arc<Members>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let owners = Owners::new(peers, Arc::clone(&members), Arc::clone(&metrics));
        let owners = Arc::new(owners);
        let fetcher = Arc::new(Fetcher::new(
            settings,
            Arc::clone(&store),
            origin.clone(),
            Arc::clone(&owners),
            Arc::clone(&metrics),
        ));
        let lookups = Arc::new(Lookups::new(
            settings,
            Arc::clone(&store),
            members,
            origin.clone(),
            Arc::clone(&owners),
            Arc::clone(&fetcher),
        ));
        Self(Arc::new(Inner {
            settings,
            pass_through: PassThrough {
                store: Arc::clone(&store),
                origin,
                metrics,
                patience: settings.timeout,
            },
            warmer: Warmer {
                lookups: Arc::clone(&lookups),
                fetcher: Arc::clone(&fetcher),
                owners: Arc::clone(&owners),
            },
            write_throughs: Arc::new(WriteThroughs::new(
                settings,
                Arc::clone(&store),
                owners,
                Arc::clone(&lookups),
            )),
            store,
            lookups,
            fetcher,
        }))
    }

    /// Reads an object, or a part of it. The answer comes with its first bytes; a version that is overwritten before
    /// then is read again, one that is overwritten later ends the body with an error.
    pub async fn read(&self, opts: ReadOptions) -> Result<ReadResult, Error> {
        if let Some(answer) = self.hit(&opts, Instant::now()) {
            return answer;
        }
        let after = self.0.settings.timeout + RELAY_GRACE;
        // Boxed: a hit should not make room for all that a miss may have to remember.
        tokio::time::timeout(after, Box::pin(self.read_missing(opts)))
            .await
            .unwrap_or(Err(Error::Timeout { after }))
    }

    /// Answers from this node's memory alone, without waiting; `None` when something is missing, or too old by `now`.
    pub fn hit(&self, opts: &ReadOptions, now: Instant) -> Option<Result<ReadResult, Error>> {
        let entry = self.0.lookups.cached(opts, now)?;
        let head = match &entry.state {
            EntryState::Present(head) => head.clone(),
            EntryState::Negative(absent) => {
                return Some(Err(absent.as_ref().into()));
            }
        };
        let range = match opts.resolve(&head) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        let body = if opts.body {
            // What may not be stored has no entry.
            let version = Version {
                object: opts.object.clone(),
                etag: head.etag.clone(),
                size: head.size,
                bypass: None,
            };
            self.held(&version, &range, opts.by)?
        } else {
            ReadBody::empty()
        };
        let found = answer(now, &entry, head, Source::Memory, range, body);
        Some(Ok(found))
    }

    /// Reads bytes of a version that a peer named.
    pub async fn read_version(
        &self,
        object: &ObjectId,
        etag: ETag,
        size: u64,
        bytes: Range<u64>,
    ) -> Result<(ReadBody, Source), Error> {
        let version = self.0.fetcher.named_version(object, etag, size);
        let bytes = bytes.start.min(size)..bytes.end.min(size);
        if let Some(body) = self.held(&version, &bytes, Requester::Peer) {
            return Ok((body, Source::Memory));
        }
        let reader = Reader::new(
            Arc::clone(&self.0.fetcher),
            Arc::clone(&self.0.lookups),
            version.clone(),
            bytes,
            Requester::Peer,
            Vec::new(),
        );
        let body = reader.start().await;
        if let Err(Error::VersionChanged) = &body {
            self.0.lookups.forget_version(object, &version.etag);
        }
        body
    }

    /// Has each extent of an object fetched by its owner. Returns the bytes that are held now; none of an object that
    /// is too large to be stored, or that S3 forbids to store.
    pub async fn warm(&self, object: &ObjectId) -> Result<u64, Error> {
        self.0.warmer.warm(object).await
    }

    /// Fetches an extent that a peer says this node owns. Returns its bytes.
    pub async fn warm_extent(
        &self,
        object: &ObjectId,
        etag: ETag,
        size: u64,
        extent: u32,
    ) -> Result<u64, Error> {
        let version = self.0.fetcher.named_version(object, etag, size);
        self.0.fetcher.warm_extent(&version, extent).await
    }

    /// Begins the write-through of an upload to `object`.
    pub fn write_through(&self, object: &ObjectId) -> WriteThrough {
        self.0.write_throughs.begin(object)
    }

    /// Stores a block that a peer just wrote to S3; `false` when there is no room, or it is not a block.
    pub fn store_written_block(
        &self,
        object: &ObjectId,
        etag: ETag,
        size: u64,
        index: u32,
        bytes: &[u8],
    ) -> bool {
        let version = self.0.fetcher.named_version(object, etag, size);
        self.0.write_throughs.store_block(&version, index, bytes)
    }

    /// What is known here of a part of the current version, as it was uploaded, and which version that is.
    pub fn part(&self, object: &ObjectId, number: u32) -> Option<(ETag, Part)> {
        let opts = ReadOptions::head(object.clone(), Freshness::Stored, Requester::Client);
        let head = self.hit(&opts, Instant::now())?.ok()?.head;
        let part = head.parts.get(number)?.clone();
        Some((head.etag.clone(), part))
    }

    /// To be called before S3 is asked for a part.
    pub fn begin_part_lookup(&self, object: &ObjectId) -> PartLookup {
        PartLookup::begin(&self.0.store, object)
    }

    /// Forgets what an invalidation names, at this node: what is held, and what is on its way.
    pub fn forget(&self, scope: &Scope) -> Dropped {
        // The store first: its fence refuses what began before. Then no later reader joins those reads.
        let dropped = self.0.store.invalidate(scope);
        self.0.lookups.detach(scope);
        self.0.fetcher.fills().detach(scope);
        dropped
    }

    /// What this node holds.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// How objects are cut.
    pub fn blocks(&self) -> Blocks {
        self.0.settings.blocks
    }

    /// The fills that run at this node.
    pub fn fills(&self) -> &Fills {
        self.0.fetcher.fills()
    }

    /// Reads from S3 that run: those that make progress, and those that crawl.
    pub fn origin_reads(&self) -> (u64, u64) {
        self.0.fetcher.origin_reads()
    }

    async fn read_missing(&self, mut opts: ReadOptions) -> Result<ReadResult, Error> {
        for _ in 0..ATTEMPTS {
            let lookup = self.0.lookups.current(&opts).await?;
            let range = opts.resolve(&lookup.head)?;
            let whole_only = lookup.head.whole_only;
            // A peer is given the head alone of what can't be read in parts: no two nodes can share an answer.
            if !opts.body || range.is_empty() || (whole_only && opts.by == Requester::Peer) {
                let (now, body) = (Instant::now(), ReadBody::empty());
                let Lookup {
                    entry,
                    head,
                    source,
                    ..
                } = lookup;
                return Ok(answer(now, &entry, head, source, range, body));
            }
            if whole_only {
                match self.0.pass_through.read(&opts, &lookup).await {
                    Err(Error::VersionChanged) => continue,
                    read => return read,
                }
            }
            let Lookup {
                entry,
                head,
                source,
                fills,
                ..
            } = lookup;
            let reader = Reader::new(
                Arc::clone(&self.0.fetcher),
                Arc::clone(&self.0.lookups),
                self.0.fetcher.version(&opts.object, &head),
                range.clone(),
                opts.by,
                fills,
            );
            match reader.start().await {
                Ok((body, from)) => {
                    let source = farthest(source, from);
                    return Ok(answer(Instant::now(), &entry, head, source, range, body));
                }
                Err(Error::VersionChanged) => {
                    self.0.lookups.forget_version(&opts.object, &head.etag);
                    opts.freshness = Freshness::Not(head.etag.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::VersionChanged)
    }

    /// The bytes of `range`, if all of it is in this node's memory, it is no more than one part, and another client may
    /// hold that much.
    fn held(&self, version: &Version, range: &Range<u64>, by: Requester) -> Option<ReadBody> {
        let settings = &self.0.settings;
        let blocks = settings.blocks;
        if range.end - range.start > settings.part_bytes {
            return None;
        }
        let mut pieces = VecDeque::new();
        let wanted = blocks.covering(range);
        let whole = blocks.span(&wanted, version.size);
        let budget = self.0.store.budget();
        let lease = budget.try_lease(whole.end - whole.start, ClientSpeed::Unknown)?;
        for index in wanted {
            let location = self.0.fetcher.locate(version, index, by, Access::Use);
            let Location::Held(block) = location else {
                return None;
            };
            let bytes = blocks.bytes(index, version.size);
            let from = range.start.max(bytes.start) - bytes.start;
            let to = range.end.min(bytes.end) - bytes.start;
            pieces.extend(block.slice(from..to).map(|piece| lease.wrap(piece)));
        }
        Some(ReadBody::from_memory(pieces))
    }
}

fn answer(
    now: Instant,
    entry: &Entry,
    head: Arc<Head>,
    source: Source,
    range: Range<u64>,
    body: ReadBody,
) -> ReadResult {
    let fresh = entry
        .fresh_until
        .map(|until| until.saturating_duration_since(now));
    ReadResult {
        head,
        age: now.saturating_duration_since(entry.fetched),
        fresh,
        source,
        range,
        body,
    }
}

/// An answer is as far away as the farther of its head and its bytes.
fn farthest(head: Source, bytes: Source) -> Source {
    match (head, bytes) {
        (head @ Source::Stale, _)
        | (head, Source::Memory)
        | (head @ Source::Origin, Source::Peer) => head,
        (_, bytes) => bytes,
    }
}
