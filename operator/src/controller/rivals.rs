//! Other installations of the operator: whose a cache is, and whether that operator lives.
//!
//! A cache's status names the operator that looks after it. Another one leaves the cache alone until the first shows no sign of life, by its Lease, for a
//! while: two that each put right what the other has written would never end.

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

/// An operator whose Lease did not change for this long is gone. A new version of it is there sooner; a living one renews every two seconds.
const SILENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at a Lease.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of other operators.
#[derive(Debug, Default)]
pub(super) struct Rivals(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    signs: HashMap<String, Sign>,
    /// Caches that this process reported on, by uid.
    held: HashSet<String>,
    /// Operators that took a cache which this process held: they live, whether or not they have a Lease.
    takers: HashSet<String>,
    /// Caches whose other operator was named already.
    named: HashMap<String, String>,
}

/// The last sign of life of an operator, by our own clock.
#[derive(Clone, Debug)]
struct Sign {
    of_life: Life,
    since: Instant,
    asked: Instant,
}

/// What the cluster holds of an operator.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Life {
    /// Version of its Lease, which a living one renews.
    Lease(String),
    /// Its Lease can't be read, and it is granted rights in the cache's namespace.
    Granted,
    /// Nothing.
    None,
}

impl Rivals {
    /// This process looks after the cache.
    pub(super) fn holds(&self, identity: &Identity) {
        let mut known = self.lock();
        known.held.insert(identity.uid.clone());
        known.named.remove(&identity.uid);
    }

    /// Whether it was not said yet that the cache is the other's.
    pub(super) fn is_news(&self, identity: &Identity, other: &str) -> bool {
        let mut known = self.lock();
        if known.held.remove(&identity.uid) {
            known.takers.insert(other.to_owned());
        }
        known
            .named
            .insert(identity.uid.clone(), other.to_owned())
            .as_deref()
            != Some(other)
    }

    /// Forgets a cache that is gone.
    pub(super) fn forget(&self, identity: &Identity) {
        let mut known = self.lock();
        known.held.remove(&identity.uid);
        known.named.remove(&identity.uid);
    }

    /// The other operator that looks after the cache, if there is one and it lives.
    pub(super) async fn rival(
        &self,
        client: &Client,
        me: &str,
        identity: &Identity,
        status: Option<&FalconCacheStatus>,
    ) -> Option<String> {
        let other = status?.operator.as_ref()?;
        if *other == me || self.is_gone(client, identity, other).await {
            return None;
        }
        Some(other.clone())
    }

    /// Whether the operator has shown no sign of life for long enough.
    async fn is_gone(&self, client: &Client, identity: &Identity, other: &str) -> bool {
        let before = self.lock().signs.get(other).cloned();
        if let Some(sign) = &before
            && sign.asked.elapsed() < LOOK
        {
            return self.judge(other, sign);
        }
        let Some(of_life) = life(client, identity, other).await else {
            return false;
        };
        let now = Instant::now();
        let since = before
            .filter(|sign| sign.of_life == of_life)
            .map_or(now, |sign| sign.since);
        let sign = Sign {
            of_life,
            since,
            asked: now,
        };
        let gone = self.judge(other, &sign);
        self.lock().signs.insert(other.to_owned(), sign);
        gone
    }

    fn judge(&self, other: &str, sign: &Sign) -> bool {
        match sign.of_life {
            Life::Granted => false,
            Life::None if self.lock().takers.contains(other) => false,
            Life::Lease(_) | Life::None => sign.since.elapsed() >= SILENCE,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the cluster holds of the operator; nothing if that can't be asked now.
async fn life(client: &Client, identity: &Identity, other: &str) -> Option<Life> {
    let (namespace, name) = other.split_once('/').unwrap_or(("default", other));
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match leases.get_opt(name).await {
        Ok(Some(lease)) => {
            return lease.metadata.resource_version.map(Life::Lease);
        }
        Ok(None) => return Some(Life::None),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {}
        Err(_) => return None,
    }
    // An operator of some namespaces can't read Leases elsewhere. The chart names the binding of its rights in each of them as it names the Lease.
    let bindings: Api<PartialObjectMeta<RoleBinding>> =
        Api::namespaced(client.clone(), &identity.namespace);
    match bindings.get_opt(name).await {
        Ok(Some(_)) => Some(Life::Granted),
        Ok(None) => Some(Life::None),
        Err(_) => None,
    }
}
