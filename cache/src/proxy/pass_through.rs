//! Objects that S3 gives whole or not at all. Each reader has an answer of S3's own, head and bytes of it, so that
//! nothing has to prove that two answers are of one version; nothing is stored.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};

use super::body::ReadBody;
use super::bypass::Bypass;
use super::error::Error;
use super::lookup::Lookup;
use super::read::{ReadOptions, ReadResult};
use crate::metrics::Metrics;
use crate::object::{BypassReason, Source};
use crate::origin::{Origin, Reply};
use crate::store::Store;

/// Why nothing of these is stored.
const REASON: BypassReason = BypassReason::WholeOnly;

/// Answers reads with S3's own answers, streamed through.
pub(super) struct PassThrough {
    pub(super) store: Arc<Store>,
    pub(super) origin: Origin,
    pub(super) metrics: Arc<Metrics>,
    /// How long to wait for the memory that a stream needs.
    pub(super) patience: Duration,
}

impl PassThrough {
    /// Answers with one GET of S3's. What the lookup brought is used if it is enough.
    pub(super) async fn read(
        &self,
        opts: &ReadOptions,
        lookup: &Lookup,
    ) -> Result<ReadResult, Error> {
        let charge = Bypass::reserve(&self.store, self.patience).await?;
        let range = opts.resolve(&lookup.head)?;
        let answer = lookup.answer.as_ref().and_then(|it| it.take(&range));
        let reply = match answer {
            Some(reply) => reply,
            None => self.read_whole(opts, range).await?,
        };
        let head = Arc::new(reply.head.clone());
        // Judged again: this answer's head is the one that counts.
        let range = opts.resolve(&head)?;
        if !reply.holds(&range) {
            return Err(Error::VersionChanged);
        }
        let mut rest = Bypass::new(reply, &range, charge, REASON, Arc::clone(&self.metrics));
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
            source: Source::Bypass(REASON),
            range,
            body,
        })
    }

    async fn read_whole(&self, opts: &ReadOptions, range: Range<u64>) -> Result<Reply, Error> {
        let reply = self.origin.read(&opts.object, range, None).await;
        // Gone or shorter than it was a moment ago: the lookup is made again.
        reply.map_err(Error::from_read_of_known)
    }
}
