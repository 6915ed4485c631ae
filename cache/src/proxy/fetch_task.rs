//! Fetch tasks: streaming into fills, block by block, from one place after the other until they are whole.
//!
//! A fetch task runs by itself and writes into memory that it reserved before, so neither a slow reader nor one that
//! hangs up holds up the others.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::Proxy;
use super::ask_peers::seen_from_here;
use super::permits::{Permit, SpeedVerdict, StreamThroughput};
use super::stream::{FillStream, StreamEnd};
use crate::fill::{Error, Fill, FillSource, Version};
use crate::object::{Source, extent_of};
use crate::origin;
use crate::peer::{Contact, ReadRequest};
use crate::store::{Buffer, Kind, Pool, Ticket};

/// How long a fill waits for memory before its readers are told to read past the cache.
const MEMORY_WAIT: Duration = Duration::from_secs(2);
/// Stand-ins of an owner that are tried before S3.
const PEERS_TRIED: usize = 2;
/// How often one part's read from S3 is taken up again after it broke off.
const RESUMPTIONS: usize = 2;

/// How often it is taken up again after it crawled.
const RETRIES: usize = 2;

/// Streams into fills, block by block.
pub(super) struct FetchTask {
    proxy: Proxy,
    version: Version,
    fills: VecDeque<Arc<Fill>>,
    current: Option<Buffer>,
    /// The next byte of the object that the stream brings.
    at: u64,
    source: Source,
    ticket: Ticket,
    fill_source: FillSource,
    /// Streams that were broken off because they crawled.
    crawled: usize,
}

