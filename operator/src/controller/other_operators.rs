//! Other installations of the operator: which one manages a cache, and whether it is alive.
//!
//! A cache's status names the operator that manages it. Another operator does not touch the cache until the first one's
//! Lease has expired: two operators that each revert what the other has written would never end.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, PartialObjectMeta};
use kube::client::Client;
use tokio::time::Instant;

use crate::crd::status::FalconCacheStatus;
use crate::plan::Identity;

/// An operator whose Lease did not change for this long is gone. An upgrade takes less; a live operator renews every
/// two seconds.
const GONE_AFTER: Duration = Duration::from_mins(1);
/// Interval between two checks of a Lease.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Other operators and the caches that they manage.
#[derive(Debug, Default)]
pub(super) struct OtherOperators(Mutex<Observations>);

#[derive(Debug, Default)]
struct Observations {
    liveness: HashMap<String, Liveness>,
    /// Caches that this process manages, by uid.
    owned: HashSet<String>,
    /// Operators that took over a cache from this process: they are alive, whether or not they have a Lease.
    took_over: HashSet<String>,
    /// Caches whose other operator was reported already.
    reported: HashMap<String, String>,
}

/// The last evidence that an operator is alive, by our own clock.
#[derive(Debug, Clone)]
struct Liveness {
    evidence: Evidence,
    since: Instant,
    checked: Instant,
}

/// Evidence of an operator in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Evidence {
    /// Resource version of its Lease, which a live operator renews.
    Lease(String),
    /// Its Lease can't be read, but it has a RoleBinding in the cache's namespace.
    Granted,
    /// Nothing.
    None,
}

impl OtherOperators {
    /// Records that this process manages the cache.
    pub(super) fn record_owned(&self, identity: &Identity) {
        let mut known = self.lock();
        known.owned.insert(identity.uid.clone());
        known.reported.remove(&identity.uid);
    }

    /// Records that the other operator manages the cache; whether that was not reported yet.
    pub(super) fn record_other(&self, identity: &Identity, other: &str) -> bool {
        let mut known = self.lock();
        if known.owned.remove(&identity.uid) {
            known.took_over.insert(other.to_owned());
        }
        known
            .reported
            .insert(identity.uid.clone(), other.to_owned())
            .as_deref()
            != Some(other)
    }

    /// Removes a deleted cache.
    pub(super) fn forget(&self, identity: &Identity) {
        let mut known = self.lock();
        known.owned.remove(&identity.uid);
        known.reported.remove(&identity.uid);
    }

    /// The other operator that manages the cache, if there is one and it is alive.
    pub(super) async fn other_operator(
        &self,
        client: &Client,
        me: &str,
        identity: &Identity,
        status: Option<&FalconCacheStatus>,
    ) -> Option<String> {
        let other = status?.operator.as_ref()?;
        if *other == me || self.check_gone(client, identity, other).await {
            return None;
        }
        Some(other.clone())
    }

    /// Whether there was no evidence of the operator for long enough.
    async fn check_gone(&self, client: &Client, identity: &Identity, other: &str) -> bool {
        let before = self.lock().liveness.get(other).cloned();
        if let Some(seen) = &before
            && seen.checked.elapsed() < CHECK_INTERVAL
        {
            return self.is_expired(other, seen);
        }
        let Some(evidence) = read_evidence(client, identity, other).await else {
            return false;
        };
        let now = Instant::now();
        let since = before
            .filter(|seen| seen.evidence == evidence)
            .map_or(now, |seen| seen.since);
        let seen = Liveness {
            evidence,
            since,
            checked: now,
        };
        let gone = self.is_expired(other, &seen);
        self.lock().liveness.insert(other.to_owned(), seen);
        gone
    }

    fn is_expired(&self, other: &str, seen: &Liveness) -> bool {
        match seen.evidence {
            Evidence::Granted => false,
            Evidence::None if self.lock().took_over.contains(other) => false,
            Evidence::Lease(_) | Evidence::None => seen.since.elapsed() >= GONE_AFTER,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Observations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evidence of the operator; `None` if the API server does not respond.
async fn read_evidence(client: &Client, identity: &Identity, other: &str) -> Option<Evidence> {
    let (namespace, name) = other.split_once('/').unwrap_or(("default", other));
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match leases.get_opt(name).await {
        Ok(Some(lease)) => {
            return lease.metadata.resource_version.map(Evidence::Lease);
        }
        Ok(None) => return Some(Evidence::None),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {}
        Err(_) => return None,
    }
    // An operator that is limited to some namespaces can't read Leases elsewhere. The chart gives its RoleBinding in
    // each of them the name of the Lease.
    let bindings: Api<PartialObjectMeta<RoleBinding>> =
        Api::namespaced(client.clone(), &identity.namespace);
    match bindings.get_opt(name).await {
        Ok(Some(_)) => Some(Evidence::Granted),
        Ok(None) => Some(Evidence::None),
        Err(_) => None,
    }
}
