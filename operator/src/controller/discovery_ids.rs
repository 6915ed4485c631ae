//! The caches of a namespace, and which of them owns a discovery id.
//!
//! Pods discover each other by the id alone, so two caches with the same id would be one broken ring. The id belongs to
//! the cache that uses it already; if none or both do, to the older one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::client::Client;
use tokio::time::Instant;

use crate::apply;
use crate::crd::FalconCache;
use crate::plan::{Identity, Plan};

/// For how long a list is cached: two hundred caches of one namespace that are reconciled together need one.
const LIST_TTL: Duration = Duration::from_secs(2);

/// A cache and its discovery id.
#[derive(Debug, Clone, PartialEq)]
struct DiscoveryClaim {
    identity: Identity,
    created: Option<Timestamp>,
    /// The id in its spec.
    requested: String,
    /// The id of its pods.
    current: Option<String>,
}

impl DiscoveryClaim {
    fn new(cache: &DynamicObject) -> Self {
        let text = |path: &str| cache.data.pointer(path).and_then(|id| id.as_str());
        Self {
            identity: Identity::from_object(cache),
            created: cache
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0),
            requested: text("/spec/discovery/id").map_or_else(|| cache.name_any(), str::to_owned),
            current: text("/status/discoveryId").map(str::to_owned),
        }
    }

    fn holds(&self, id: &str) -> bool {
        self.current.as_deref() == Some(id)
    }
}

/// A list and when it was requested.
type CachedList = (Instant, Arc<Vec<DiscoveryClaim>>);

/// Lists by namespace.
#[derive(Debug, Default)]
pub(super) struct DiscoveryIds(Mutex<HashMap<String, CachedList>>);

impl DiscoveryIds {
    /// The caches of the namespace, including this one's current generation.
    async fn list(
        &self,
        client: &Client,
        me: &Identity,
    ) -> Result<Arc<Vec<DiscoveryClaim>>, kube::Error> {
        let known = self.cached(me);
        if let Some(known) = known {
            return Ok(known);
        }
        let api: Api<DynamicObject> = Api::namespaced_with(
            client.clone(),
            &me.namespace,
            &ApiResource::erase::<FalconCache>(&()),
        );
        let begin = Instant::now();
        let list = api.list(&ListParams::default()).await?;
        let all: Arc<Vec<DiscoveryClaim>> =
            Arc::new(list.iter().map(DiscoveryClaim::new).collect());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(me.namespace.clone(), (begin, Arc::clone(&all)));
        Ok(all)
    }

    /// An error if the cache's discovery id belongs to another cache.
    pub(super) async fn discovery_id_conflict(
        &self,
        client: &Client,
        plan: &Plan,
    ) -> Result<Option<apply::Error>, kube::Error> {
        let all = self.list(client, &plan.identity).await?;
        let holder = holder(&plan.identity, &plan.discovery_id, &all);
        Ok(holder.map(|other| apply::Error::DiscoveryIdTaken {
            id: plan.discovery_id.clone(),
            holder: other.identity.name.clone(),
        }))
    }

    fn cached(&self, me: &Identity) -> Option<Arc<Vec<DiscoveryClaim>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (listed, all) = known.get(&me.namespace)?;
        let knows_me = all.iter().any(|claim| claim.identity == *me);
        (listed.elapsed() < LIST_TTL && knows_me).then(|| Arc::clone(all))
    }
}

/// The cache to which `id` belongs, if that is not `me`.
fn holder<'a>(me: &Identity, id: &str, all: &'a [DiscoveryClaim]) -> Option<&'a DiscoveryClaim> {
    let mine = all.iter().find(|claim| claim.identity.uid == me.uid)?;
    let age = |claim: &DiscoveryClaim| (claim.created, claim.identity.uid.clone());
    all.iter()
        .filter(|other| other.identity.uid != me.uid)
        .filter(|other| match (mine.holds(id), other.holds(id)) {
            (true, false) => false,
            (false, true) => true,
            _ => other.requested == id && age(other) < age(mine),
        })
        .min_by_key(|other| age(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str, second: i64, requested: &str, current: Option<&str>) -> DiscoveryClaim {
        DiscoveryClaim {
            identity: Identity {
                name: name.to_owned(),
                uid: name.to_owned(),
                ..Identity::default()
            },
            created: Timestamp::from_second(second).ok(),
            requested: requested.to_owned(),
            current: current.map(str::to_owned),
        }
    }

    fn holder_for(me: &str, id: &str, all: &[DiscoveryClaim]) -> Option<String> {
        let me = Identity {
            uid: me.to_owned(),
            ..Identity::default()
        };
        holder(&me, id, all).map(|other| other.identity.name.clone())
    }

    #[test]
    fn an_id_belongs_to_the_cache_that_uses_it_and_else_to_the_older_one() {
        let other = |name: &str| Some(name.to_owned());
        // Both are new.
        let all = [cache("a", 1, "ring", None), cache("b", 2, "ring", None)];
        assert_eq!(holder_for("a", "ring", &all), None);
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // The older one changes its id to that of the younger one, which uses it.
        let all = [
            cache("a", 1, "ring", Some("a")),
            cache("b", 2, "ring", Some("ring")),
        ];
        assert_eq!(holder_for("a", "ring", &all), other("b"));
        assert_eq!(holder_for("b", "ring", &all), None);
        // Both use it already.
        let all = [
            cache("a", 1, "ring", Some("ring")),
            cache("b", 2, "ring", Some("ring")),
        ];
        assert_eq!(holder_for("a", "ring", &all), None);
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // The older one is giving up the id, but its pods still have it.
        let all = [
            cache("a", 1, "a", Some("ring")),
            cache("b", 2, "ring", None),
        ];
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // Created in the same second: one of them, and the same one for both.
        let all = [cache("a", 1, "ring", None), cache("b", 1, "ring", None)];
        assert_eq!(holder_for("a", "ring", &all), None);
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // Different ids.
        let all = [cache("a", 1, "a", Some("a")), cache("b", 2, "b", None)];
        assert_eq!(holder_for("b", "b", &all), None);
    }
}