impl FetchTask {
    pub(super) fn new(
        proxy: Proxy,
        version: Version,
        fills: Vec<Arc<Fill>>,
        ticket: Ticket,
        fill_source: FillSource,
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
            fill_source,
            crawled: 0,
        }
    }

    /// Tries one place after the other until the blocks are whole.
    pub(super) async fn run(mut self) {
        if self.fill_source == FillSource::Peers {
            let extent = extent_of(self.fills.front().map_or(0, |fill| fill.id().index));
            for peer in self
                .proxy
                .peers_before_me(&self.version.object, extent, PEERS_TRIED)
            {
                match self.stream_from_peer(peer).await {
                    Ok(()) => return,
                    Err(StreamEnd::Elsewhere(_)) => {}
                    Err(StreamEnd::Final(error)) => return self.fail(&error),
                }
            }
        }
        let mut last = Error::NoMemory;
        for _ in 0..=RESUMPTIONS {
            match self.stream_from_origin().await {
                Ok(()) => return,
                Err(StreamEnd::Elsewhere(error)) => last = error,
                Err(StreamEnd::Final(error)) => return self.fail(&error),
            }
        }
        self.fail(&last);
    }

    /// What becomes of the rest when the first stream is over.
    pub(super) async fn finish(mut self, streamed: Result<(), StreamEnd>) {
        match streamed {
            Ok(()) => {}
            Err(StreamEnd::Final(error)) => self.fail(&error),
            Err(StreamEnd::Elsewhere(_)) => self.run().await,
        }
    }

    async fn stream_from_peer(&mut self, peer: Contact) -> Result<(), StreamEnd> {
        let request = ReadRequest {
            bytes: Some(self.wanted()),
            version: Some((self.version.etag.clone(), self.version.size)),
            ..ReadRequest::current(&self.version.object)
        };
        let (response, body) = self
            .proxy
            .ask(&peer, &request)
            .await
            .map_err(StreamEnd::from)?;
        self.begin(response.bytes.start, seen_from_here(response.source));
        self.stream_into(&mut FillStream::Peer(peer, body), None)
            .await
    }

    async fn stream_from_origin(&mut self) -> Result<(), StreamEnd> {
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
            return Err(StreamEnd::Final(Error::VersionChanged));
        }
        let source = if self.version.cacheable {
            Source::Origin
        } else {
            Source::Bypass
        };
        self.begin(reply.range.start, source);
        self.stream_into(&mut FillStream::Origin(reply.body), permit)
            .await
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
    pub(super) async fn stream_into(
        &mut self,
        stream: &mut FillStream,
        mut permit: Option<Permit>,
    ) -> Result<(), StreamEnd> {
        let mut throughput = StreamThroughput::default();
        while !self.fills.is_empty() {
            let mut chunk = match self.next(stream, &mut throughput, &mut permit).await {
                Some(Ok(chunk)) => chunk,
                Some(Err(stopped)) => return Err(stopped),
                None => return Err(StreamEnd::Elsewhere(Error::NoMemory)),
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
                if !self.version.cacheable && !self.fills.iter().any(|fill| fill.is_followed()) {
                    return Err(StreamEnd::Final(Error::NoMemory));
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
        stream: &mut FillStream,
        throughput: &mut StreamThroughput,
        permit: &mut Option<Permit>,
    ) -> Option<Result<Bytes, StreamEnd>> {
        let mut since = Instant::now();
        let given_up = async {
            loop {
                sleep(throughput.due()).await;
                throughput.came(0, since.elapsed());
                since = Instant::now();
                if let Some(verdict) = throughput.judge(permit.as_mut())
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
                throughput.came(bytes, since.elapsed());
                return chunk;
            }
            stopped = given_up => stopped,
        };
        self.crawled += 1;
        Some(Err(stopped))
    }

    /// Why a stream of that pace is read no further, if it is not.
    fn stopped(&self, verdict: SpeedVerdict, from_origin: bool) -> Option<StreamEnd> {
        let fills = &self.fills;
        if !fills.iter().any(|fill| fill.is_awaited()) {
            let useless = fills.iter().any(|fill| fill.is_detached());
            return (useless || verdict != SpeedVerdict::Flows)
                .then_some(StreamEnd::Final(Error::NoMemory));
        }
        let ends = match verdict {
            SpeedVerdict::Flows | SpeedVerdict::Crawls => false,
            // The last try may take its time, as long as a reader does.
            SpeedVerdict::CrawlsOn => {
                self.crawled < RETRIES || !fills.iter().any(|fill| fill.is_followed())
            }
            SpeedVerdict::NoRoom => true,
        };
        // A peer has its own eye on S3.
        if !from_origin || !ends {
            return None;
        }
        let slow = Error::Origin(Arc::new(self.proxy.0.origin.too_slow()));
        Some(if self.crawled < RETRIES {
            StreamEnd::Elsewhere(slow)
        } else {
            StreamEnd::Final(slow)
        })
    }

    async fn write(
        &mut self,
        fill: &Arc<Fill>,
        block: &Range<u64>,
        bytes: &[u8],
    ) -> Result<(), StreamEnd> {
        let length = block.end - block.start;
        let mut buffer = if let Some(buffer) = self.current.take() {
            buffer
        } else {
            let kind = match self.fill_source {
                FillSource::Origin => Kind::Fills,
                FillSource::Peers => Kind::Replicas,
            };
            let Some(charge) = self.proxy.0.store.reserve(kind, length, MEMORY_WAIT).await else {
                return Err(StreamEnd::Final(Error::NoMemory));
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
                .map_err(|_full| StreamEnd::Final(Error::NoMemory))?,
        );
        self.at += bytes.len() as u64;
        if !self.version.cacheable {
            let reason = self.proxy.bypass_reason(&self.version);
            self.proxy.0.metrics.bypassed(reason, bytes.len() as u64);
        }
        if self.at < block.end {
            self.current = Some(buffer);
            return Ok(());
        }
        let mut stored = false;
        if self.version.cacheable {
            let pool = match self.fill_source {
                FillSource::Origin => Pool::Owned,
                FillSource::Peers => Pool::Replica,
            };
            let block = buffer
                .finish()
                .map_err(|_short| StreamEnd::Final(Error::NoMemory))?;
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

impl Drop for FetchTask {
    /// A task that is cut off leaves nobody waiting.
    fn drop(&mut self) {
        self.fail(&Error::NoMemory);
    }
}

/// What a read that did not begin means for the part. One that S3 was silent on says nothing of the object: it is asked for
/// again, while a refusal would only be repeated, and what S3 asks to slow down for must not come twice as often.
fn unread(error: origin::Error) -> StreamEnd {
    let silent = matches!(
        error,
        origin::Error::Timeout { .. } | origin::Error::Unreachable { .. }
    );
    let error = origin_error(error);
    if silent {
        StreamEnd::Elsewhere(error)
    } else {
        StreamEnd::Final(error)
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
