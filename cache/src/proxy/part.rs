//! Fetching missing blocks: neighbouring ones in one read, from their owner, else its stand-ins, else S3.
//!
//! Each part is poured by a task of its own into memory that was reserved before, so neither a slow reader nor one
//! that hangs up holds up the others.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::open::Opened;
use super::{Hop, Proxy};
use crate::fill::{Error, Fill, Version, Way};
use crate::object::{ObjectId, RUN_BLOCKS, Source, run_of};
use crate::origin;
use crate::peer::{self, Contact, Found, RefusalKind, Want};
use crate::ring::{Ring, State};
use crate::store::{Buffer, Kind, Known, Pool, Ticket};

/// How long a fill waits for memory before its readers are told to read past the cache.
const MEMORY_WAIT: Duration = Duration::from_secs(2);
/// Stand-ins of an owner that are tried before S3.
const PEERS_TRIED: usize = 2;
/// How often one part's read from S3 is taken up again after it broke off.
const RESUMPTIONS: usize = 2;

/// Bytes that come from somewhere.
pub(super) enum Stream {
    Origin(origin::Body),
    Peer(Contact, peer::Body),
}

impl From<origin::Body> for Stream {
    fn from(body: origin::Body) -> Self {
        Self::Origin(body)
    }
}

impl From<(Contact, peer::Body)> for Stream {
    fn from((contact, body): (Contact, peer::Body)) -> Self {
        Self::Peer(contact, body)
    }
}

/// Why a stream ended before its end.
enum Break {
    /// Another place may have the bytes.
    Elsewhere(Error),
    /// No other place would know better.
    Final(Error),
}

/// What another node calls its memory is a peer's memory from here.
pub(super) fn seen_from_here(source: Source) -> Source {
    match source {
        Source::Memory => Source::Peer,
        other => other,
    }
}

impl Proxy {
    /// The block after the last of the part that `index` lies in. A part never reaches into the next run.
    pub(super) fn part_end(&self, index: u32) -> u32 {
        let settings = &self.0.settings;
        let blocks = u32::try_from(settings.part_bytes / settings.blocks.size)
            .unwrap_or(RUN_BLOCKS)
            .clamp(1, RUN_BLOCKS);
        (index / blocks + 1) * blocks
    }

    /// Fetches neighbouring blocks that were claimed together, in a task of its own.
    pub(super) fn start_part(&self, version: Version, fills: Vec<Arc<Fill>>, way: Way) {
        let ticket = self.0.store.begin(&version.object);
        let feeder = Feeder::new(self.clone(), version, fills, ticket, way);
        tokio::spawn(feeder.run());
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
        permit: Option<OwnedSemaphorePermit>,
    ) -> Opened {
        let Known::Present(head) = &opened.record.known else {
            return opened;
        };
        let source = opened.source.unwrap_or(Source::Origin);
        let version = self.version(object, head);
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
        opened.fills = claim.follow;
        let fills: Vec<_> = claim.start.into_iter().flatten().collect();
        if !fills.is_empty() {
            let mut feeder = Feeder::new(self.clone(), version, fills, ticket, way);
            feeder.begin(bytes.start, source);
            tokio::spawn(async move {
                let poured = feeder.pour(&mut stream).await;
                drop((stream, permit));
                feeder.after(poured).await;
            });
        }
        opened
    }

    /// The members that are to be asked for a run before this node is, best first.
    pub(super) fn peers_before_me(&self, object: &ObjectId, run: u32, most: usize) -> Vec<Contact> {
        let ring = self.0.ring.borrow().clone();
        let owners = ring.owners(object, run);
        owners
            .into_iter()
            .take_while(|member| member.name != ring.me())
            .take(most)
            .map(|member| Contact {
                name: member.name.clone(),
                url: member.url.clone(),
            })
            .collect()
    }

    /// Asks a node; gives up when the heartbeat says that it is silent.
    pub(super) async fn ask(
        &self,
        peer: &Contact,
        want: &Want,
    ) -> Result<(Found, peer::Body), peer::Error> {
        self.while_alive(peer, self.0.peers.read(&peer.url, want))
            .await
    }

    pub(super) async fn while_alive<T>(
        &self,
        peer: &Contact,
        answer: impl Future<Output = Result<T, peer::Error>>,
    ) -> Result<T, peer::Error> {
        let answer = tokio::select! {
            answer = answer => answer,
            () = self.silence(&peer.name) => Err(silent(peer)),
        };
        if let Err(peer::Error::Unreachable { .. }) = &answer {
            self.0.members.suspect(&peer.name);
        }
        answer
    }

