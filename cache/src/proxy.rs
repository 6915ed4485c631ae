//! The decision: this node's memory, else the owner's, else S3. It knows no HTTP, no SDK and no Kubernetes.
//!
//! `lookup` finds out which version is current (`single_flight`: for all who ask at once), `reader` reads the bytes of that version block by block, `part` fetches
//! the blocks that are missing (`fetch_task`), `warm` fetches without a reader.

mod ask_peers;
mod body;
mod error;
mod fetch_task;
mod freshness;
mod lookup;
mod part;
mod permits;
mod read_ahead;
mod reader;
mod single_flight;
mod stream;
mod through;
mod throughput;
mod upload_parts;
mod warm;
mod write_through;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::fill::{Fills, Version};
use crate::members::Members;
use crate::metrics::Metrics;
use crate::object::{Blocks, ByteRange, ETag, Head, ObjectId, Scope, Source};
use crate::origin::Origin;
use crate::peer::Peers;
use crate::ring::Ring;
use crate::store::{Dropped, Entry, EntryState, Store};

use read_ahead::ReadAhead;

pub use body::ReadBody;
pub use error::Error;
use lookup::Lookup;
use permits::Permits;
use single_flight::Lookups;
pub use upload_parts::PartLookup;
pub use write_through::WriteThrough;

/// How often a read begins anew because the object was overwritten under it.
const ATTEMPTS: usize = 4;
/// The asked node has `timeout` for S3; the asking one waits a little longer to hear of it.
const RELAY_GRACE: Duration = Duration::from_secs(2);

/// What the proxy is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// How objects are cut.
    pub blocks: Blocks,
    /// The largest single read from S3 or a peer, in bytes; a multiple of the block size.
    pub part_bytes: u64,
    /// Reads in flight for one large object.
    pub parts_in_flight: u64,
    /// Larger objects are served and not stored, in bytes.
    pub max_blob_size: u64,
    /// For how long a version is taken as current; `None` is for ever.
    pub ttl: Option<Duration>,
    /// For how much longer it may be served while S3 fails.
    pub stale_if_error: Duration,
    /// For how long S3's "no such object" is believed.
    pub negative_ttl: Duration,
    /// To the first byte.
    pub timeout: Duration,
    /// Reads from S3 at one moment, of all objects together.
    pub origin_reads: usize,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Requester {
    /// A client: the owner may be asked.
    Client,
    /// A peer: answered from memory or S3, never sent on.
    Peer,
}

/// How current the answer must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// What is held will do while it is fresh.
    Stored,
    /// S3 must be asked.
    Revalidate,
    /// Somebody saw that this version is gone.
    Not(ETag),
}

/// A read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The object.
    pub object: ObjectId,
    /// The bytes; `None` is all.
    pub range: Option<ByteRange>,
    /// How current.
    pub freshness: Freshness,
    /// Who asks.
    pub by: Requester,
    /// `false`: the head alone.
    pub body: bool,
}

/// The answer to a read.
#[derive(Debug)]
pub struct ReadResult {
    /// The version that is answered with.
    pub head: Arc<Head>,
    /// Since S3 said that it is the current one.
    pub age: Duration,
    /// For how much longer it is taken as current; `None` is for ever.
    pub fresh: Option<Duration>,
    /// Where it came from.
    pub source: Source,
    /// The bytes that `body` gives.
    pub range: Range<u64>,
    /// The bytes.
    pub body: ReadBody,
}

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
    fills: Fills,
    lookups: Lookups,
    read_ahead: ReadAhead,
    origin: Origin,
    peers: Peers,
    members: Arc<Members>,
    ring: watch::Receiver<Arc<Ring>>,
    metrics: Arc<Metrics>,
    /// Bytes that parts have still to bring.
    expected: AtomicU64,
    /// Bytes of uploads that run, held to be kept.
    write_through_bytes: Arc<AtomicU64>,
    /// Reads from S3 that may run at once.
    permits: Permits,
    /// Those of them that nobody waits for.
    background: Arc<Semaphore>,
    /// Until when S3 is taken to be away, for versions that may be served stale meanwhile.
    outage: std::sync::Mutex<Option<Instant>>,
}

impl Proxy {
    /// Puts the places together.
    pub fn new(
        settings: ProxySettings,
        store: Arc<Store>,
        origin: Origin,
        peers: Peers,
        members: Arc<Members>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let proxy = Self(Arc::new(Inner {
            permits: Permits::new(
                settings.origin_reads,
                store.budget().limit(),
                settings.blocks.size,
            ),
            background: Arc::new(Semaphore::new(settings.origin_reads.div_ceil(16))),
            settings,
            store,
            fills: Fills::default(),
            lookups: Lookups::default(),
            read_ahead: ReadAhead::default(),
            origin,
            peers,
            ring: members.ring(),
            members,
            metrics,
            expected: AtomicU64::new(0),
            write_through_bytes: Arc::default(),
            outage: std::sync::Mutex::new(None),
        }));
        proxy.forget_on_lapse();
        proxy
    }

