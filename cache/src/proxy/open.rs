//! Which version is current: the record held here, else the home's, else S3's word. Who shares a question is `question`'s.
//!
//! The answer of an unknown object brings its first bytes along, so a small object costs one request.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{relayed, seen_from_here};
use super::question::Question;
use super::through::Handed;
use super::{Ask, Error, Freshness, Hop, Proxy};
use crate::fill::{Follower, Version};
use crate::object::{ByteRange, ObjectId, RUN_BLOCKS, Source};
use crate::origin;
use crate::peer::{self, Contact, Found, RefusalKind, Want};
use crate::store::{Absent, Known, Record, Ticket};

/// Stand-ins of a home that are tried before S3.
const PEERS_TRIED: usize = 2;

/// The current version, and what came with it.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) record: Record,
    /// Who said so; `None`: the record was here.
    pub(super) source: Option<Source>,
    /// The first bytes, on their way.
    pub(super) fills: Vec<Follower>,
    /// S3's answer itself, where no two readers can share it.
    pub(super) handed: Option<Handed>,
}

impl Proxy {
    /// The object's current version. An absent object is an error.
    pub(super) async fn open(&self, ask: &Ask) -> Result<Opened, Error> {
        if let Some(record) = self.0.store.head(&ask.object)
            && self.is_usable(&record, &ask.freshness, ask.hop, Instant::now())
        {
            return present(Opened {
                record,
                source: None,
                fills: Vec::new(),
                handed: None,
            });
        }
        let at_origin = ask.hop == Hop::Last || self.0.ring.borrow().owns(&ask.object, 0);
        let question = Question {
            object: ask.object.clone(),
            at_origin,
            freshness: ask.freshness.clone(),
        };
        let first = self.first_part(ask);
        if ask.freshness == Freshness::Revalidate {
            // A question that is out already may have been answered by S3 before this one was asked.
            return present(self.find(question, first).await?);
        }
        present(self.join(question, first).await?)
    }

    /// S3 has another version than this one, which may be held as current here and at its home.
    pub(super) async fn gone(&self, version: &Version, hop: Hop) {
        self.0.store.remove_head(&version.object, &version.etag);
        if hop == Hop::Last {
            // Whoever asked this node hears of it, and tells the home.
            return;
        }
        let ask = Ask {
            object: version.object.clone(),
            range: None,
            freshness: Freshness::Not(version.etag.clone()),
            hop,
            body: false,
        };
        let now = tokio::time::timeout(self.0.settings.timeout, self.open(&ask)).await;
        if let Ok(Err(error)) = now {
            tracing::debug!(object = %version.object, %error, "the version after the one that is gone is not known yet");
        }
    }

    pub(super) async fn find(
        &self,
        question: Question,
        first: Option<Range<u64>>,
    ) -> Result<Opened, Error> {
        // Before anything is asked: what an invalidation overtakes is answered, but not stored.
        let ticket = self.0.store.begin(&question.object);
        let old = self.0.store.head(&question.object);
        let _expected = first.as_ref().map(|bytes| self.expect(bytes));
        if !question.at_origin
            && let Some(found) = self
                .find_at_home(&question, first.clone(), old.as_ref(), ticket)
                .await
        {
            return self.or_stale(found, old);
        }
        if !question.at_origin && question.freshness != Freshness::Revalidate {
            // This node stands in for the home, and others may ask it so: S3 is asked once for all of them.
            let question = Question {
                at_origin: true,
                ..question
            };
            let found = self.join(question, first).await;
            return self.or_stale(found, old);
        }
        let found = self
            .find_at_origin(&question, first, old.as_ref(), ticket)
            .await;
        // A peer may be among those who wait, and must not be answered with a copy.
        self.or_stale(found, old.filter(|old| !old.copied))
    }

    async fn find_at_origin(
        &self,
        question: &Question,
        first: Option<Range<u64>>,
        old: Option<&Record>,
        ticket: Ticket,
    ) -> Result<Opened, Error> {
        let object = &question.object;
        if let Some(Known::Present(head)) = old.map(|record| &record.known)
            && !matches!(question.freshness, Freshness::Not(_))
        {
            if self.is_out()
                && question.freshness == Freshness::Stored
                && self.may_be_stale(old)
                && old.is_some_and(|old| !old.copied)
            {
                let record = old.expect("matched above").clone();
                return Ok(Opened {
                    record,
                    source: Some(Source::Stale),
                    fills: Vec::new(),
                    handed: None,
                });
            }
            return match self.0.origin.head(object).await {
                // The blocks stay good with the tag; headers may be others by now.
                Ok(now) if now.etag == head.etag && now.size == head.size => {
                    Ok(self.opened(object, Arc::new(now), Source::Revalidated, ticket))
                }
                Ok(now) => Ok(self.opened(object, Arc::new(now), Source::Origin, ticket)),
                Err(error) => Err(self.origin_failed(object, error, ticket)),
            };
        }
        let Some(first) = first else {
            return self.find_head(object, ticket).await;
        };
        let permit = self.origin_permit().await;
        match self.0.origin.read(object, first.clone(), None).await {
            Ok(reply) if reply.head.whole_only => {
                let head = Arc::new(reply.head.clone());
                let mut opened = self.opened(object, head, Source::Bypass, ticket);
                opened.handed = Some(Handed::new(reply));
                Ok(opened)
            }
            Ok(reply) => {
                let opened = self.opened(object, Arc::new(reply.head), Source::Origin, ticket);
                Ok(self.pour_first(
                    object,
                    opened,
                    reply.range,
                    reply.body.into(),
                    ticket,
                    permit,
                ))
            }
            // The first byte of an empty object can't be asked for.
            Err(origin::Error::RangeNotSatisfiable) => self.find_head(object, ticket).await,
            Err(error) => Err(self.origin_failed(object, error, ticket)),
        }
    }

