//! Lookups: which version of an object is current. The entry held here, else the home's, else S3's word.
//!
//! The answer for an unknown object brings its first bytes along, so a small object costs one request.

mod answer_slot;
mod at_home;
mod at_origin;
mod found;
mod freshness;
mod single_flight;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::fetch::Fetcher;
use super::owners::Owners;
use super::read::{Freshness, ReadOptions, Requester};
use super::settings::ProxySettings;
use crate::fill::Version;
use crate::members::Members;
use crate::object::{ETag, ObjectId, Scope, Source};
use crate::origin::Origin;
use crate::store::{Entry, Store};

use at_home::AtHome;
use at_origin::AtOrigin;
use found::LookupKey;
use freshness::CachedHeads;
use single_flight::{SharedAnswer, SingleFlight};

pub(super) use found::Lookup;

/// Finds out which versions are current.
pub(super) struct Lookups {
    heads: Arc<CachedHeads>,
    pending: Arc<SingleFlight<LookupKey, Result<Lookup, Error>>>,
    home: AtHome,
    origin: AtOrigin,
    fetcher: Arc<Fetcher>,
    timeout: Duration,
}

impl Lookups {
    pub(super) fn new(
        settings: ProxySettings,
        store: Arc<Store>,
        members: Arc<Members>,
        origin: Origin,
        owners: Arc<Owners>,
        fetcher: Arc<Fetcher>,
    ) -> Self {
        let pending = Arc::<SingleFlight<LookupKey, _>>::default();
        let heads = Arc::new(CachedHeads::new(
            store,
            members,
            settings.ttl,
            settings.negative_ttl,
            settings.stale_if_error,
        ));
        let lapsed = Arc::downgrade(&pending);
        heads.on_lapse(move || {
            if let Some(pending) = lapsed.upgrade() {
                pending.detach(|_| true);
            }
        });
        Self {
            home: AtHome {
                heads: Arc::clone(&heads),
                owners,
                fetcher: Arc::clone(&fetcher),
            },
            origin: AtOrigin {
                heads: Arc::clone(&heads),
                origin,
                fetcher: Arc::clone(&fetcher),
            },
            heads,
            pending,
            fetcher,
            timeout: settings.timeout,
        }
    }

    /// What is held of the object, if that answers the read at `now`: its head, or that there is none.
    pub(super) fn cached(&self, opts: &ReadOptions, now: Instant) -> Option<Entry> {
        self.heads.usable(opts, now)
    }

    /// The object's current version. An absent object is an error.
    pub(super) async fn current(self: &Arc<Self>, opts: &ReadOptions) -> Result<Lookup, Error> {
        if let Some(entry) = self.heads.usable(opts, Instant::now()) {
            return Lookup::new(entry, Source::Memory);
        }
        let key = LookupKey {
            object: opts.object.clone(),
            at_origin: opts.by == Requester::Peer || self.home.is_here(&opts.object),
            freshness: opts.freshness.clone(),
        };
        let first = opts
            .body
            .then(|| self.fetcher.first_bytes(opts.range))
            .flatten();
        if opts.freshness == Freshness::Revalidate {
            // S3 may have answered a lookup that is out already before this one began.
            return self.look_up(key, first).await;
        }
        self.share(&key, first).await
    }

    /// S3 has another version than this one, which may be held as current here and at its home.
    pub(super) async fn replace_version(self: &Arc<Self>, version: &Version, by: Requester) {
        self.forget_version(&version.object, &version.etag);
        if by == Requester::Peer {
            // The node that asked this one hears of it, and tells the home.
            return;
        }
        let gone = Freshness::Not(version.etag.clone());
        let opts = ReadOptions::head(version.object.clone(), gone, by);
        let now = tokio::time::timeout(self.timeout, self.current(&opts)).await;
        if let Ok(Err(error)) = now {
            tracing::debug!(object = %version.object, %error, "failed to look up the version after one that is gone");
        }
    }

    /// Forgets the object's head if it is still this version's.
    pub(super) fn forget_version(&self, object: &ObjectId, etag: &ETag) {
        self.heads.remove(object, etag);
    }

    /// Later readers of what an invalidation names ask again.
    pub(super) fn detach(&self, scope: &Scope) {
        self.pending.detach(|key| scope.covers(&key.object));
    }

    /// The answer to a lookup that others may share.
    fn share(
        self: &Arc<Self>,
        key: &LookupKey,
        first: Option<Range<u64>>,
    ) -> SharedAnswer<Result<Lookup, Error>> {
        let share_sent = self.heads.are_believed(Instant::now());
        let (lookups, own) = (Arc::clone(self), key.clone());
        let lookup = async move { lookups.look_up(own, first).await };
        self.pending.share(key, share_sent, lookup)
    }

    async fn look_up(
        self: &Arc<Self>,
        key: LookupKey,
        first: Option<Range<u64>>,
    ) -> Result<Lookup, Error> {
        // Before anything is asked: what an invalidation overtakes is answered, but not stored.
        let ticket = self.heads.begin(&key.object);
        let old = self.heads.held(&key.object);
        let _expected = first.as_ref().map(|bytes| self.fetcher.expect(bytes));
        if !key.at_origin
            && let Some(found) = self
                .home
                .look_up(&key, first.clone(), old.as_ref(), ticket)
                .await
        {
            return self.or_stale(found, old);
        }
        if !key.at_origin && key.freshness != Freshness::Revalidate {
            // This node stands in for the home, and others may ask it as such: S3 is asked once for all of them.
            let key = LookupKey {
                at_origin: true,
                ..key
            };
            let found = self.share(&key, first).await;
            return self.or_stale(found, old);
        }
        let found = self.origin.look_up(&key, first, old.as_ref(), ticket).await;
        // A peer may be waiting for this lookup, too, and must not be answered with a copy.
        self.or_stale(found, old.filter(|old| !old.copied))
    }

    /// While S3 fails, the version that was current is better than none.
    fn or_stale(&self, found: Result<Lookup, Error>, old: Option<Entry>) -> Result<Lookup, Error> {
        match (found, old) {
            (Err(error), Some(old)) if error.is_outage() && self.heads.may_be_stale(&old) => {
                tracing::debug!(%error, "S3 fails: serving the version that is held, stale");
                Lookup::new(old, Source::Stale)
            }
            (found, _) => found,
        }
    }
}
