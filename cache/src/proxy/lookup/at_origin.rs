//! Asking S3 which version is current.

use std::ops::Range;
use std::sync::Arc;

use super::answer_slot::AnswerSlot;
use super::found::{Lookup, LookupKey};
use super::freshness::CachedHeads;
use crate::object::{BypassReason, Head, ObjectId, Source};
use crate::origin::{self, Origin};
use crate::proxy::error::Error;
use crate::proxy::fetch::{Fetcher, FillStream};
use crate::proxy::read::Freshness;
use crate::store::{Entry, EntryState, Ticket};

/// Where an object that S3 gives only whole comes from.
const WHOLE_ONLY: Source = Source::Bypass(BypassReason::WholeOnly);

/// Lookups at S3.
pub(super) struct AtOrigin {
    pub(super) heads: Arc<CachedHeads>,
    pub(super) origin: Origin,
    pub(super) fetcher: Arc<Fetcher>,
}

impl AtOrigin {
    /// Asks S3, for its word on the version that is held or for the `first` bytes of whatever is current. While S3 is
    /// down, the version that is held may have to do.
    pub(super) async fn look_up(
        &self,
        key: &LookupKey,
        first: Option<Range<u64>>,
        old: Option<&Entry>,
        ticket: Ticket,
    ) -> Result<Lookup, Error> {
        let object = &key.object;
        if let Some(old) = old
            && let EntryState::Present(head) = &old.state
            && !matches!(key.freshness, Freshness::Not(_))
        {
            if key.freshness == Freshness::Stored
                && !old.copied
                && self.heads.is_origin_down()
                && self.heads.may_be_stale(old)
            {
                return Lookup::new(old.clone(), Source::Stale);
            }
            return self.revalidate(object, head, ticket).await;
        }
        let Some(first) = first else {
            return self.read_head(object, ticket).await;
        };
        let permit = self.fetcher.permit().await;
        match self.origin.read(object, first, None).await {
            Ok(reply) if reply.head.whole_only => {
                let head = Arc::new(reply.head.clone());
                let mut lookup = self.present(object, head, WHOLE_ONLY, ticket)?;
                lookup.answer = Some(AnswerSlot::new(reply));
                Ok(lookup)
            }
            Ok(reply) => {
                let head = Arc::new(reply.head);
                let mut lookup = self.present(object, head, Source::Origin, ticket)?;
                let (at, bytes) = (reply.range.start, &reply.range);
                let stream = FillStream::from_origin(at, Source::Origin, reply.body, permit);
                let head = &lookup.head;
                lookup.fills = self.fetcher.fetch_from(object, head, bytes, stream, ticket);
                Ok(lookup)
            }
            // The first byte of an empty object can't be asked for.
            Err(origin::Error::RangeNotSatisfiable) => self.read_head(object, ticket).await,
            Err(error) => Err(self.heads.record_origin_error(object, error, ticket)),
        }
    }

    async fn revalidate(
        &self,
        object: &ObjectId,
        held: &Head,
        ticket: Ticket,
    ) -> Result<Lookup, Error> {
        match self.origin.head(object).await {
            Ok(now) => {
                // The blocks stay good with the tag; headers may be others by now.
                let source = if now.etag == held.etag && now.size == held.size {
                    Source::Revalidated
                } else {
                    Source::Origin
                };
                self.present(object, Arc::new(now), source, ticket)
            }
            Err(error) => Err(self.heads.record_origin_error(object, error, ticket)),
        }
    }

    async fn read_head(&self, object: &ObjectId, ticket: Ticket) -> Result<Lookup, Error> {
        match self.origin.head(object).await {
            Ok(head) => {
                let source = if head.whole_only {
                    WHOLE_ONLY
                } else {
                    Source::Origin
                };
                self.present(object, Arc::new(head), source, ticket)
            }
            Err(error) => Err(self.heads.record_origin_error(object, error, ticket)),
        }
    }

    fn present(
        &self,
        object: &ObjectId,
        head: Arc<Head>,
        source: Source,
        ticket: Ticket,
    ) -> Result<Lookup, Error> {
        Lookup::new(self.heads.record_present(object, head, ticket), source)
    }
}
