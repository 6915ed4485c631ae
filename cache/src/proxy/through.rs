//! Objects that S3 gives whole or not at all. Each reader has an answer of S3's own, head and bytes of it, so that nothing has
//! to prove that two answers are of one version; nothing is stored.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::body::ReadBody;
use super::lookup::Lookup;
use super::reader::BYPASS_BYTES;
use super::{Error, Proxy, ReadOptions, ReadResult, resolve};
use crate::object::{Head, Source};
use crate::origin::{self, Reply};
use crate::store::{Charge, Kind};

/// An answer of S3's to a lookup that several may have asked: one of them has it.
#[derive(Debug, Clone)]
pub(super) struct Handed(Arc<Mutex<Option<Reply>>>);

impl Handed {
    pub(super) fn new(reply: Reply) -> Self {
        Self(Arc::new(Mutex::new(Some(reply))))
    }

    /// The answer, if nobody has it yet and it holds these bytes.
    fn take(&self, range: &Range<u64>) -> Option<Reply> {
        let mut reply = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reply.take_if(|reply| holds(reply, range))
    }
}

fn holds(reply: &Reply, range: &Range<u64>) -> bool {
    reply.range.start <= range.start && range.end <= reply.range.end
}

/// The bytes of an answer that are still to be given.
struct Rest {
    body: origin::OriginBody,
    skip: u64,
    left: u64,
    _charge: Charge,
}

impl Rest {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        while self.left > 0 {
            let mut bytes = match self.body.next().await? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(Error::Origin(error))),
            };
            let within = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
            let skipped = bytes.split_to(within(self.skip).min(bytes.len()));
            self.skip -= skipped.len() as u64;
            bytes.truncate(within(self.left));
            self.left -= bytes.len() as u64;
            if !bytes.is_empty() {
                return Some(Ok(bytes));
            }
        }
        None
    }
}

impl Proxy {
    /// Answers with one GET of S3's, streamed through. What the lookup brought is used if it is enough.
    pub(super) async fn through(
        &self,
        opts: &ReadOptions,
        lookup: &Lookup,
    ) -> Result<ReadResult, Error> {
        let charge = self
            .0
            .store
            .reserve(Kind::Replicas, BYPASS_BYTES, self.0.settings.timeout)
            .await
            .ok_or(Error::NoMemory)?;
        let head = lookup.head().ok_or(Error::VersionChanged)?;
        let range = resolve(opts, head)?;
        let handed = lookup.handed.as_ref().and_then(|it| it.take(&range));
        let reply = match handed {
            Some(reply) => reply,
            None => self.read_whole(opts, range).await?,
        };
        let head = Arc::new(reply.head.clone());
        // Judged again: this answer's head is the one that counts.
        let range = resolve(opts, &head)?;
        if !holds(&reply, &range) {
            return Err(Error::VersionChanged);
        }
        let mut rest = Rest {
            body: reply.body,
            skip: range.start - reply.range.start,
            left: range.end - range.start,
            _charge: charge,
        };
        let body = match rest.next().await.transpose()? {
            None => ReadBody::empty(),
            Some(first) => {
                let rest = stream::unfold(Some(rest), |rest| async move {
                    let mut rest = rest?;
                    let item = rest.next().await?;
                    let next = item.is_ok().then_some(rest);
                    Some((item, next))
                });
                ReadBody::from_stream(stream::iter([Ok(first)]).chain(rest))
            }
        };
        Ok(ReadResult {
            head,
            age: Duration::ZERO,
            fresh: Some(Duration::ZERO),
            source: Source::Bypass,
            range,
            body,
        })
    }

    async fn read_whole(&self, opts: &ReadOptions, range: Range<u64>) -> Result<Reply, Error> {
        match self.0.origin.read(&opts.object, range, None).await {
            Ok(reply) => Ok(reply),
            // Gone or shorter than it was a moment ago: the lookup is made anew.
            Err(
                origin::Error::VersionChanged
                | origin::Error::NotFound { .. }
                | origin::Error::RangeNotSatisfiable,
            ) => Err(Error::VersionChanged),
            Err(error) => Err(Error::Origin(Arc::new(error))),
        }
    }
}

impl Lookup {
    fn head(&self) -> Option<&Arc<Head>> {
        match &self.entry.state {
            crate::store::EntryState::Present(head) => Some(head),
            crate::store::EntryState::Negative(_) => None,
        }
    }
}
