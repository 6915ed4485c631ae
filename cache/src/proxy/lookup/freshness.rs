//! How long S3's word counts: the heads that are held, fresh, to be revalidated, or stale because S3 does not answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::members::{Members, random};
use crate::object::{Head, ObjectId};
use crate::origin;
use crate::proxy::error::Error;
use crate::proxy::read::{Freshness, ReadOptions, Requester};
use crate::store::{Absent, Entry, EntryState, Store, Ticket};

/// How long S3 is taken to be down after it failed, for versions that may be served stale meanwhile.
const OUTAGE_MEMORY: Duration = Duration::from_secs(1);

/// The heads that this node holds, and how long each may be believed.
pub(super) struct CachedHeads {
    store: Arc<Store>,
    members: Arc<Members>,
    ttl: Option<Duration>,
    negative_ttl: Duration,
    stale_if_error: Duration,
    /// Until when S3 is taken to be down.
    outage: Mutex<Option<Instant>>,
}

impl CachedHeads {
    pub(super) fn new(
        store: Arc<Store>,
        members: Arc<Members>,
        ttl: Option<Duration>,
        negative_ttl: Duration,
        stale_if_error: Duration,
    ) -> Self {
        Self {
            store,
            members,
            ttl,
            negative_ttl,
            stale_if_error,
            outage: Mutex::new(None),
        }
    }

    /// The ticket of a lookup that begins now.
    pub(super) fn begin(&self, object: &ObjectId) -> Ticket {
        self.store.begin(object)
    }

    /// What is held of an object, fresh or not.
    pub(super) fn held(&self, object: &ObjectId) -> Option<Entry> {
        self.store.head(object)
    }

    /// What is held of an object, if it answers this read at `now`.
    pub(super) fn usable(&self, opts: &ReadOptions, now: Instant) -> Option<Entry> {
        let entry = self.store.head(&opts.object)?;
        if !self.are_believed(now) || entry.copied && opts.by == Requester::Peer {
            return None;
        }
        let fresh = entry.fresh_until.is_none_or(|until| now < until);
        let is_usable = match (&opts.freshness, &entry.state) {
            (Freshness::Revalidate, _) => false,
            (Freshness::Not(gone), EntryState::Present(head)) => fresh && head.etag != *gone,
            (Freshness::Stored | Freshness::Not(_), _) => fresh,
        };
        is_usable.then_some(entry)
    }

    /// True while invalidations reach this node, so that what it holds counts until it expires. None reach a sidecar,
    /// or a node whose lease has run out: there, an answer counts for the requests that its lookup was made for and no
    /// others, and an entry only says of which version blocks may be here.
    pub(super) fn are_believed(&self, now: Instant) -> bool {
        self.members.holds_lease(now)
    }

    /// Calls `forget` after a lapse of the lease, when all heads are forgotten, before any is believed again. Blocks
    /// stay: their version is in their name.
    pub(super) fn on_lapse(&self, forget: impl Fn() + Send + Sync + 'static) {
        let store = Arc::downgrade(&self.store);
        self.members.on_lapse(move || {
            if let Some(store) = store.upgrade() {
                store.forget_heads();
            }
            forget();
        });
    }

    /// Records S3's word that this is the current version.
    pub(super) fn record_present(
        &self,
        object: &ObjectId,
        head: Arc<Head>,
        ticket: Ticket,
    ) -> Entry {
        let now = Instant::now();
        let fresh_until = if head.cache_control_has(&["no-cache"]) {
            Some(now)
        } else {
            self.ttl.map(|ttl| now + jittered(ttl))
        };
        let entry = Entry {
            state: EntryState::Present(head),
            fetched: now,
            fresh_until,
            copied: false,
        };
        self.record(object, entry, ticket)
    }

    /// Records what is known of an object, from S3 or from its home.
    pub(super) fn record(&self, object: &ObjectId, entry: Entry, ticket: Ticket) -> Entry {
        let storable = !matches!(&entry.state, EntryState::Present(head) if !head.is_storable());
        let entry = self.with_what_was_known(object, entry);
        if storable {
            self.store.put_head(object, entry.clone(), ticket);
        }
        entry
    }

    /// Records that there is no such object. Returns that as the error.
    pub(super) fn record_absent(
        &self,
        object: &ObjectId,
        absent: Absent,
        ticket: Ticket,
        copied: bool,
    ) -> Error {
        let now = Instant::now();
        let error = Error::from(&absent);
        let entry = Entry {
            state: EntryState::Negative(Arc::new(absent)),
            fetched: now,
            fresh_until: Some(now + self.negative_ttl),
            copied,
        };
        self.store.put_head(object, entry, ticket);
        error
    }

    /// Records what S3's refusal says of the object, or of S3. Returns the refusal as the error.
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
                    *self.outage.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(Instant::now() + OUTAGE_MEMORY);
                }
                Error::Origin(Arc::new(error))
            }
        }
    }

    /// Forgets the head if it is still this version's.
    pub(super) fn remove(&self, object: &ObjectId, etag: &crate::object::ETag) {
        self.store.remove_head(object, etag);
    }

    /// True when S3 failed a moment ago.
    pub(super) fn is_origin_down(&self) -> bool {
        self.outage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|until| Instant::now() < until)
    }

    /// True when the entry may be served although it has expired, while S3 fails.
    pub(super) fn may_be_stale(&self, entry: &Entry) -> bool {
        let now = Instant::now();
        let until = entry.fresh_until.map(|until| until + self.stale_if_error);
        self.are_believed(now)
            && matches!(entry.state, EntryState::Present(_))
            && until.is_none_or(|until| now < until)
    }

    /// What S3 said of this version before, and left out now, is still true of it.
    fn with_what_was_known(&self, object: &ObjectId, mut entry: Entry) -> Entry {
        if let EntryState::Present(head) = &entry.state
            && let Some(Entry {
                state: EntryState::Present(before),
                ..
            }) = self.store.head(object)
            && let Some(head) = head.inheriting(&before)
        {
            entry.state = EntryState::Present(Arc::new(head));
        }
        entry
    }
}

/// Within 10 % of `ttl`, so that what was read together does not expire together.
fn jittered(ttl: Duration) -> Duration {
    let percent = 90 + u32::try_from(random() % 21).unwrap_or_default();
    ttl * percent / 100
}