    /// Comes back when the member no longer answers heartbeats.
    async fn silence(&self, name: &str) {
        let mut ring = self.0.ring.clone();
        let is_silent = |ring: &Arc<Ring>| {
            ring.member(name)
                .is_none_or(|member| member.state == State::Silent)
        };
        let over = ring.wait_for(is_silent).await.is_err();
        if over {
            // No more rings: this node stops, and the answer may still come.
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn origin_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.0.permits.clone().acquire_owned().await.ok()
    }
}

fn silent(peer: &Contact) -> peer::Error {
    peer::Error::Unreachable {
        url: peer.url.clone(),
        source: "it does not answer heartbeats".into(),
    }
}

/// Pours a stream into fills, block by block.
struct Feeder {
    proxy: Proxy,
    version: Version,
    fills: VecDeque<Arc<Fill>>,
    current: Option<Buffer>,
    /// The next byte of the object that the stream brings.
    at: u64,
    source: Source,
    ticket: Ticket,
    way: Way,
}

impl Feeder {
    fn new(
        proxy: Proxy,
        version: Version,
        fills: Vec<Arc<Fill>>,
        ticket: Ticket,
        way: Way,
    ) -> Self {
        let index = fills.first().map_or(0, |fill| fill.id().index);
        let at = proxy.0.settings.blocks.bytes(index, version.size).start;
        Self {
            proxy,
            version,
            fills: fills.into(),
            current: None,
            at,
            source: Source::Origin,
            ticket,
            way,
        }
    }

    /// Tries one place after the other until the blocks are whole.
    async fn run(mut self) {
        if self.way == Way::Peers {
            let run = run_of(self.fills.front().map_or(0, |fill| fill.id().index));
            for peer in self
                .proxy
                .peers_before_me(&self.version.object, run, PEERS_TRIED)
            {
                match self.from_peer(peer).await {
                    Ok(()) => return,
                    Err(Break::Elsewhere(_)) => {}
                    Err(Break::Final(error)) => return self.fail(&error),
                }
            }
        }
        let mut last = Error::NoMemory;
        for _ in 0..=RESUMPTIONS {
            match self.from_origin().await {
                Ok(()) => return,
                Err(Break::Elsewhere(error)) => last = error,
                Err(Break::Final(error)) => return self.fail(&error),
            }
        }
        self.fail(&last);
    }

    /// What becomes of the rest when the first stream is over.
    async fn after(mut self, poured: Result<(), Break>) {
        match poured {
            Ok(()) => {}
            Err(Break::Final(error)) => self.fail(&error),
            Err(Break::Elsewhere(_)) => self.run().await,
        }
    }

    async fn from_peer(&mut self, peer: Contact) -> Result<(), Break> {
        let want = Want {
            bytes: Some(self.wanted()),
            version: Some((self.version.etag.clone(), self.version.size)),
            ..Want::current(&self.version.object)
        };
        let (found, body) = self.proxy.ask(&peer, &want).await.map_err(Break::from)?;
        self.begin(found.bytes.start, seen_from_here(found.source));
        self.pour(&mut Stream::Peer(peer, body)).await
    }

    async fn from_origin(&mut self) -> Result<(), Break> {
        let _permit = self.proxy.origin_permit().await;
        let origin = self.proxy.0.origin.clone();
        let reply = origin
            .read(
                &self.version.object,
                self.wanted(),
                Some(&self.version.etag),
            )
            .await;
        let reply = reply.map_err(|error| Break::Final(origin_error(error)))?;
        if reply.head.size != self.version.size {
            return Err(Break::Final(Error::VersionChanged));
        }
        let source = if self.version.kept {
            Source::Origin
        } else {
            Source::Bypass
        };
        self.begin(reply.range.start, source);
        self.pour(&mut Stream::Origin(reply.body)).await
    }

    /// The bytes that are still missing.
    fn wanted(&self) -> Range<u64> {
        let blocks = self.proxy.0.settings.blocks;
        let end = self.fills.back().map_or(self.at, |fill| {
            blocks.bytes(fill.id().index, self.version.size).end
        });
        self.at..end
    }

    fn begin(&mut self, at: u64, source: Source) {
        self.at = at;
        self.source = source;
    }

