//! `Resources` → the cluster: the only file that writes.
//!
//! Each object is read first and written only if it differs, by server-side apply with one field manager: a quiet cluster sees no write, and what others
//! set on our objects stays theirs. Every step can be the last one of a process: the next run begins at the first object and ends in the same state.

mod compare;
mod converge;
mod repair;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::response::Status;
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::apply::converge::{Child, Converged, Object, Settled};
use crate::crd::FalconCache;
use crate::crd::door::MonitorKind;
use crate::crd::status::FalconCacheStatus;
use crate::plan::Identity;
use crate::resources::meta::OPERATOR;
use crate::resources::{Resources, monitoring};

/// Which kinds of the Prometheus operator the cluster serves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Served {
    /// PodMonitor.
    pub pod_monitor: bool,
    /// ServiceMonitor.
    pub service_monitor: bool,
}

/// What the cluster answered; only from this may be said that something is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The set of pods, if there is one.
    pub stateful_set: Option<Box<StatefulSet>>,
    /// An autoscaler has taken the set's `replicas`, which were left to it.
    pub replicas_taken: bool,
}

/// How far a run came.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Everything is as it should be.
    Done(Applied),
    /// Something of ours has to go first; the rest is for a later run.
    Waiting {
        /// For what.
        message: String,
    },
}

/// What a write did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// It was not there.
    Create,
    /// It differed.
    Update,
    /// It should not be there, or could not be changed.
    Delete,
}

/// A write that was done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// What it did.
    pub verb: Verb,
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object of that name belongs to somebody else; it is not touched.
    #[error(
        "{kind} {name} exists and belongs to {owner}, not to this cache: remove it (kubectl delete {} {name}) or give the cache another name",
        .kind.to_ascii_lowercase()
    )]
    Taken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Its controller, or that it has none.
        owner: String,
    },
    /// Another cache of the namespace has the discovery id; nothing is applied.
    #[error(
        "spec.discovery.id {id} belongs to FalconCache {holder} of this namespace, and two caches of one id would take each other's pods for their own: choose another id, or delete {holder}"
    )]
    RingTaken {
        /// The id.
        id: String,
        /// The other cache.
        holder: String,
    },
    /// The API server refuses the content; the spec or the cluster has to change.
    #[error("{kind} {name} is refused: {message}")]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The API server's words.
        message: String,
    },
    /// A right is missing.
    #[error("{kind} {name}: {message}")]
    Forbidden {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The API server's words.
        message: String,
    },
    /// Anything that another try may cure.
    #[error("{kind} {name} can't be {doing}")]
    Api {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// Another process leads now.
    #[error("the lease is lost: nothing is written")]
    Fenced,
    /// The token can't be made.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Until when this process may write: the lease, as whoever renews it sees it. A leader that was frozen finds out here, before its next write.
#[derive(Clone, Debug)]
pub struct Fence(watch::Receiver<Option<Instant>>);

impl Fence {
    /// Open until the received moment; `None`: closed.
    pub fn new(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(until)
    }

    fn open(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }
}

/// Where writes go, and what is known from earlier ones.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    fence: Fence,
    settled: Settled,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer with an empty memory.
    pub fn new(client: Client, fence: Fence) -> Self {
        Self {
            client,
            fence,
            settled: Settled::default(),
        }
    }

    /// Forgets a cache that is gone.
    pub fn forget(&self, identity: &Identity) {
        self.settled.forget(identity);
    }

    fn may_write(&self) -> Result<(), Error> {
        if self.fence.open() {
            Ok(())
        } else {
            Err(Error::Fenced)
        }
    }

    /// Makes the cluster hold what `resources` says. Writes are noted in `journal` as they happen, so that they are counted when a later one fails.
    pub async fn apply(
        &self,
        resources: &Resources,
        served: Served,
        journal: &mut Vec<Write>,
    ) -> Result<Outcome, Error> {
        // Taken apart whole: an object that nobody applies does not compile.
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
            Object::wanted_or_gone(Child::of::<ServiceAccount>(name), service_account.as_ref()),
            Object::wanted(role_binding),
            Object::wanted(headless_service),
            Object::wanted(client_service),
            Object::wanted_or_gone(Child::of::<NetworkPolicy>(name), network_policy.as_ref()),
            Object::wanted_or_gone(
                Child::of::<PodDisruptionBudget>(name),
                disruption_budget.as_ref(),
            ),
        ];
        for object in &objects {
            if let Converged::Waiting(message) = self.converge(identity, object, journal).await? {
                return Ok(Outcome::Waiting { message });
            }
        }
        let monitors = [
            (served.pod_monitor, MonitorKind::PodMonitor, pod_monitor),
            (
                served.service_monitor,
                MonitorKind::ServiceMonitor,
                service_monitor,
            ),
        ];
        for (_, kind, wanted) in monitors.into_iter().filter(|(served, ..)| *served) {
            let object = Object::wanted_or_gone(
                Child::foreign(monitoring::resource(kind), name),
                wanted.as_ref(),
            );
            match self.converge(identity, &object, journal).await {
                // A cache serves without being watched.
                Err(Error::Forbidden { message, .. }) => {
                    tracing::debug!(name, message, "no monitor is made");
                }
                other => drop(other?),
            }
        }
        // Last, since its pods need everything above. The token comes right before it, and only while there is no set: a write at every run otherwise.
        if self.read::<StatefulSet>(identity, name).await?.is_none() {
            self.ensure_token(peer_secret, journal).await?;
        }
        match self
            .converge(identity, &Object::wanted(stateful_set), journal)
            .await?
        {
            Converged::Waiting(message) => Ok(Outcome::Waiting { message }),
            Converged::Gone => Ok(Outcome::Done(Applied::default())),
            Converged::Live {
                value,
                replicas_taken,
            } => Ok(Outcome::Done(Applied {
                stateful_set: serde_json::from_value(value).ok(),
                replicas_taken,
            })),
        }
    }

    /// Reads what there is and writes nothing: for a paused cache, and for one whose spec can't be carried out.
    pub async fn look(&self, identity: &Identity) -> Result<Applied, Error> {
        Ok(Applied {
            stateful_set: self
                .read::<StatefulSet>(identity, &identity.name)
                .await?
                .map(Box::new),
            replicas_taken: false,
        })
    }

    /// Reports, if there is news. The caller compares: an unchanged status is never written. With a `version`, only onto that version of the cache.
    pub async fn report(
        &self,
        identity: &Identity,
        status: &FalconCacheStatus,
        version: Option<&str>,
        journal: &mut Vec<Write>,
    ) -> Result<(), Error> {
        self.may_write()?;
        let child = Child::of::<FalconCache>(&identity.name);
        // The answer is not read: the spec may be one that can't be.
        let api: Api<DeserializeGuard<FalconCache>> =
            Api::namespaced(self.client.clone(), &identity.namespace);
        let mut body = json!({
            "apiVersion": FalconCache::api_version(&()), "kind": FalconCache::kind(&()),
            // With the uid: a status is never given to a namesake that was made in between.
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
                journal.push(child.write(Verb::Update));
                Ok(())
            }
            // Deleted in between: nobody is left to be told.
            Err(kube::Error::Api(status)) if gone_or_replaced(&status) => Ok(()),
            Err(source) => Err(child.error("reported on", source)),
        }
    }

    async fn read<K>(&self, identity: &Identity, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &identity.namespace);
        api.get_opt(name)
            .await
            .map_err(|source| Child::of::<K>(name).error("read", source))
    }
}

fn gone_or_replaced(status: &Status) -> bool {
    status.is_not_found() || status.is_conflict()
}
