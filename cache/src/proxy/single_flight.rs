//! One lookup at a time per object, shared by all whom its answer is recent enough for.
//!
//! At a node that is any that is out: an invalidation detaches it. No invalidation reaches a sidecar, and one may have passed by
//! a node without a lease, so there a lookup is
//! shared until it goes out and not after. Who comes later gathers behind it and shares the next one: a herd costs two
//! lookups, and the second brings no bytes, since the version is known by then and its first bytes are on their way.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use tokio::time::{Instant, timeout};

use super::lookup::Lookup;
use super::{Error, Freshness, Proxy};
use crate::object::{ObjectId, Scope};

/// So long a lookup waits for the one before it, where it must not share that one: a home may turn out to be unreachable
/// meanwhile, and a stand-in answer.
const TURN: Duration = Duration::from_millis(500);

/// The answer, on its way to all who wait for it.
type SharedLookup = Shared<BoxFuture<'static, Result<Lookup, Error>>>;

/// What a lookup is about, which others may share: the object, whether S3 is asked rather than of the home, and how current.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LookupKey {
    pub(super) object: ObjectId,
    pub(super) at_origin: bool,
    pub(super) freshness: Freshness,
}

/// A lookup that is out, or about to be.
#[derive(Debug)]
struct PendingLookup {
    lookup: SharedLookup,
    is_sent: Arc<AtomicBool>,
}

impl PendingLookup {
    /// Its answer is for those who waited for it: who comes after it finds what was stored, or asks anew.
    fn is_answered(&self) -> bool {
        self.lookup.peek().is_some()
    }
}

/// The lookups that are out, the newest of each kind.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    running: Mutex<HashMap<LookupKey, PendingLookup>>,
}

impl Lookups {
    /// Later readers ask anew.
    pub(super) fn detach(&self, scope: &Scope) {
        self.running().retain(|key, _| !scope.covers(&key.object));
    }

    fn remove(&self, key: &LookupKey, lookup: &SharedLookup) {
        let mut running = self.running();
        if running
            .get(key)
            .is_some_and(|current| current.lookup.ptr_eq(lookup))
        {
            running.remove(key);
        }
    }

    /// The lookup goes out. Under the lock: whoever shares it came before.
    fn mark_sent(&self, is_sent: &AtomicBool) {
        let _running = self.running();
        is_sent.store(true, Ordering::Relaxed);
    }

    fn running(&self) -> MutexGuard<'_, HashMap<LookupKey, PendingLookup>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// The answer to a lookup that others may share. Boxed: an answer may lead to another lookup.
    pub(super) fn lookup_shared(&self, key: LookupKey, first: Option<Range<u64>>) -> SharedLookup {
        let believes = self.believes(Instant::now());
        let (lookup, mine) = {
            let mut running = self.0.lookups.running();
            let before = running.get(&key).filter(|before| !before.is_answered());
            let joined = before
                .filter(|before| believes || !before.is_sent.load(Ordering::Relaxed))
                .map(|before| before.lookup.clone());
            if let Some(lookup) = joined {
                (lookup, false)
            } else {
                let before = before.map(|before| before.lookup.clone());
                let pending = self.clone().start_lookup(key.clone(), first, before);
                let lookup = pending.lookup.clone();
                running.insert(key.clone(), pending);
                (lookup, true)
            }
        };
        if mine {
            // The lookup outlives whoever began it.
            let (proxy, key, lookup) = (self.clone(), key, lookup.clone());
            tokio::spawn(async move {
                let _answer = lookup.clone().await;
                proxy.0.lookups.remove(&key, &lookup);
            });
        }
        lookup
    }

    /// A lookup that goes out when the one before it is answered, or has had its time.
    fn start_lookup(
        self,
        key: LookupKey,
        first: Option<Range<u64>>,
        before: Option<SharedLookup>,
    ) -> PendingLookup {
        let is_sent = Arc::new(AtomicBool::new(false));
        let sent = is_sent.clone();
        let find = async move {
            if let Some(before) = before {
                let _answered_or_not = timeout(TURN, before).await;
            }
            self.0.lookups.mark_sent(&sent);
            self.lookup_now(key, first).await
        };
        PendingLookup {
            lookup: find.boxed().shared(),
            is_sent,
        }
    }
}
