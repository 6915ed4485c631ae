//! `Resources` → the cluster: the only module that writes FalconCaches and what they own. `leader` writes the Lease,
//! and `controller` the Events.
//!
//! Each object is read first and written only if it differs, by server-side apply with one field manager: without
//! changes there are no writes, and fields that others set on our objects are kept. The process may die at any step:
//! the next reconcile starts at the first object and ends in the same state.

pub mod actions;
mod child;
mod compare;
mod converge;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::apply::actions::Actions;
use crate::apply::child::{Child, is_gone, read};
use crate::apply::converge::{Converged, Converger, Object};
use crate::crd::FalconCache;
use crate::crd::network::MonitorKind;
use crate::crd::status::FalconCacheStatus;
use crate::plan::Identity;
use crate::resources::meta::OPERATOR;
use crate::resources::{Resources, monitoring};

/// Which APIs of the Prometheus Operator are available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AvailableApis {
    /// PodMonitor.
    pub pod_monitor: bool,
    /// ServiceMonitor.
    pub service_monitor: bool,
}

/// What the API server returned; the status reports only this as existing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// The StatefulSet, if it exists.
    pub stateful_set: Option<Box<StatefulSet>>,
    /// An autoscaler owns the StatefulSet's `replicas`, which were not applied.
    pub replicas_autoscaled: bool,
}

/// Result of applying.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Everything is as desired.
    Done(Applied),
    /// An object has to be deleted first; the rest follows in a later reconcile.
    Waiting {
        /// For what.
        message: String,
    },
}

/// Kind of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The object did not exist.
    Create,
    /// The object differed.
    Update,
    /// The object is not wanted, or has an immutable field that differs.
    Delete,
}

/// A completed write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its kind.
    pub verb: Verb,
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Why applying failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object of that name belongs to someone else; it is not touched.
    #[error(
        "{kind} {name} already exists and belongs to {owner}, not to this cache: delete it (kubectl delete {} {name}) or rename the cache",
        .kind.to_ascii_lowercase()
    )]
    NameTaken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Its controller, or that it has none.
        owner: String,
    },
    /// Another cache in the namespace has the discovery id; nothing is applied.
    #[error(
        "spec.discovery.id {id} is already used by FalconCache {holder} in this namespace, and must be unique: choose another id, or delete {holder}"
    )]
    DiscoveryIdTaken {
        /// The id.
        id: String,
        /// The other cache.
        holder: String,
    },
    /// The API server rejects the content; the spec or the cluster has to change.
    #[error("the API server rejects {kind} {name}: {message}")]
    Rejected {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The API server's message.
        message: String,
    },
    /// A permission is missing.
    #[error("{kind} {name}: {message}")]
    Forbidden {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The API server's message.
        message: String,
    },
    /// Any failure that may succeed when retried.
    #[error("failed to {doing} {kind} {name}")]
    Api {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What failed, as a verb.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// Another process is the leader now.
    #[error("the lease is lost: writing is not allowed")]
    Fenced,
    /// No random bytes for the peer token.
    #[error("failed to generate the peer token: {0}")]
    Random(getrandom::Error),
}

/// Until when this process may write: the deadline published by the lease's renewal. A leader that was suspended is
/// stopped here, before its next write.
#[derive(Debug, Clone)]
pub struct Fence(watch::Receiver<Option<Instant>>);

impl Fence {
    /// Open until the received instant; `None`: closed.
    pub fn new(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(until)
    }

    fn check(&self) -> Result<(), Error> {
        let is_open = self.0.borrow().is_some_and(|until| Instant::now() < until);
        is_open.then_some(()).ok_or(Error::Fenced)
    }
}

