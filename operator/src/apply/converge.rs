//! Converges one object: read it, compare it, write it if it differs.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use crate::apply::child::Child;
use crate::apply::{Error, Fence, Verb, Write, compare};
use crate::crd::FalconCache;
use crate::plan::Identity;
use crate::resources::meta::{self, MANAGED_BY, OPERATOR};

/// Converges objects, and remembers how the API server normalised them.
#[derive(Clone)]
pub(super) struct Converger {
    client: Client,
    fence: Fence,
    normalised: NormalisedCache,
}

/// An object and its desired state; none: it must not exist.
pub(super) struct Object {
    child: Child,
    wanted: Option<Value>,
}

/// Who owns an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// This cache owns it, or it was created for a cache of this name and has lost its owner, as after `kubectl delete
    /// --cascade=orphan` or a restored backup.
    Ours,
    /// A deleted cache of this name owns it, and Kubernetes will garbage-collect it.
    Predecessor,
    /// Someone else's.
    Foreign,
}

impl Ownership {
    fn determine(live: &DynamicObject, identity: &Identity) -> Self {
        if live
            .owner_references()
            .iter()
            .any(|owner| owner.uid == identity.uid)
        {
            return Self::Ours;
        }
        match controller_of(live) {
            Some(owner) if owner.kind == FalconCache::kind(&()) && owner.name == identity.name => {
                Self::Predecessor
            }
            None if has_labels(live, identity) => Self::Ours,
            _ => Self::Foreign,
        }
    }
}

fn controller_of(live: &DynamicObject) -> Option<&OwnerReference> {
    live.owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))
}

/// Whether it has the labels of this cache's objects.
fn has_labels(live: &DynamicObject, identity: &Identity) -> bool {
    let has = |key: &str, value: &str| live.labels().get(key).is_some_and(|found| found == value);
    has(MANAGED_BY, OPERATOR)
        && meta::selector_labels(identity)
            .iter()
            .all(|(key, value)| has(key, value))
}

/// Result of converging an object.
pub(super) enum Converged {
    /// It is as desired.
    Live {
        /// As the API server returned it.
        value: Value,
        /// An autoscaler owns its `replicas`.
        replicas_autoscaled: bool,
    },
    /// It does not exist and is not wanted.
    Gone,
    /// It has to be deleted first.
    Waiting(String),
}

/// Objects whose values the API server normalises, such as CPU of `0.5` to `500m`. The digests of what was applied and
/// of what was returned tell that such an object is up to date, and it is not written again and again.
#[derive(Debug, Clone, Default)]
struct NormalisedCache(Arc<Mutex<HashMap<String, (u64, u64)>>>);

impl NormalisedCache {
    fn contains(&self, key: &str, wanted: &Value, live: &Value) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key) == Some(&(digest(wanted), digest(&compare::content(live))))
    }

    fn insert(&self, key: String, wanted: &Value, live: &Value) {
        let pair = (digest(wanted), digest(&compare::content(live)));
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, pair);
    }

    /// Removes a deleted cache.
    fn forget(&self, identity: &Identity) {
        let mine = format!("{}/{}/", identity.namespace, identity.name);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key, _| !key.starts_with(&mine));
    }
}

fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

impl Object {
    pub(super) fn wanted<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Self {
        Self::wanted_or_gone(Child::new::<K>(&object.name_any()), Some(object))
    }

    pub(super) fn wanted_or_gone<T: Serialize>(child: Child, wanted: Option<&T>) -> Self {
        Self {
            child,
            wanted: wanted.map(|object| serde_json::json!(object)),
        }
    }
}

impl Converger {
    /// Remembers nothing yet.
    pub(super) fn new(client: Client, fence: Fence) -> Self {
        Self {
            client,
            fence,
            normalised: NormalisedCache::default(),
        }
    }

    /// Forgets a cache that is gone.
    pub(super) fn forget(&self, identity: &Identity) {
        self.normalised.forget(identity);
    }