    /// Reads the stream to its end. What lies between the claimed blocks is somebody else's and passed over.
    async fn pour(&mut self, stream: &mut Stream) -> Result<(), Break> {
        while !self.fills.is_empty() {
            let mut chunk = match self.next(stream).await {
                Some(Ok(chunk)) => chunk,
                Some(Err(stopped)) => return Err(stopped),
                None => return Err(Break::Elsewhere(Error::NoMemory)),
            };
            while !chunk.is_empty() {
                let Some(fill) = self.fills.front().cloned() else {
                    return Ok(());
                };
                let block = self
                    .proxy
                    .0
                    .settings
                    .blocks
                    .bytes(fill.id().index, self.version.size);
                if self.at < block.start {
                    let skip = usize::try_from(block.start - self.at)
                        .unwrap_or(usize::MAX)
                        .min(chunk.len());
                    self.at += chunk.split_to(skip).len() as u64;
                    continue;
                }
                if !self.version.kept && !self.fills.iter().any(|fill| fill.is_followed()) {
                    return Err(Break::Final(Error::NoMemory));
                }
                let room = usize::try_from(block.end - self.at)
                    .unwrap_or(usize::MAX)
                    .min(chunk.len());
                self.write(&fill, &block, &chunk.split_to(room)).await?;
            }
        }
        Ok(())
    }

    async fn next(&self, stream: &mut Stream) -> Option<Result<Bytes, Break>> {
        match stream {
            Stream::Origin(body) => {
                let chunk = body.next().await?;
                Some(chunk.map_err(|error| Break::Elsewhere(Error::Origin(error))))
            }
            Stream::Peer(peer, body) => {
                let chunk = tokio::select! {
                    chunk = body.next() => chunk?,
                    () = self.proxy.silence(&peer.name) => Err(silent(peer)),
                };
                if let Ok(chunk) = &chunk {
                    self.proxy.0.metrics.peer_bytes(chunk.len() as u64);
                }
                Some(chunk.map_err(Break::from))
            }
        }
    }

    async fn write(
        &mut self,
        fill: &Arc<Fill>,
        block: &Range<u64>,
        bytes: &[u8],
    ) -> Result<(), Break> {
        let length = block.end - block.start;
        let mut buffer = if let Some(buffer) = self.current.take() {
            buffer
        } else {
            let kind = match self.way {
                Way::Origin => Kind::Fills,
                Way::Peers => Kind::Relays,
            };
            let Some(charge) = self.proxy.0.store.reserve(kind, length, MEMORY_WAIT).await else {
                return Err(Break::Final(Error::NoMemory));
            };
            fill.began(self.source);
            Buffer::new(
                charge,
                usize::try_from(length).expect("a block fits into memory"),
            )
        };
        fill.push(
            buffer
                .push(bytes)
                .map_err(|_full| Break::Final(Error::NoMemory))?,
        );
        self.at += bytes.len() as u64;
        if self.at < block.end {
            self.current = Some(buffer);
            return Ok(());
        }
        let mut stored = false;
        if self.version.kept {
            let pool = match self.way {
                Way::Origin => Pool::Owned,
                Way::Peers => Pool::Hot,
            };
            let block = buffer
                .finish()
                .map_err(|_short| Break::Final(Error::NoMemory))?;
            stored = self
                .proxy
                .0
                .store
                .put_block(fill.id().clone(), block, pool, self.ticket);
        }
        // Stored first, then off the table, then over: nobody can miss it in all three places.
        self.proxy.0.fills.remove(fill);
        fill.end(Ok(()));
        if stored {
            fill.stored();
        }
        self.fills.pop_front();
        Ok(())
    }

    fn fail(&mut self, error: &Error) {
        for fill in self.fills.drain(..) {
            self.proxy.0.fills.remove(&fill);
            fill.end(Err(error.clone()));
        }
    }
}

impl Drop for Feeder {
    /// A task that is cut off leaves nobody waiting.
    fn drop(&mut self) {
        self.fail(&Error::NoMemory);
    }
}

impl From<peer::Error> for Break {
    fn from(error: peer::Error) -> Self {
        match error {
            peer::Error::Refused(refusal) => match refusal.kind {
                RefusalKind::Version | RefusalKind::Absent => Self::Final(Error::VersionChanged),
                RefusalKind::Origin => {
                    let peer::Refusal {
                        status,
                        code,
                        message,
                        ..
                    } = refusal;
                    Self::Final(Error::Relayed {
                        status,
                        code,
                        message,
                    })
                }
                RefusalKind::Busy => Self::Elsewhere(Error::NoMemory),
            },
            _ => Self::Elsewhere(Error::NoMemory),
        }
    }
}

fn origin_error(error: origin::Error) -> Error {
    match error {
        // Gone or shorter: whatever is there now, it is not the version that was asked for.
        origin::Error::VersionChanged
        | origin::Error::NotFound { .. }
        | origin::Error::RangeNotSatisfiable => Error::VersionChanged,
        error => Error::Origin(Arc::new(error)),
    }
}
