//! The caches of one namespace, and which of them may have a discovery id.
//!
//! Pods find each other by the id alone, so two caches of one id would be one broken ring. The id belongs to the cache that runs under it; where none or
//! both do, to the elder.

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

/// For how long a list is believed: two hundred caches of one namespace that are looked at together need one.
const BELIEVED: Duration = Duration::from_secs(2);

/// A cache, as far as its ring matters.
#[derive(Clone, Debug, PartialEq)]
struct Sibling {
    identity: Identity,
    created: Option<Timestamp>,
    /// The id that its spec asks for.
    wants: String,
    /// The id that its pods have.
    has: Option<String>,
}

impl Sibling {
    fn of(cache: &DynamicObject) -> Self {
        let text = |path: &str| cache.data.pointer(path).and_then(|id| id.as_str());
        Self {
            identity: Identity::of(cache),
            created: cache
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0),
            wants: text("/spec/discovery/id").map_or_else(|| cache.name_any(), str::to_owned),
            has: text("/status/discoveryId").map(str::to_owned),
        }
    }

    fn holds(&self, id: &str) -> bool {
        self.has.as_deref() == Some(id)
    }
}

/// When it was asked for, and what came.
type List = (Instant, Arc<Vec<Sibling>>);

/// Lists by namespace.
#[derive(Debug, Default)]
pub(super) struct Siblings(Mutex<HashMap<String, List>>);

impl Siblings {
    /// The caches of the namespace, this one in its present form among them.
    async fn of(&self, client: &Client, me: &Identity) -> Result<Arc<Vec<Sibling>>, kube::Error> {
        let known = self.known(me);
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
        let all: Arc<Vec<Sibling>> = Arc::new(list.iter().map(Sibling::of).collect());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(me.namespace.clone(), (begin, Arc::clone(&all)));
        Ok(all)
    }

    /// That the cache's discovery id belongs to another one, if so.
    pub(super) async fn ring_taken(
        &self,
        client: &Client,
        plan: &Plan,
    ) -> Result<Option<apply::Error>, kube::Error> {
        let all = self.of(client, &plan.identity).await?;
        let holder = holder(&plan.identity, &plan.discovery_id, &all);
        Ok(holder.map(|other| apply::Error::RingTaken {
            id: plan.discovery_id.clone(),
            holder: other.identity.name.clone(),
        }))
    }

    fn known(&self, me: &Identity) -> Option<Arc<Vec<Sibling>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (listed, all) = known.get(&me.namespace)?;
        let knows_me = all.iter().any(|sibling| sibling.identity == *me);
        (listed.elapsed() < BELIEVED && knows_me).then(|| Arc::clone(all))
    }
}

/// The cache to which `id` belongs, if that is not `me`.
fn holder<'a>(me: &Identity, id: &str, all: &'a [Sibling]) -> Option<&'a Sibling> {
    let mine = all.iter().find(|sibling| sibling.identity.uid == me.uid)?;
    let age = |sibling: &Sibling| (sibling.created, sibling.identity.uid.clone());
    all.iter()
        .filter(|other| other.identity.uid != me.uid)
        .filter(|other| match (mine.holds(id), other.holds(id)) {
            (true, false) => false,
            (false, true) => true,
            _ => other.wants == id && age(other) < age(mine),
        })
        .min_by_key(|other| age(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str, second: i64, wants: &str, has: Option<&str>) -> Sibling {
        Sibling {
            identity: Identity {
                name: name.to_owned(),
                uid: name.to_owned(),
                ..Identity::default()
            },
            created: Timestamp::from_second(second).ok(),
            wants: wants.to_owned(),
            has: has.map(str::to_owned),
        }
    }

    fn holder_for(me: &str, id: &str, all: &[Sibling]) -> Option<String> {
        let me = Identity {
            uid: me.to_owned(),
            ..Identity::default()
        };
        holder(&me, id, all).map(|other| other.identity.name.clone())
    }

    #[test]
    fn an_id_belongs_to_the_cache_that_runs_under_it_and_else_to_the_elder() {
        let other = |name: &str| Some(name.to_owned());
        // Both are new.
        let all = [cache("a", 1, "ring", None), cache("b", 2, "ring", None)];
        assert_eq!(holder_for("a", "ring", &all), None);
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // The elder changes its id to that of the younger, which runs.
        let all = [
            cache("a", 1, "ring", Some("a")),
            cache("b", 2, "ring", Some("ring")),
        ];
        assert_eq!(holder_for("a", "ring", &all), other("b"));
        assert_eq!(holder_for("b", "ring", &all), None);
        // Both run under it, from before anybody looked.
        let all = [
            cache("a", 1, "ring", Some("ring")),
            cache("b", 2, "ring", Some("ring")),
        ];
        assert_eq!(holder_for("a", "ring", &all), None);
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // The elder is about to leave the id, and its pods still have it.
        let all = [
            cache("a", 1, "a", Some("ring")),
            cache("b", 2, "ring", None),
        ];
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // Made in the same second: one of them, and the same one for both.
        let all = [cache("a", 1, "ring", None), cache("b", 1, "ring", None)];
        assert_eq!(holder_for("a", "ring", &all), None);
        assert_eq!(holder_for("b", "ring", &all), other("a"));
        // Different ids.
        let all = [cache("a", 1, "a", Some("a")), cache("b", 2, "b", None)];
        assert_eq!(holder_for("b", "b", &all), None);
    }
}