    /// Brings one object to its desired state. Completed writes are added to `changes`.
    pub(super) async fn converge(
        &self,
        identity: &Identity,
        object: &Object,
        changes: &mut Vec<Write>,
    ) -> Result<Converged, Error> {
        let child = &object.child;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &identity.namespace, &child.resource);
        let live = api
            .get_opt(&child.name)
            .await
            .map_err(|source| child.error("read", source))?;
        let ownership = live
            .as_ref()
            .map_or(Ownership::Ours, |live| Ownership::determine(live, identity));
        match (live, &object.wanted) {
            (None, None) => Ok(Converged::Gone),
            (None, Some(wanted)) => {
                self.write(&api, identity, child, wanted.clone(), Verb::Create, changes)
                    .await
            }
            // Not wanted and not ours: ignored.
            (Some(_), None) if ownership != Ownership::Ours => Ok(Converged::Gone),
            (Some(_), Some(_)) if ownership == Ownership::Predecessor => {
                Ok(Converged::Waiting(format!(
                    "{} {} belongs to a deleted cache of this name and is being garbage-collected",
                    child.resource.kind, child.name
                )))
            }
            (Some(live), Some(_)) if ownership == Ownership::Foreign => Err(Error::NameTaken {
                kind: child.resource.kind.clone(),
                name: child.name.clone(),
                owner: controller_of(&live).map_or_else(
                    || "no controller".to_owned(),
                    |owner| format!("{} {}", owner.kind, owner.name),
                ),
            }),
            (Some(live), None) if live.metadata.deletion_timestamp.is_some() => Ok(Converged::Gone),
            (Some(live), Some(_)) if live.metadata.deletion_timestamp.is_some() => {
                Ok(Converged::Waiting(format!(
                    "{} {} is being deleted",
                    child.resource.kind, child.name
                )))
            }
            (Some(live), None) => {
                self.delete(&api, child, &live, DeleteParams::background(), changes)
                    .await?;
                Ok(Converged::Gone)
            }
            (Some(live), Some(wanted)) => {
                self.update(&api, identity, child, &live, wanted.clone(), changes)
                    .await
            }
        }
    }

    async fn update(
        &self,
        api: &Api<DynamicObject>,
        identity: &Identity,
        child: &Child,
        live: &DynamicObject,
        mut wanted: Value,
        changes: &mut Vec<Write>,
    ) -> Result<Converged, Error> {
        let value = serde_json::json!(live);
        let kind = child.resource.kind.as_str();
        if let Some(field) = compare::changed_immutable_field(kind, &wanted, &value) {
            // Orphaned, its pods keep running and the next StatefulSet adopts them.
            let how = if kind == "StatefulSet" {
                DeleteParams::orphan()
            } else {
                DeleteParams::background()
            };
            self.delete(api, child, live, how, changes).await?;
            return Ok(Converged::Waiting(format!(
                "{kind} {} is being recreated, since its {field} is immutable",
                child.name
            )));
        }
        let replicas_autoscaled =
            kind == "StatefulSet" && compare::autoscaler_owns_replicas(live.managed_fields());
        if replicas_autoscaled && let Some(spec) = wanted["spec"].as_object_mut() {
            spec.remove("replicas");
        }
        let same = compare::contains(&wanted, &value)
            && !compare::owns_unwanted_fields(live.managed_fields(), OPERATOR, &wanted);
        if same
            || self
                .normalised
                .contains(&key(identity, child), &wanted, &value)
        {
            return Ok(Converged::Live {
                value,
                replicas_autoscaled,
            });
        }
        // With the uid: if the object is replaced in between, the API server rejects the write instead of changing the
        // new one.
        wanted["metadata"]["uid"] = serde_json::json!(live.metadata.uid);
        match self
            .write(api, identity, child, wanted, Verb::Update, changes)
            .await?
        {
            Converged::Live { value, .. } => Ok(Converged::Live {
                value,
                replicas_autoscaled,
            }),
            other => Ok(other),
        }
    }

    async fn write(
        &self,
        api: &Api<DynamicObject>,
        identity: &Identity,
        child: &Child,
        mut wanted: Value,
        verb: Verb,
        changes: &mut Vec<Write>,
    ) -> Result<Converged, Error> {
        self.fence.check()?;
        // Forced, but for our own fields only: nothing else is in the body.
        let how = PatchParams::apply(OPERATOR).force();
        let live = api
            .patch(&child.name, &how, &Patch::Apply(&wanted))
            .await
            .map_err(|source| child.error("apply", source))?;
        changes.push(child.write(verb));
        let value = serde_json::json!(live);
        if let Some(meta) = wanted["metadata"].as_object_mut() {
            meta.remove("uid");
        }
        if !compare::contains(&wanted, &value) {
            tracing::debug!(
                kind = child.resource.kind,
                name = child.name,
                "the API server normalised this object"
            );
            self.normalised
                .insert(key(identity, child), &wanted, &value);
        }
        Ok(Converged::Live {
            value,
            replicas_autoscaled: false,
        })
    }

    async fn delete(
        &self,
        api: &Api<DynamicObject>,
        child: &Child,
        live: &DynamicObject,
        how: DeleteParams,
        changes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.fence.check()?;
        let how = how.preconditions(Preconditions {
            uid: live.metadata.uid.clone(),
            resource_version: None,
        });
        match api.delete(&child.name, &how).await {
            Ok(_) => {
                changes.push(child.write(Verb::Delete));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(child.error("delete", source)),
        }
    }
}

fn key(identity: &Identity, child: &Child) -> String {
    format!(
        "{}/{}/{}/{}",
        identity.namespace, identity.name, child.resource.kind, child.name
    )
}