    async fn find_head(&self, object: &ObjectId, ticket: Ticket) -> Result<Opened, Error> {
        match self.0.origin.head(object).await {
            Ok(head) => {
                let source = if head.whole_only {
                    Source::Bypass
                } else {
                    Source::Origin
                };
                Ok(self.opened(object, Arc::new(head), source, ticket))
            }
            Err(error) => Err(self.origin_failed(object, error, ticket)),
        }
    }

    /// Asks the home, else its stand-ins; `None` when none of them can help.
    async fn find_at_home(
        &self,
        question: &Question,
        first: Option<Range<u64>>,
        old: Option<&Record>,
        ticket: Ticket,
    ) -> Option<Result<Opened, Error>> {
        let object = &question.object;
        let held = old.and_then(|record| match &record.known {
            Known::Present(head) => Some(head.etag.clone()),
            Known::Absent(_) => None,
        });
        let mut want = Want {
            bytes: first,
            held,
            ..Want::current(object)
        };
        match &question.freshness {
            Freshness::Stored => {}
            Freshness::Revalidate => want.revalidate = true,
            Freshness::Not(gone) => want.gone = Some(gone.clone()),
        }
        for home in self.peers_before_me(object, 0, PEERS_TRIED) {
            // After the ticket: what it comes to owe later overtakes this read. Its stand-in, or S3, knows better.
            if self.0.members.owes(&home.name) {
                continue;
            }
            match self.ask(&home, &want).await {
                Ok((found, body)) => {
                    let opened = self.adopt(object, &want, found, (home, body), ticket);
                    if let Some(opened) = opened {
                        return Some(Ok(opened));
                    }
                }
                Err(peer::Error::Refused(refusal)) => match refusal.kind {
                    RefusalKind::Absent => {
                        let absent = Absent {
                            code: refusal.code,
                            message: refusal.message,
                            said: refusal.said.map(Arc::new),
                        };
                        return Some(Err(self.absent(object, absent, ticket, true)));
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

    /// The home's word becomes this node's, for as long as it is the home's; the bytes that follow it are poured.
    fn adopt(
        &self,
        object: &ObjectId,
        want: &Want,
        found: Found,
        stream: (Contact, peer::Body),
        ticket: Ticket,
    ) -> Option<Opened> {
        let now = Instant::now();
        let age = Duration::from_millis(found.age_ms);
        let head = found.head?;
        let source = match found.source {
            // What is here is as current as what is there.
            Source::Memory if want.held.as_ref() == Some(&head.etag) => Source::Memory,
            source => seen_from_here(source),
        };
        let record = Record {
            known: Known::Present(Arc::new(head)),
            fetched: now.checked_sub(age).unwrap_or(now),
            fresh_until: found.fresh_ms.map(|ms| now + Duration::from_millis(ms)),
            copied: true,
        };
        let opened = self.remember(object, record, source, ticket);
        if found.bytes.is_empty() {
            return Some(opened);
        }
        Some(self.pour_first(object, opened, found.bytes, stream.into(), ticket, None))
    }

    /// The bytes that the first answer should bring: the first asked part, if the home owns it.
    fn first_part(&self, ask: &Ask) -> Option<Range<u64>> {
        if !ask.body {
            return None;
        }
        let (first, last) = match ask.range {
            None => (0, None),
            Some(ByteRange::FromTo(first, last)) if first <= last => (first, Some(last)),
            Some(ByteRange::From(first)) => (first, None),
            Some(ByteRange::FromTo(..) | ByteRange::Suffix(_)) => return None,
        };
        let blocks = self.0.settings.blocks;
        let index = blocks.index(first);
        if index >= RUN_BLOCKS {
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

fn present(opened: Opened) -> Result<Opened, Error> {
    match &opened.record.known {
        Known::Present(_) => Ok(opened),
        Known::Absent(absent) => Err(absent.as_ref().into()),
    }
}
