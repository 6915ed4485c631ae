//! Pouring a stream into fills, block by block, from one place after the other until they are whole.
//!
//! A feeder is a task of its own and writes into memory that it reserved before, so neither a slow reader nor one that
//! hangs up holds up the others.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::Proxy;
use super::ask::{relayed, seen_from_here, silent};
use crate::fill::{Error, Fill, Version, Way};
use crate::object::{Source, run_of};
use crate::origin;
use crate::peer::{self, Contact, RefusalKind, Want};
use crate::store::{Buffer, Kind, Pool, Ticket};

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
pub(super) enum Break {
    /// Another place may have the bytes.
    Elsewhere(Error),
    /// No other place would know better.
    Final(Error),
}

/// Pours a stream into fills, block by block.
pub(super) struct Feeder {
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
    pub(super) fn new(
        proxy: Proxy,
        version: Version,
        fills: Vec<Arc<Fill>>,
        ticket: Ticket,
        way: Way,
    ) -> Self {
        let index = fills.first().map_or(0, |fill| fill.id().index);
        let at = proxy.0.settings.blocks.bytes(index, version.size).start;
        let length = |fill: &Arc<Fill>| proxy.length(&version, fill);
        let expected = fills.iter().map(length).sum();
        proxy.0.expected.fetch_add(expected, Ordering::Relaxed);
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
    pub(super) async fn run(mut self) {
        if self.way == Way::Peers {
            let run = run_of(self.fills.front().map_or(0, |fill| fill.id().index));
            for peer in self
                .proxy
                .peers_before_me(&self.version.object, run, PEERS_TRIED)
            {
                match self.pour_from(peer).await {
                    Ok(()) => return,
                    Err(Break::Elsewhere(_)) => {}
                    Err(Break::Final(error)) => return self.fail(&error),
                }
            }
        }
        let mut last = Error::NoMemory;
        for _ in 0..=RESUMPTIONS {
            match self.pour_from_origin().await {
                Ok(()) => return,
                Err(Break::Elsewhere(error)) => last = error,
                Err(Break::Final(error)) => return self.fail(&error),
            }
        }
        self.fail(&last);
    }

    /// What becomes of the rest when the first stream is over.
    pub(super) async fn after(mut self, poured: Result<(), Break>) {
        match poured {
            Ok(()) => {}
            Err(Break::Final(error)) => self.fail(&error),
            Err(Break::Elsewhere(_)) => self.run().await,
        }
    }

    async fn pour_from(&mut self, peer: Contact) -> Result<(), Break> {
        let want = Want {
            bytes: Some(self.wanted()),
            version: Some((self.version.etag.clone(), self.version.size)),
            ..Want::current(&self.version.object)
        };
        let (found, body) = self.proxy.ask(&peer, &want).await.map_err(Break::from)?;
        self.begin(found.bytes.start, seen_from_here(found.source));
        self.pour(&mut Stream::Peer(peer, body)).await
    }

    async fn pour_from_origin(&mut self) -> Result<(), Break> {
        let _permit = self.proxy.origin_permit().await;
        let origin = self.proxy.0.origin.clone();
        let reply = origin
            .read(
                &self.version.object,
                self.wanted(),
                Some(&self.version.etag),
            )
            .await;
        let reply = reply.map_err(unread)?;
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

    pub(super) fn begin(&mut self, at: u64, source: Source) {
        self.at = at;
        self.source = source;
    }

    /// Reads the stream to its end. What lies between the claimed blocks is somebody else's and passed over.
    pub(super) async fn pour(&mut self, stream: &mut Stream) -> Result<(), Break> {
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
                    biased;
                    chunk = body.next() => chunk?,
                    () = self.proxy.silence(&peer.name) => Err(silent(peer)),
                };
                if let Ok(chunk) = &chunk {
                    self.proxy.0.members.heard_from(&peer.name);
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
            let store = &self.proxy.0.store;
            stored = store.put_block(fill.id().clone(), block, pool, self.ticket);
        }
        self.fills.pop_front();
        self.end(fill, Ok(()));
        if stored {
            fill.stored();
        }
        Ok(())
    }

    fn fail(&mut self, error: &Error) {
        while let Some(fill) = self.fills.pop_front() {
            self.end(&fill, Err(error.clone()));
        }
    }

    /// Off the table, then over. A whole block is stored before, so nobody can miss it in all three places.
    fn end(&self, fill: &Arc<Fill>, end: Result<(), Error>) {
        let inner = &self.proxy.0;
        inner.fills.remove(fill);
        fill.end(end);
        let length = self.proxy.length(&self.version, fill);
        inner.expected.fetch_sub(length, Ordering::Relaxed);
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
                RefusalKind::Origin => Self::Final(relayed(refusal)),
                RefusalKind::Busy => Self::Elsewhere(Error::NoMemory),
            },
            _ => Self::Elsewhere(Error::NoMemory),
        }
    }
}

/// What a read that did not begin means for the part. One that S3 was silent on says nothing of the object: it is asked for
/// again, while a refusal would only be repeated, and what S3 asks to slow down for must not come twice as often.
fn unread(error: origin::Error) -> Break {
    let silent = matches!(
        error,
        origin::Error::Timeout { .. } | origin::Error::Unreachable { .. }
    );
    let error = origin_error(error);
    if silent {
        Break::Elsewhere(error)
    } else {
        Break::Final(error)
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
