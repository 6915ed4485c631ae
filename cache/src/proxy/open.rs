//! Which version is current: the record held here, else the home's, else S3's word. One question at a time per object.
//!
//! The answer of an unknown object brings its first bytes along, so a small object costs one request.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use tokio::time::Instant;

use super::{Ask, Error, Freshness, Hop, Proxy, is_private};
use crate::fill::Fill;
use crate::object::{ByteRange, Head, ObjectId, RUN_BLOCKS, Scope, Source};
use crate::origin::{self, Revalidation};
use crate::peer::{self, RefusalKind, Want};
use crate::store::{Absent, Known, Record, Ticket};

/// For how long S3 is taken to be away after it failed, when a version may be served stale meanwhile.
const OUTAGE_MEMORY: Duration = Duration::from_secs(1);
/// Stand-ins of a home that are tried before S3.
const PEERS_TRIED: usize = 2;

/// The current version, and what came with it.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) record: Arc<Record>,
    /// Who said so; `None`: the record was here.
    pub(super) source: Option<Source>,
    /// The first bytes, on their way.
    pub(super) fills: Vec<Arc<Fill>>,
}

type Open = Shared<BoxFuture<'static, Result<Opened, Error>>>;

/// A question that others may join: about what, asked of S3 rather than of the home, and how current.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    object: ObjectId,
    at_origin: bool,
    freshness: Freshness,
}

/// The questions that are out.
#[derive(Debug, Default)]
pub(super) struct Opens {
    running: Mutex<HashMap<Question, Open>>,
}

impl Opens {
    /// Later readers ask anew.
    pub(super) fn detach(&self, scope: &Scope) {
        self.running()
            .retain(|question, _| !scope.covers(&question.object));
    }

