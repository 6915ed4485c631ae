//! Which version is current: the entry held here, else the home's, else S3's word. Who shares a lookup is `single_flight`'s.
//!
//! The answer of an unknown object brings its first bytes along, so a small object costs one request.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask_peers::{relayed, seen_from_here};
use super::single_flight::LookupKey;
use super::through::Handed;
use super::{Error, Freshness, Proxy, ReadOptions, Requester};
use crate::fill::{Follower, Version};
use crate::object::{ByteRange, EXTENT_BLOCKS, ObjectId, Source};
use crate::origin;
use crate::peer::{self, Contact, ReadRequest, ReadResponse, RefusalKind};
use crate::store::{Absent, Entry, EntryState, Ticket};

/// Stand-ins of a home that are tried before S3.
const PEERS_TRIED: usize = 2;

/// The current version, and what came with it.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    pub(super) entry: Entry,
    /// Who said so; `None`: the entry was here.
    pub(super) source: Option<Source>,
    /// The first bytes, on their way.
    pub(super) fills: Vec<Follower>,
    /// S3's answer itself, where no two readers can share it.
    pub(super) handed: Option<Handed>,
}

impl ReadOptions {
    /// A read of the head alone.
    pub(super) fn head(object: ObjectId, freshness: Freshness, by: Requester) -> Self {
        Self {
            object,
            range: None,
            freshness,
            by,
            body: false,
        }
    }
}

impl Proxy {
    /// The object's current version. An absent object is an error.
    pub(super) async fn lookup(&self, opts: &ReadOptions) -> Result<Lookup, Error> {
        if let Some(entry) = self.0.store.head(&opts.object)
            && self.is_usable(&entry, &opts.freshness, opts.by, Instant::now())
        {
            return present(Lookup {
                entry,
                source: None,
                fills: Vec::new(),
                handed: None,
            });
        }
        let at_origin = opts.by == Requester::Peer || self.0.ring.borrow().owns(&opts.object, 0);
        let key = LookupKey {
            object: opts.object.clone(),
            at_origin,
            freshness: opts.freshness.clone(),
        };
        let first = self.first_part(opts);
        if opts.freshness == Freshness::Revalidate {
            // A lookup that is out already may have been answered by S3 before this one began.
            return present(self.lookup_now(key, first).await?);
        }
        present(self.lookup_shared(key, first).await?)
    }

    /// S3 has another version than this one, which may be held as current here and at its home.
    pub(super) async fn drop_version(&self, version: &Version, by: Requester) {
        self.0.store.remove_head(&version.object, &version.etag);
        if by == Requester::Peer {
            // Whoever asked this node hears of it, and tells the home.
            return;
        }
        let opts = ReadOptions::head(
            version.object.clone(),
            Freshness::Not(version.etag.clone()),
            by,
        );
        let now = tokio::time::timeout(self.0.settings.timeout, self.lookup(&opts)).await;
        if let Ok(Err(error)) = now {
            tracing::debug!(object = %version.object, %error, "the version after the one that is gone is not known yet");
        }
    }

    pub(super) async fn lookup_now(
        &self,
        key: LookupKey,
        first: Option<Range<u64>>,
    ) -> Result<Lookup, Error> {
        // Before anything is asked: what an invalidation overtakes is answered, but not stored.
        let ticket = self.0.store.begin(&key.object);
        let old = self.0.store.head(&key.object);
        let _expected = first.as_ref().map(|bytes| self.expect(bytes));
        if !key.at_origin
            && let Some(found) = self
                .lookup_at_home(&key, first.clone(), old.as_ref(), ticket)
                .await
        {
            return self.or_stale(found, old);
        }
        if !key.at_origin && key.freshness != Freshness::Revalidate {
            // This node stands in for the home, and others may ask it so: S3 is asked once for all of them.
            let key = LookupKey {
                at_origin: true,
                ..key
            };
            let found = self.lookup_shared(key, first).await;
            return self.or_stale(found, old);
        }
        let found = self
            .lookup_at_origin(&key, first, old.as_ref(), ticket)
            .await;
        // A peer may be among those who wait, and must not be answered with a copy.
        self.or_stale(found, old.filter(|old| !old.copied))
    }

    async fn lookup_at_origin(
        &self,
        key: &LookupKey,
        first: Option<Range<u64>>,
        old: Option<&Entry>,
        ticket: Ticket,
    ) -> Result<Lookup, Error> {
        let object = &key.object;
        if let Some(EntryState::Present(head)) = old.map(|entry| &entry.state)
            && !matches!(key.freshness, Freshness::Not(_))
        {
            if self.is_origin_down()
                && key.freshness == Freshness::Stored
                && self.may_be_stale(old)
                && old.is_some_and(|old| !old.copied)
            {
                let entry = old.expect("matched above").clone();
                return Ok(Lookup {
                    entry,
                    source: Some(Source::Stale),
                    fills: Vec::new(),
                    handed: None,
                });
            }
            return match self.0.origin.head(object).await {
                // The blocks stay good with the tag; headers may be others by now.
                Ok(now) if now.etag == head.etag && now.size == head.size => {
                    Ok(self.record_present(object, Arc::new(now), Source::Revalidated, ticket))
                }
                Ok(now) => Ok(self.record_present(object, Arc::new(now), Source::Origin, ticket)),
                Err(error) => Err(self.record_origin_error(object, error, ticket)),
            };
        }
        let Some(first) = first else {
            return self.lookup_head(object, ticket).await;
        };
        let permit = self.origin_permit().await;
        match self.0.origin.read(object, first.clone(), None).await {
            Ok(reply) if reply.head.whole_only => {
                let head = Arc::new(reply.head.clone());
                let mut lookup = self.record_present(object, head, Source::Bypass, ticket);
                lookup.handed = Some(Handed::new(reply));
                Ok(lookup)
            }
            Ok(reply) => {
                let lookup =
                    self.record_present(object, Arc::new(reply.head), Source::Origin, ticket);
                Ok(self.stream_first_part(
                    object,
                    lookup,
                    reply.range,
                    reply.body.into(),
                    ticket,
                    permit,
                ))
            }
            // The first byte of an empty object can't be asked for.
            Err(origin::Error::RangeNotSatisfiable) => self.lookup_head(object, ticket).await,
            Err(error) => Err(self.record_origin_error(object, error, ticket)),
        }
    }

