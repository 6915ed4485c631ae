//! For how long S3's word counts: fresh, to be asked again, or stale because S3 does not answer.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::lookup::Lookup;
use super::{Error, Freshness, Proxy, Requester};
use crate::members::random;
use crate::object::{Head, ObjectId, Scope, Source};
use crate::origin;
use crate::store::{Absent, Entry, EntryState, Ticket};

/// For how long S3 is taken to be away after it failed, when a version may be served stale meanwhile.
const OUTAGE_MEMORY: Duration = Duration::from_secs(1);

impl Proxy {
    /// This node is told of invalidations, so what it knows holds until it expires. Nobody tells a sidecar, nor a node whose
    /// lease has run out: it believes nothing beyond the requests that its lookup was made for, and its entries only say of
    /// which version blocks may be here.
    pub(super) fn believes(&self, now: Instant) -> bool {
        !self.0.members.is_sidecar() && self.0.members.holds_lease(now)
    }

    /// What was believed is forgotten before anything is believed once more after a lapse. Blocks stay: their version is in
    /// their name.
    pub(super) fn forget_on_lapse(&self) {
        let own = Arc::downgrade(&self.0);
        self.0.members.on_lapse(move || {
            if let Some(inner) = own.upgrade() {
                inner.store.forget_heads();
                inner.lookups.detach(&Scope::All);
            }
        });
    }

    /// True when the entry answers this lookup, made `now`.
    pub(super) fn is_usable(
        &self,
        entry: &Entry,
        freshness: &Freshness,
        by: Requester,
        now: Instant,
    ) -> bool {
        if !self.believes(now) || entry.copied && by == Requester::Peer {
            return false;
        }
        let fresh = entry.fresh_until.is_none_or(|until| now < until);
        match (freshness, &entry.state) {
            (Freshness::Revalidate, _) => false,
            (Freshness::Not(gone), EntryState::Present(head)) => fresh && head.etag != *gone,
            (Freshness::Stored | Freshness::Not(_), _) => fresh,
        }
    }

    pub(super) fn record_present(
        &self,
        object: &ObjectId,
        head: Arc<Head>,
        source: Source,
        ticket: Ticket,
    ) -> Lookup {
        let now = Instant::now();
        let fresh_until = if head.cache_control_has(&["no-cache"]) {
            Some(now)
        } else {
            self.0.settings.ttl.map(|ttl| now + jittered(ttl))
        };
        self.remember(
            object,
            Entry {
                state: EntryState::Present(head),
                fetched: now,
                fresh_until,
                copied: false,
            },
            source,
            ticket,
        )
    }

    pub(super) fn remember(
        &self,
        object: &ObjectId,
        entry: Entry,
        source: Source,
        ticket: Ticket,
    ) -> Lookup {
        let storable = !matches!(&entry.state, EntryState::Present(head) if !head.is_storable());
        let entry = self.with_what_was_known(object, entry);
        if storable {
            self.0.store.put_head(object, entry.clone(), ticket);
        }
        Lookup {
            entry,
            source: Some(source),
            fills: Vec::new(),
            handed: None,
        }
    }

    /// What S3 said of this version before, and left out now, is still true of it.
    fn with_what_was_known(&self, object: &ObjectId, mut entry: Entry) -> Entry {
        if let EntryState::Present(head) = &entry.state
            && let Some(Entry {
                state: EntryState::Present(before),
                ..
            }) = self.0.store.head(object)
            && let Some(head) = head.inheriting(&before)
        {
            entry.state = EntryState::Present(Arc::new(head));
        }
        entry
    }

    pub(super) fn record_absent(
        &self,
        object: &ObjectId,
        absent: Absent,
        ticket: Ticket,
        copied: bool,
    ) -> Error {
        let now = Instant::now();
        let error = Error::from(&absent);
        let fresh_until = Some(now + self.0.settings.negative_ttl);
        self.0.store.put_head(
            object,
            Entry {
                state: EntryState::Negative(Arc::new(absent)),
                fetched: now,
                fresh_until,
                copied,
            },
            ticket,
        );
        error
    }

    pub(super) fn record_origin_error(
        &self,
        object: &ObjectId,
        error: origin::Error,
        ticket: Ticket,
    ) -> Error {
        match error {
            origin::Error::NotFound {
                code,
                message,
                said,
            } => {
                let absent = Absent {
                    code,
                    message,
                    said,
                };
                self.record_absent(object, absent, ticket, false)
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

    pub(super) fn is_origin_down(&self) -> bool {
        self.0
            .outage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn may_be_stale(&self, old: Option<&Entry>) -> bool {
        self.believes(Instant::now())
            && old.is_some_and(|entry| {
                let until = entry
                    .fresh_until
                    .map(|until| until + self.0.settings.stale_if_error);
                matches!(entry.state, EntryState::Present(_))
                    && until.is_none_or(|until| Instant::now() < until)
            })
    }

    /// While S3 fails, the version that was current is better than none.
    pub(super) fn or_stale(
        &self,
        found: Result<Lookup, Error>,
        old: Option<Entry>,
    ) -> Result<Lookup, Error> {
        match found {
            Err(error) if error.is_outage() && self.may_be_stale(old.as_ref()) => {
                let entry = old.expect("an entry that may be stale is there");
                tracing::debug!(%error, "the origin fails: the version held is served, stale");
                Ok(Lookup {
                    entry,
                    source: Some(Source::Stale),
                    fills: Vec::new(),
                    handed: None,
                })
            }
            found => found,
        }
    }
}

/// Within 10 % of `ttl`, so that what was read together does not expire together.
fn jittered(ttl: Duration) -> Duration {
    let percent = 90 + u32::try_from(random() % 21).unwrap_or_default();
    ttl * percent / 100
}