    fn remove(&self, question: &Question, open: &Open) {
        let mut running = self.running();
        if running
            .get(question)
            .is_some_and(|current| current.ptr_eq(open))
        {
            running.remove(question);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Question, Open>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True when the record answers this question.
pub(super) fn is_usable(record: &Record, freshness: &Freshness, hop: Hop) -> bool {
    if record.copied && hop == Hop::Last {
        return false;
    }
    let fresh = record
        .fresh_until
        .is_none_or(|until| Instant::now() < until);
    match (freshness, &record.known) {
        (Freshness::Revalidate, _) => false,
        (Freshness::Not(gone), Known::Present(head)) => fresh && head.etag != *gone,
        (Freshness::Stored | Freshness::Not(_), _) => fresh,
    }
}

impl Proxy {
    /// The object's current version. An absent object is an error.
    pub(super) async fn open(&self, ask: &Ask) -> Result<Opened, Error> {
        if let Some(record) = self.0.store.head(&ask.object)
            && is_usable(&record, &ask.freshness, ask.hop)
        {
            return present(Opened {
                record,
                source: None,
                fills: Vec::new(),
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
        let (open, mine) = {
            let mut running = self.0.opens.running();
            if let Some(open) = running.get(&question) {
                (open.clone(), false)
            } else {
                let open = self.clone().find_detached(question.clone(), first);
                running.insert(question.clone(), open.clone());
                (open, true)
            }
        };
        if mine {
            // The question outlives whoever asked it first.
            let (proxy, question, open) = (self.clone(), question, open.clone());
            tokio::spawn(async move {
                let _answer = open.clone().await;
                proxy.0.opens.remove(&question, &open);
            });
        }
        present(open.await?)
    }

    fn find_detached(self, question: Question, first: Option<Range<u64>>) -> Open {
        async move { self.find(question, first).await }
            .boxed()
            .shared()
    }

    async fn find(&self, question: Question, first: Option<Range<u64>>) -> Result<Opened, Error> {
        // Before anything is asked: what an invalidation overtakes is answered, but not stored.
        let ticket = self.0.store.begin(&question.object);
        let old = self.0.store.head(&question.object);
        if !question.at_origin
            && let Some(found) = self
                .find_at_home(&question, first.clone(), old.as_ref(), ticket)
                .await
        {
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
        old: Option<&Arc<Record>>,
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
                });
            }
            return match self.0.origin.revalidate(object, head).await {
                Ok(Revalidation::Unchanged) => {
                    Ok(self.opened(object, head.clone(), Source::Revalidated, ticket))
                }
                Ok(Revalidation::Changed(head)) => {
                    Ok(self.opened(object, Arc::new(head), Source::Origin, ticket))
                }
                Err(error) => Err(self.origin_failed(object, error, ticket)),
            };
        }
        let Some(first) = first else {
            return self.find_head(object, ticket).await;
        };
        let permit = self.origin_permit().await;
        match self.0.origin.read(object, first.clone(), None).await {
            Ok(reply) => {
                let opened = self.opened(object, Arc::new(reply.head), Source::Origin, ticket);
                // An origin that knows no ranges sends more than was asked for.
                let bytes = reply.range.start..reply.range.end.min(first.end);
                Ok(self.pour_first(object, opened, bytes, reply.body.into(), ticket, permit))
            }
            // The first byte of an empty object can't be asked for.
            Err(origin::Error::RangeNotSatisfiable) => self.find_head(object, ticket).await,
            Err(error) => Err(self.origin_failed(object, error, ticket)),
        }
    }

    async fn find_head(&self, object: &ObjectId, ticket: Ticket) -> Result<Opened, Error> {
        match self.0.origin.head(object).await {
            Ok(head) => Ok(self.opened(object, Arc::new(head), Source::Origin, ticket)),
            Err(error) => Err(self.origin_failed(object, error, ticket)),
        }
    }

    /// Asks the home, else its stand-ins; `None` when none of them can help.
    async fn find_at_home(
        &self,
        question: &Question,
        first: Option<Range<u64>>,
        old: Option<&Arc<Record>>,
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
            match self.ask(&home, &want).await {
                Ok((found, body)) => {
                    let Some(head) = found.head.clone() else {
                        continue;
                    };
                    let now = Instant::now();
                    let record = Record {
                        known: Known::Present(Arc::new(head)),
                        copied: true,
                        fetched: now
                            .checked_sub(Duration::from_millis(found.age_ms))
                            .unwrap_or(now),
                        fresh_until: found.fresh_ms.map(|ms| now + Duration::from_millis(ms)),
                    };
                    let source = super::part::seen_from_here(found.source);
                    let opened = self.remember(object, record, source, ticket);
                    if found.bytes.is_empty() {
                        return Some(Ok(opened));
                    }
                    return Some(Ok(self.pour_first(
                        object,
                        opened,
                        found.bytes,
                        (home, body).into(),
                        ticket,
                        None,
                    )));
                }
                Err(peer::Error::Refused(refusal)) => match refusal.kind {
                    RefusalKind::Absent => {
                        let absent = Absent {
                            code: refusal.code,
                            message: refusal.message,
                        };
                        return Some(Err(self.absent(object, absent, ticket, true)));
                    }
                    RefusalKind::Version => return Some(Err(Error::VersionChanged)),
                    RefusalKind::Origin => {
                        let peer::Refusal {
                            status,
                            code,
                            message,
                            ..
                        } = refusal;
                        return Some(Err(Error::Relayed {
                            status,
                            code,
                            message,
                        }));
                    }
                    RefusalKind::Busy => {}
                },
                Err(error) => {
                    tracing::debug!(%object, home = home.name, %error, "the home did not answer")
                }
            }
        }
        None
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
        let end = last.map_or(part_end, |last| part_end.min(blocks.index(last) + 1));
        Some(u64::from(index) * blocks.size..u64::from(end) * blocks.size)
    }

    fn opened(&self, object: &ObjectId, head: Arc<Head>, source: Source, ticket: Ticket) -> Opened {
        let now = Instant::now();
        let fresh_until = if head.cache_control_has("no-cache") {
            Some(now)
        } else {
            self.0
                .settings
                .ttl
                .map(|ttl| now + jittered(ttl, object, now))
        };
        self.remember(
            object,
            Record {
                known: Known::Present(head),
                fetched: now,
                fresh_until,
                copied: false,
            },
            source,
            ticket,
        )
    }

    fn remember(
        &self,
        object: &ObjectId,
        record: Record,
        source: Source,
        ticket: Ticket,
    ) -> Opened {
        let private = matches!(&record.known, Known::Present(head) if is_private(head));
        if !private {
            self.0.store.put_head(object, record.clone(), ticket);
        }
        Opened {
            record: Arc::new(record),
            source: Some(source),
            fills: Vec::new(),
        }
    }

    fn absent(&self, object: &ObjectId, absent: Absent, ticket: Ticket, copied: bool) -> Error {
        let now = Instant::now();
        let error = Error::Absent {
            code: absent.code.clone(),
            message: absent.message.clone(),
        };
        let fresh_until = Some(now + self.0.settings.negative_ttl);
        self.0.store.put_head(
            object,
            Record {
                known: Known::Absent(absent),
                fetched: now,
                fresh_until,
                copied,
            },
            ticket,
        );
        error
    }

    fn origin_failed(&self, object: &ObjectId, error: origin::Error, ticket: Ticket) -> Error {
        match error {
            origin::Error::NotFound { code, message } => {
                self.absent(object, Absent { code, message }, ticket, false)
            }
            origin::Error::VersionChanged => Error::VersionChanged,
            error => {
                if error.is_outage() {
                    *self.0.outage.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(Instant::now() + OUTAGE_MEMORY);
                }
                Error::Origin(Arc::new(error))
            }
        }
    }

    fn is_out(&self) -> bool {
        self.0
            .outage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|until| Instant::now() < until)
    }

    fn may_be_stale(&self, old: Option<&Arc<Record>>) -> bool {
        old.is_some_and(|record| {
            let until = record
                .fresh_until
                .map(|until| until + self.0.settings.stale_if_error);
            matches!(record.known, Known::Present(_))
                && until.is_none_or(|until| Instant::now() < until)
        })
    }

    /// While S3 fails, the version that was current is better than none.
    fn or_stale(
        &self,
        found: Result<Opened, Error>,
        old: Option<Arc<Record>>,
    ) -> Result<Opened, Error> {
        match found {
            Err(error) if error.is_outage() && self.may_be_stale(old.as_ref()) => {
                let record = old.expect("a record that may be stale is there");
                tracing::debug!(%error, "the origin fails: the version held is served, stale");
                Ok(Opened {
                    record,
                    source: Some(Source::Stale),
                    fills: Vec::new(),
                })
            }
            found => found,
        }
    }
}

impl Error {
    /// S3 is away or overloaded, rather than of another mind.
    fn is_outage(&self) -> bool {
        match self {
            Self::Origin(error) => error.is_outage(),
            Self::Relayed { status, .. } => *status >= 500,
            Self::Timeout { .. } => true,
            Self::Absent { .. }
            | Self::Unsatisfiable { .. }
            | Self::VersionChanged
            | Self::NoMemory => false,
        }
    }
}

fn present(opened: Opened) -> Result<Opened, Error> {
    match &opened.record.known {
        Known::Present(_) => Ok(opened),
        Known::Absent(absent) => Err(Error::Absent {
            code: absent.code.clone(),
            message: absent.message.clone(),
        }),
    }
}

/// Within 10 % of `ttl`, so that what was read together does not expire together.
fn jittered(ttl: Duration, object: &ObjectId, now: Instant) -> Duration {
    let salt =
        xxhash_rust::xxh3::xxh3_64_with_seed(format!("{now:?}").as_bytes(), object.stable_hash());
    let percent = 90 + u32::try_from(salt % 21).expect("less than 21");
    ttl * percent / 100
}