    async fn lookup_head(&self, object: &ObjectId, ticket: Ticket) -> Result<Lookup, Error> {
        match self.0.origin.head(object).await {
            Ok(head) => {
                let source = if head.whole_only {
                    Source::Bypass
                } else {
                    Source::Origin
                };
                Ok(self.record_present(object, Arc::new(head), source, ticket))
            }
            Err(error) => Err(self.record_origin_error(object, error, ticket)),
        }
    }

    /// Asks the home, else its stand-ins; `None` when none of them can help.
    async fn lookup_at_home(
        &self,
        key: &LookupKey,
        first: Option<Range<u64>>,
        old: Option<&Entry>,
        ticket: Ticket,
    ) -> Option<Result<Lookup, Error>> {
        let object = &key.object;
        let held = old.and_then(|entry| match &entry.state {
            EntryState::Present(head) => Some(head.etag.clone()),
            EntryState::Negative(_) => None,
        });
        let mut request = ReadRequest {
            bytes: first,
            held,
            ..ReadRequest::current(object)
        };
        match &key.freshness {
            Freshness::Stored => {}
            Freshness::Revalidate => request.revalidate = true,
            Freshness::Not(gone) => request.gone = Some(gone.clone()),
        }
        for home in self.peers_before_me(object, 0, PEERS_TRIED) {
            // After the ticket: what it comes to owe later overtakes this read. Its stand-in, or S3, knows better.
            if self.0.members.owes(&home.name) {
                continue;
            }
            match self.ask(&home, &request).await {
                Ok((response, body)) => {
                    let lookup = self.adopt(object, &request, response, (home, body), ticket);
                    if let Some(lookup) = lookup {
                        return Some(Ok(lookup));
                    }
                }
                Err(peer::Error::Refused(refusal)) => match refusal.kind {
                    RefusalKind::Absent => {
                        let absent = Absent {
                            code: refusal.code,
                            message: refusal.message,
                            said: refusal.said.map(Arc::new),
                        };
                        return Some(Err(self.record_absent(object, absent, ticket, true)));
                    }
                    RefusalKind::Version => return Some(Err(Error::VersionChanged)),
                    RefusalKind::Origin => return Some(Err(relayed(refusal).into())),
                    RefusalKind::Busy => {}
                },
                Err(error) => {
                    tracing::debug!(%object, home = home.name, %error, "the home did not answer");
                }
            }
        }
        None
    }

    /// The home's word becomes this node's, for as long as it is the home's; the bytes that follow it are streamed into fills.
    fn adopt(
        &self,
        object: &ObjectId,
        request: &ReadRequest,
        response: ReadResponse,
        stream: (Contact, peer::PeerBody),
        ticket: Ticket,
    ) -> Option<Lookup> {
        let now = Instant::now();
        let age = Duration::from_millis(response.age_ms);
        let head = response.head?;
        let source = match response.source {
            // What is here is as current as what is there.
            Source::Memory if request.held.as_ref() == Some(&head.etag) => Source::Memory,
            source => seen_from_here(source),
        };
        let entry = Entry {
            state: EntryState::Present(Arc::new(head)),
            fetched: now.checked_sub(age).unwrap_or(now),
            fresh_until: response.fresh_ms.map(|ms| now + Duration::from_millis(ms)),
            copied: true,
        };
        let lookup = self.remember(object, entry, source, ticket);
        if response.bytes.is_empty() {
            return Some(lookup);
        }
        Some(self.stream_first_part(object, lookup, response.bytes, stream.into(), ticket, None))
    }

    /// The bytes that the first answer should bring: the first asked part, if the home owns it.
    fn first_part(&self, opts: &ReadOptions) -> Option<Range<u64>> {
        if !opts.body {
            return None;
        }
        let (first, last) = match opts.range {
            None => (0, None),
            Some(ByteRange::FromTo(first, last)) if first <= last => (first, Some(last)),
            Some(ByteRange::From(first)) => (first, None),
            Some(ByteRange::FromTo(..) | ByteRange::Suffix(_)) => return None,
        };
        let blocks = self.0.settings.blocks;
        let index = blocks.index(first);
        if index >= EXTENT_BLOCKS {
            return None;
        }
        // No more than this reader would ask for later on, or many that come at once fill the memory before they are counted.
        let part_end = self.part_end(index).min(index + self.share());
        let end = last.map_or(part_end, |last| {
            part_end.min(blocks.index(last).saturating_add(1))
        });
        Some(u64::from(index) * blocks.size..u64::from(end) * blocks.size)
    }
}

fn present(lookup: Lookup) -> Result<Lookup, Error> {
    match &lookup.entry.state {
        EntryState::Present(_) => Ok(lookup),
        EntryState::Negative(absent) => Err(absent.as_ref().into()),
    }
}
