//! Fetch tasks: streaming neighbouring blocks into their fills, from one place after the other until they are whole.
//!
//! A fetch task runs by itself, so neither a slow reader nor one that hangs up holds up the others.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::fill_writer::FillWriter;
use super::permits::Permit;
use super::source::{FillStream, Sources, StreamEnd};
use super::stream_throughput::{SpeedVerdict, StreamThroughput};
use crate::fill::{Abandoned, Error, FillSource};
use crate::object::extent_of;

/// How often one part's read from S3 is resumed after it broke off.
const RESUMPTIONS: usize = 2;
/// How often it is resumed after it crawled.
const RETRIES: usize = 2;

/// Streams into fills, block by block.
pub(super) struct FetchTask {
    sources: Arc<Sources>,
    writer: FillWriter,
    /// Streams that were broken off because they crawled.
    crawled: usize,
}

impl FetchTask {
    pub(super) fn new(sources: Arc<Sources>, writer: FillWriter) -> Self {
        Self {
            sources,
            writer,
            crawled: 0,
        }
    }

    /// Tries one place after the other until the blocks are whole.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.fetch().await {
            self.writer.fail(&error);
        }
    }

    /// Reads a stream that is open already, then goes on as [`FetchTask::run`].
    pub(super) async fn run_from(mut self, stream: FillStream) {
        match self.read(stream).await {
            Ok(()) => {}
            Err(StreamEnd::Final(error)) => self.writer.fail(&error),
            Err(StreamEnd::Elsewhere(_)) => self.run().await,
        }
    }

    async fn fetch(&mut self) -> Result<(), Error> {
        if self.writer.fill_source() == FillSource::Peers {
            let extent = extent_of(self.writer.first_block());
            let object = &self.writer.version().object;
            for peer in self.sources.owners.before_me(object, extent) {
                let (version, missing) = (self.writer.version(), self.writer.missing());
                let stream = self.sources.open_peer(version, missing, peer).await;
                match self.read_opened(stream).await {
                    Ok(()) => return Ok(()),
                    Err(StreamEnd::Elsewhere(_)) => {}
                    Err(StreamEnd::Final(error)) => return Err(error),
                }
            }
        }
        let mut resumptions = 0..RESUMPTIONS;
        loop {
            let (version, missing) = (self.writer.version(), self.writer.missing());
            let stream = self.sources.open_origin(version, missing).await;
            match self.read_opened(stream).await {
                Ok(()) => return Ok(()),
                Err(StreamEnd::Elsewhere(error)) if resumptions.next().is_none() => {
                    return Err(error);
                }
                Err(StreamEnd::Elsewhere(_)) => {}
                Err(StreamEnd::Final(error)) => return Err(error),
            }
        }
    }

    async fn read_opened(
        &mut self,
        stream: Result<FillStream, StreamEnd>,
    ) -> Result<(), StreamEnd> {
        self.read(stream?).await
    }

    /// Reads the stream until the blocks are whole, or it ends.
    async fn read(&mut self, mut stream: FillStream) -> Result<(), StreamEnd> {
        let mut throughput = StreamThroughput::default();
        while !self.writer.is_done() {
            let at = stream.at;
            let Some(chunk) = self.next(&mut stream, &mut throughput).await else {
                let early = Error::Abandoned(Abandoned::WrongBytes);
                return Err(StreamEnd::Elsewhere(early));
            };
            let chunk = chunk?;
            self.writer.write(stream.source, at, chunk).await?;
        }
        Ok(())
    }

    /// The next bytes, unless they come so slowly that the stream is given up.
    async fn next(
        &mut self,
        stream: &mut FillStream,
        throughput: &mut StreamThroughput,
    ) -> Option<Result<Bytes, StreamEnd>> {
        let mut since = Instant::now();
        // Taken out of the stream meanwhile: it is borrowed by both branches below.
        let mut permit = stream.permit.take();
        let from_origin = stream.is_from_origin();
        let given_up = async {
            loop {
                sleep(throughput.due()).await;
                throughput.came(0, since.elapsed());
                since = Instant::now();
                if let Some(end) = self.judge(throughput, permit.as_mut(), from_origin) {
                    return end;
                }
            }
        };
        let end = tokio::select! {
            biased;
            chunk = self.sources.next_chunk(stream) => {
                let bytes = match &chunk {
                    Some(Ok(chunk)) => chunk.len() as u64,
                    _ => 0,
                };
                throughput.came(bytes, since.elapsed());
                stream.permit = permit;
                return chunk;
            }
            end = given_up => end,
        };
        self.crawled += 1;
        Some(Err(end))
    }

    /// Why the stream is read no further, if it has become too slow.
    fn judge(
        &self,
        throughput: &mut StreamThroughput,
        permit: Option<&mut Permit>,
        from_origin: bool,
    ) -> Option<StreamEnd> {
        let verdict = throughput.judge(permit)?;
        if !self.writer.is_awaited() {
            let useless = self.writer.is_detached() || verdict != SpeedVerdict::Flows;
            return useless.then_some(StreamEnd::Final(Error::Abandoned(Abandoned::Unwanted)));
        }
        let ends = match verdict {
            SpeedVerdict::Flows | SpeedVerdict::Crawls => false,
            // The last try may take its time, as long as a reader does.
            SpeedVerdict::CrawlsOn => self.crawled < RETRIES || !self.writer.is_followed(),
            SpeedVerdict::NoRoom => true,
        };
        // A peer watches S3 itself.
        if !from_origin || !ends {
            return None;
        }
        let slow = Error::Origin(Arc::new(self.sources.origin.too_slow()));
        Some(if self.crawled < RETRIES {
            StreamEnd::Elsewhere(slow)
        } else {
            StreamEnd::Final(slow)
        })
    }
}
