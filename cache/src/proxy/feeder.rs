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
use tokio::time::{Instant, sleep};

use super::Proxy;
use super::ask::seen_from_here;
use super::permits::{Flow, Permit, Verdict};
use super::stream::{Break, Stream};
use crate::fill::{Error, Fill, Version, Way};
use crate::object::{Source, run_of};
use crate::origin;
use crate::peer::{Contact, Want};
use crate::store::{Buffer, Kind, Pool, Ticket};

/// How long a fill waits for memory before its readers are told to read past the cache.
const MEMORY_WAIT: Duration = Duration::from_secs(2);
/// Stand-ins of an owner that are tried before S3.
const PEERS_TRIED: usize = 2;
/// How often one part's read from S3 is taken up again after it broke off.
const RESUMPTIONS: usize = 2;

/// How often it is taken up again after it crawled.
const RETRIES: usize = 2;

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
    /// Streams that were broken off because they crawled.
    crawled: usize,
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
            crawled: 0,
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
        self.pour(&mut Stream::Peer(peer, body), None).await
    }

    async fn pour_from_origin(&mut self) -> Result<(), Break> {
        let permit = self.proxy.origin_permit().await;
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
        self.pour(&mut Stream::Origin(reply.body), permit).await
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
    pub(super) async fn pour(
        &mut self,
        stream: &mut Stream,
        mut permit: Option<Permit>,
    ) -> Result<(), Break> {
        let mut flow = Flow::default();
        while !self.fills.is_empty() {
            let mut chunk = match self.next(stream, &mut flow, &mut permit).await {
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

    /// The next bytes, unless they come so slowly that the stream is given up.
    async fn next(
        &mut self,
        stream: &mut Stream,
        flow: &mut Flow,
        permit: &mut Option<Permit>,
    ) -> Option<Result<Bytes, Break>> {
        let mut since = Instant::now();
        let given_up = async {
            loop {
                sleep(flow.due()).await;
                flow.came(0, since.elapsed());
                since = Instant::now();
                if let Some(verdict) = flow.judge(permit.as_mut())
                    && let Some(stopped) = self.stopped(verdict, permit.is_some())
                {
                    return stopped;
                }
            }
        };
        let stopped = tokio::select! {
            biased;
            chunk = stream.next(&self.proxy) => {
                let bytes = match &chunk {
                    Some(Ok(chunk)) => chunk.len() as u64,
                    _ => 0,
                };
                flow.came(bytes, since.elapsed());
                return chunk;
            }
            stopped = given_up => stopped,
        };
        self.crawled += 1;
        Some(Err(stopped))
    }

    /// Why a stream of that pace is read no further, if it is not.
    fn stopped(&self, verdict: Verdict, from_origin: bool) -> Option<Break> {
        let fills = &self.fills;
        if !fills.iter().any(|fill| fill.is_awaited()) {
            let useless = fills.iter().any(|fill| fill.is_detached());
            return (useless || verdict != Verdict::Flows).then_some(Break::Final(Error::NoMemory));
        }
        let ends = match verdict {
            Verdict::Flows | Verdict::Crawls => false,
            // The last try may take its time, as long as a reader does.
            Verdict::CrawlsOn => {
                self.crawled < RETRIES || !fills.iter().any(|fill| fill.is_followed())
            }
            Verdict::NoRoom => true,
        };
        // A peer has its own eye on S3.
        if !from_origin || !ends {
            return None;
        }
        let slow = Error::Origin(Arc::new(self.proxy.0.origin.too_slow()));
        Some(if self.crawled < RETRIES {
            Break::Elsewhere(slow)
        } else {
            Break::Final(slow)
        })
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
        if !self.version.kept {
            let reason = self.proxy.why_not_kept(&self.version);
            self.proxy.0.metrics.bypassed(reason, bytes.len() as u64);
        }
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