/// Applies the resources of caches, and writes their status.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    fence: Fence,
    converger: Converger,
    actions: Actions,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer that remembers nothing yet.
    pub fn new(client: Client, fence: Fence) -> Self {
        Self {
            converger: Converger::new(client.clone(), fence.clone()),
            actions: Actions::new(client.clone(), fence.clone()),
            client,
            fence,
        }
    }

    /// The writes that are not part of applying.
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    /// Forgets a cache that is gone.
    pub fn forget(&self, identity: &Identity) {
        self.converger.forget(identity);
    }

    /// Applies `resources`. Completed writes are added to `changes` one by one, so that they are counted even if a
    /// later one fails.
    pub async fn apply(
        &self,
        resources: &Resources,
        apis: AvailableApis,
        changes: &mut Vec<Write>,
    ) -> Result<Outcome, Error> {
        // Destructured completely: an object that is not applied does not compile.
        let Resources {
            identity,
            service_account,
            role_binding,
            peer_secret,
            headless_service,
            client_service,
            network_policy,
            disruption_budget,
            pod_monitor,
            service_monitor,
            stateful_set,
        } = resources;
        let name = identity.name.as_str();
        let objects = [
            Object::wanted_or_gone(Child::new::<ServiceAccount>(name), service_account.as_ref()),
            Object::wanted(role_binding),
            Object::wanted(headless_service),
            Object::wanted(client_service),
            Object::wanted_or_gone(Child::new::<NetworkPolicy>(name), network_policy.as_ref()),
            Object::wanted_or_gone(
                Child::new::<PodDisruptionBudget>(name),
                disruption_budget.as_ref(),
            ),
        ];
        for object in &objects {
            if let Converged::Waiting(message) =
                self.converger.converge(identity, object, changes).await?
            {
                return Ok(Outcome::Waiting { message });
            }
        }
        let monitors = [
            (apis.pod_monitor, MonitorKind::PodMonitor, pod_monitor),
            (
                apis.service_monitor,
                MonitorKind::ServiceMonitor,
                service_monitor,
            ),
        ];
        for (_, kind, wanted) in monitors.into_iter().filter(|(served, ..)| *served) {
            self.apply_monitor(identity, kind, wanted.as_ref(), changes)
                .await?;
        }
        // Last, since its pods need everything above. The token comes right before it, and only while there is no
        // StatefulSet: otherwise each reconcile would write.
        if read::<StatefulSet>(&self.client, identity, name)
            .await?
            .is_none()
        {
            self.actions.ensure_token(peer_secret, changes).await?;
        }
        match self
            .converger
            .converge(identity, &Object::wanted(stateful_set), changes)
            .await?
        {
            Converged::Waiting(message) => Ok(Outcome::Waiting { message }),
            Converged::Gone => Ok(Outcome::Done(Applied::default())),
            Converged::Live {
                value,
                replicas_autoscaled,
            } => Ok(Outcome::Done(Applied {
                stateful_set: serde_json::from_value(value).ok(),
                replicas_autoscaled,
            })),
        }
    }

    /// Applies a monitor if that is permitted: the cache works without one.
    async fn apply_monitor(
        &self,
        identity: &Identity,
        kind: MonitorKind,
        wanted: Option<&DynamicObject>,
        changes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        let name = identity.name.as_str();
        let child = Child::with_resource(monitoring::resource(kind), name);
        let object = Object::wanted_or_gone(child, wanted);
        match self.converger.converge(identity, &object, changes).await {
            Err(Error::Forbidden { message, .. }) => {
                tracing::debug!(name, message, "failed to apply the monitor");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Reads without writing: for a paused cache, and for one whose spec is invalid.
    pub async fn read_only(&self, identity: &Identity) -> Result<Applied, Error> {
        Ok(Applied {
            stateful_set: read::<StatefulSet>(&self.client, identity, &identity.name)
                .await?
                .map(Box::new),
            replicas_autoscaled: false,
        })
    }

    /// Writes the status. The caller compares: an unchanged status is never written. With a `version`, only if the
    /// cache still has that resource version.
    pub async fn write_status(
        &self,
        identity: &Identity,
        status: &FalconCacheStatus,
        version: Option<&str>,
        changes: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.fence.check()?;
        let child = Child::new::<FalconCache>(&identity.name);
        // The response is not parsed: the spec may be invalid.
        let api: Api<DeserializeGuard<FalconCache>> =
            Api::namespaced(self.client.clone(), &identity.namespace);
        let mut body = json!({
            "apiVersion": FalconCache::api_version(&()), "kind": FalconCache::kind(&()),
            // With the uid: the status is never written to a new cache of the same name.
            "metadata": {"name": identity.name, "uid": identity.uid}, "status": status
        });
        if let Some(version) = version {
            body["metadata"]["resourceVersion"] = version.into();
        }
        match api
            .patch_status(
                &identity.name,
                &PatchParams::apply(OPERATOR).force(),
                &Patch::Apply(body),
            )
            .await
        {
            Ok(_) => {
                changes.push(child.write(Verb::Update));
                Ok(())
            }
            // Deleted in between: there is nothing to report on.
            Err(kube::Error::Api(status)) if is_gone(&status) => Ok(()),
            Err(source) => Err(child.error("update the status of", source)),
        }
    }
}