    /// Reads an object, or a part of it. The answer comes with its first bytes; a version that is overwritten before
    /// then is read anew, one that is overwritten later ends the body with an error.
    pub async fn read(&self, opts: ReadOptions) -> Result<ReadResult, Error> {
        if let Some(answer) = self.hit(&opts, Instant::now()) {
            return answer;
        }
        let after = self.0.settings.timeout + RELAY_GRACE;
        // Boxed: a hit should not make room for all that a miss may have to remember.
        tokio::time::timeout(after, Box::pin(self.read_through(opts)))
            .await
            .unwrap_or(Err(Error::Timeout { after }))
    }

    /// Forgets what an invalidation names, at this node: what is held, and what is on its way.
    pub fn forget(&self, scope: &Scope) -> Dropped {
        // The store first: its fence refuses what began before. Then nobody joins those reads any more.
        let dropped = self.0.store.invalidate(scope);
        self.0.lookups.detach(scope);
        self.0.fills.detach(scope);
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
        &self.0.fills
    }

    /// Reads from S3 that run: those that go on, and those that crawl.
    pub fn origin_reads(&self) -> (u64, u64) {
        self.0.permits.running()
    }

    /// Answers from this node's memory alone, without waiting; `None` when something is missing, or too old by `now`.
    pub fn hit(&self, opts: &ReadOptions, now: Instant) -> Option<Result<ReadResult, Error>> {
        let entry = self.0.store.head(&opts.object)?;
        if !self.is_usable(&entry, &opts.freshness, opts.by, now) {
            return None;
        }
        let head = match &entry.state {
            EntryState::Present(head) => head.clone(),
            EntryState::Negative(absent) => {
                return Some(Err(absent.as_ref().into()));
            }
        };
        let range = match resolve(opts, &head) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        let body = if opts.body {
            // What may not be stored has no entry.
            let version = Version {
                object: opts.object.clone(),
                etag: head.etag.clone(),
                size: head.size,
                cacheable: true,
            };
            body::from_memory(&self.0, &version, &range)?
        } else {
            ReadBody::empty()
        };
        let found = answer(now, &entry, head, Source::Memory, range, body);
        Some(Ok(found))
    }

    async fn read_through(&self, mut opts: ReadOptions) -> Result<ReadResult, Error> {
        for _ in 0..ATTEMPTS {
            let lookup = self.lookup(&opts).await?;
            let EntryState::Present(head) = lookup.entry.state.clone() else {
                continue;
            };
            let range = resolve(&opts, &head)?;
            // A peer is given the head alone of what can't be read in parts: no two nodes can share an answer.
            if !opts.body || range.is_empty() || (head.whole_only && opts.by == Requester::Peer) {
                let source = lookup.source.unwrap_or(Source::Memory);
                return Ok(answer(
                    Instant::now(),
                    &lookup.entry,
                    head,
                    source,
                    range,
                    ReadBody::empty(),
                ));
            }
            if head.whole_only {
                match self.through(&opts, &lookup).await {
                    Err(Error::VersionChanged) => continue,
                    read => return read,
                }
            }
            let version = self.version(&opts.object, &head);
            let Lookup {
                entry,
                source,
                fills,
                ..
            } = lookup;
            match ReadBody::start(self.clone(), version, range.clone(), opts.by, fills).await {
                Ok((body, from)) => {
                    let source = farthest(source, from);
                    return Ok(answer(Instant::now(), &entry, head, source, range, body));
                }
                Err(Error::VersionChanged) => {
                    self.0.store.remove_head(&opts.object, &head.etag);
                    opts.freshness = Freshness::Not(head.etag.clone());
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::VersionChanged)
    }

    /// Reads bytes of a version that a peer named.
    pub async fn read_version(
        &self,
        object: &ObjectId,
        etag: ETag,
        size: u64,
        bytes: Range<u64>,
    ) -> Result<(ReadBody, Source), Error> {
        let version = Version {
            object: object.clone(),
            etag,
            size,
            cacheable: size <= self.0.settings.max_blob_size,
        };
        let bytes = bytes.start.min(size)..bytes.end.min(size);
        if let Some(body) = body::from_memory(&self.0, &version, &bytes) {
            return Ok((body, Source::Memory));
        }
        let (own, by) = (self.clone(), Requester::Peer);
        let body = ReadBody::start(own, version.clone(), bytes, by, Vec::new()).await;
        if let Err(Error::VersionChanged) = &body {
            self.drop_version(&version, Requester::Peer).await;
        }
        body
    }

    fn version(&self, object: &ObjectId, head: &Head) -> Version {
        let cacheable = head.size <= self.0.settings.max_blob_size && head.is_storable();
        Version {
            object: object.clone(),
            etag: head.etag.clone(),
            size: head.size,
            cacheable,
        }
    }
}

fn resolve(opts: &ReadOptions, head: &Arc<Head>) -> Result<Range<u64>, Error> {
    match opts.range {
        None => Ok(0..head.size),
        Some(_) if !head.is_sized() => Ok(0..head.size),
        Some(range) => range
            .resolve(head.size)
            .ok_or_else(|| Error::Unsatisfiable { head: head.clone() }),
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
fn farthest(head: Option<Source>, bytes: Source) -> Source {
    match (head, bytes) {
        (Some(head @ Source::Stale), _)
        | (Some(head), Source::Memory)
        | (Some(head @ Source::Origin), Source::Peer) => head,
        (_, bytes) => bytes,
    }
}
