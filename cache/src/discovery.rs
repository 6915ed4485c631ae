//! Who else is there: a static list, or a watch on what Kubernetes says is behind the cache's Service.
//!
//! The watch needs `get`, `list` and `watch` on `endpointslices.discovery.k8s.io` (or on `endpoints`, when that is asked
//! for) in the node's own namespace, and nothing else: no pods, no services, no secrets.
//!
//! Deliberately absent: what a member's state means for the ring, and noticing that a peer is dead. A watch is too slow
//! for the second and knows nothing of the first; both are `members`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Endpoints, ObjectReference};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::StreamBackoff};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

pub use self::fixed::fixed;
use crate::members::Found;
use crate::peer::Contact;

mod endpoints;
mod fixed;
mod slices;

/// The label by which a cache's Service is found; Kubernetes copies it to the slices and to the Endpoints.
pub const LABEL: &str = "falcon-discovery-id";

/// The port of a Service by which nodes talk to each other, where it has several.
const PORT_NAME: &str = "http";

/// A watch that is silent for longer than this and five seconds is dead. kube's own 290 s would hide a half-open
/// connection for almost five minutes.
const WATCH_SECONDS: u32 = 25;

/// Ten seconds more than a watch may last in silence, so that only a dead connection runs into it.
const READ_TIMEOUT: Duration = Duration::from_secs(35);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A rollout writes several slices in a row: one step of it should be one change of the ring.
const QUIET: Duration = Duration::from_millis(20);

/// Changes that never pause are passed on after this long.
const AT_MOST: Duration = Duration::from_millis(200);

/// Failures further apart than this belong to two outages. Back-off and connecting can take half of it.
const OUTAGE_GAP: Duration = Duration::from_secs(180);

/// So many refusals in a row to go on from the last known version, and the list is read again: a server that was restored
/// from a backup will never reach that version.
const REFUSALS: u32 = 5;

/// Which objects of Kubernetes are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlices,
    /// `v1` Endpoints, deprecated since Kubernetes 1.33: no zones, and nodes that terminate are just gone.
    Endpoints,
}

/// Why the nodes can't be known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry of the static list is no address of a peer.
    #[error("{peer:?} in --peers {reason}")]
    Peer {
        /// The entry as it was typed.
        peer: String,
        /// What is wrong with it and what it should be.
        reason: &'static str,
    },
    /// Two entries of the static list mean the same node.
    #[error("{first} and {second} in --peers are the same node: name each node once")]
    Twice {
        /// The first of the two.
        first: String,
        /// The second of the two.
        second: String,
    },
    /// The static list doesn't contain this node.
    #[error(
        "this node is {me}, which is not one of --peers {peers}: add it, or say with --host and --port which one it is"
    )]
    NotListed {
        /// This node, from `--host` and `--port`.
        me: String,
        /// The list.
        peers: String,
    },
    /// There is no cluster to ask, or no way to ask it.
    #[error("no access to the Kubernetes API: {0}")]
    NoCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A client of the cluster that this pod runs in (or of the kubeconfig, outside of one), set up for a long watch.
pub async fn client() -> Result<kube::Client, Error> {
    let mut config = kube::Config::infer()
        .await
        .map_err(|error| Error::NoCluster(error.into()))?;
    // The watch backs off by itself; retries below it would only hide an outage for minutes.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A list has no time-out of its own, and a half-open connection would hold it for a quarter of an hour.
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).map_err(|error| Error::NoCluster(error.into()))
}

/// How peers reach the pod `name`, which listens on `port` of `host` (an address or a name).
pub fn contact(name: &str, host: &str, port: u16) -> Contact {
    Contact {
        name: name.to_owned(),
        url: fixed::url(host, port),
    }
}

/// All nodes of the cache `id`, each time that one of them changes. `port` is for objects that name none.
///
/// Nothing comes before the first list is complete; while the API server is away nothing comes either, so the last set holds.
/// The stream doesn't end.
pub fn watch(
    client: kube::Client,
    namespace: &str,
    id: &str,
    api: Api,
    port: u16,
) -> impl Stream<Item = Vec<Found>> + Send + Unpin + use<> {
    match api {
        Api::EndpointSlices => follow(
            kube::Api::<EndpointSlice>::namespaced(client, namespace),
            id,
            move |slices| slices::merge(slices, port),
        ),
        Api::Endpoints => follow(
            kube::Api::<Endpoints>::namespaced(client, namespace),
            id,
            move |endpoints| endpoints::merge(endpoints, port),
        ),
    }
}

fn follow<K, F>(api: kube::Api<K>, id: &str, merge: F) -> BoxStream<'static, Vec<Found>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Fn(&[&K]) -> Vec<Found> + Send + 'static,
{
    let config = watcher::Config::default()
        .labels(&format!("{LABEL}={id}"))
        .timeout(WATCH_SECONDS);
    let events = events(api, config);
    async_stream::stream! {
        let mut events = pin!(events);
        let mut held = Held::default();
        let mut outage = Outage::default();
        let mut told: Option<Vec<Found>> = None;
        let mut changed: Option<Changed> = None;
        loop {
            let event = match &changed {
                None => events.next().await,
                Some(changed) => match timeout_at(changed.due(), events.next()).await {
                    Ok(event) => event,
                    Err(_) => None,
                },
            };
            match event {
                Some(Ok(event)) => {
                    outage.answered::<K>(&event);
                    if held.take(event) {
                        changed.get_or_insert_default().last = Instant::now();
                    }
                }
                Some(Err(error)) => outage.failed::<K>(&error),
                // `events` doesn't end: it was quiet.
                None => {
                    changed = None;
                    let found = merge(&held.objects());
                    if told.as_ref() != Some(&found) {
                        told = Some(found.clone());
                        yield found;
                    }
                }
            }
        }
    }
    .boxed()
}

/// kube's watch, which recovers by itself, begun again from the list where it would not.
fn events<K>(
    api: kube::Api<K>,
    config: watcher::Config,
) -> StreamBackoff<impl Stream<Item = watcher::Result<Event<K>>> + Send, watcher::DefaultBackoff>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    async_stream::stream! {
        loop {
            let mut watch = pin!(watcher(api.clone(), config.clone()));
            let mut refusals = 0;
            while let Some(event) = watch.next().await {
                let lost = match &event {
                    // It would ask for the same version for ever.
                    Err(watcher::Error::WatchStartFailed(error)) => {
                        refusals += 1;
                        refusals == REFUSALS || status(error).is_some_and(|status| status.code == 410)
                    }
                    // What could not be read may have been a change; kube takes some of it for a status.
                    Err(watcher::Error::WatchFailed(
                        kube::Error::SerdeError(_) | kube::Error::Api(_),
                    )) => true,
                    Err(_) => false,
                    Ok(_) => {
                        refusals = 0;
                        false
                    }
                };
                yield event;
                if lost {
                    break;
                }
            }
        }
    }
    .default_backoff()
}

fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Since when there is a change to tell, and when the last one came.
struct Changed {
    first: Instant,
    last: Instant,
}

impl Default for Changed {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            first: now,
            last: now,
        }
    }
}

impl Changed {
    fn due(&self) -> Instant {
        (self.last + QUIET).min(self.first + AT_MOST)
    }
}

/// The objects as last seen, by name.
struct Held<K> {
    objects: BTreeMap<String, K>,
    /// The list that is being read; it takes the objects' place when it is complete.
    listing: BTreeMap<String, K>,
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listing: BTreeMap::new(),
        }
    }
}

impl<K: Resource> Held<K> {
    /// True when there may be something new to tell.
    fn take(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(object) => {
                self.listing.insert(object.name_any(), object);
                false
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                true
            }
            Event::Apply(object) => {
                // A watch that is resumed may repeat what is known, in an older state.
                let older = self.objects.get(&object.name_any()).is_some_and(|held| {
                    held.uid() == object.uid() && revision(held) > revision(&object)
                });
                if !older {
                    self.objects.insert(object.name_any(), object);
                }
                !older
            }
            Event::Delete(object) => {
                // Or tell of the end of one whose name is in use again.
                let ended = self
                    .objects
                    .get(&object.name_any())
                    .is_some_and(|held| held.uid() == object.uid());
                if ended {
                    self.objects.remove(&object.name_any());
                }
                ended
            }
        }
    }

    /// The one written last comes last.
    fn objects(&self) -> Vec<&K> {
        let mut objects: Vec<&K> = self.objects.values().collect();
        objects.sort_by_key(|object| revision(*object));
        objects
    }
}

/// When the object was written; Kubernetes promises an order of these numbers within one kind.
fn revision(object: &impl Resource) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Says once that the cluster can't be asked, however often it is tried.
#[derive(Default)]
struct Outage {
    last_failure: Option<Instant>,
}

impl Outage {
    fn failed<K: Resource<DynamicType = ()>>(&mut self, error: &watcher::Error) {
        let cause = match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => status(error),
            watcher::Error::WatchError(status) => Some(&**status),
            watcher::Error::NoResourceVersion => None,
        };
        // Too old a version is how a server asks for a new list.
        if cause.is_some_and(|status| status.code == 410) {
            return;
        }
        let now = Instant::now();
        let known = self
            .last_failure
            .is_some_and(|last| now.duration_since(last) < OUTAGE_GAP);
        self.last_failure = Some(now);
        let what = K::plural(&());
        if known {
            tracing::debug!(%error, "still can't follow {what}");
        } else if cause.is_some_and(|status| status.code == 403) {
            tracing::warn!(%error, "can't follow {what}: the service account needs get, list and watch on them; the ring stays as it is");
        } else {
            tracing::warn!(%error, "can't follow {what}; the ring stays as it is");
        }
    }

    fn answered<K: Resource<DynamicType = ()>>(&mut self, event: &Event<K>) {
        // `Init` only says that a list will be asked for.
        if !matches!(event, Event::Init) && self.last_failure.take().is_some() {
            tracing::info!("following {} again", K::plural(&()));
        }
    }
}

/// A node as one object of Kubernetes names it.
struct Candidate {
    name: String,
    at: SocketAddr,
    zone: Option<String>,
    serving: bool,
    terminating: bool,
}

/// One address family, one entry a node; sorted by name. The later of two equals holds.
fn settle(mut candidates: Vec<Candidate>) -> Vec<Found> {
    // A dual-stack Service names each pod twice. Both families lead to it; one must be chosen, the same on all nodes.
    if candidates.iter().any(|candidate| candidate.at.is_ipv4()) {
        candidates.retain(|candidate| candidate.at.is_ipv4());
    }
    let rank = |candidate: &Candidate| (!candidate.terminating, candidate.serving);
    let mut best: HashMap<String, Candidate> = HashMap::new();
    for candidate in candidates {
        let better = best
            .get(&candidate.name)
            .is_none_or(|held| rank(&candidate) >= rank(held));
        if better {
            best.insert(candidate.name.clone(), candidate);
        }
    }
    let mut found: Vec<Found> = best
        .into_values()
        .map(|candidate| Found {
            url: format!("http://{}", candidate.at),
            name: candidate.name,
            zone: candidate.zone,
            serving: candidate.serving,
            terminating: candidate.terminating,
        })
        .collect();
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

/// The pod's name, which a restart doesn't change; else the host's, else the address.
fn name(target: Option<&ObjectReference>, hostname: Option<&str>, ip: IpAddr) -> String {
    let pod = target
        .filter(|target| target.kind.as_deref().is_none_or(|kind| kind == "Pod"))
        .and_then(|target| target.name.as_deref());
    [pod, hostname]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .map_or_else(|| ip.to_string(), str::to_owned)
}

/// The port named `http`, else the only one, else `fallback`.
fn port<'a>(
    ports: impl Iterator<Item = (Option<&'a str>, Option<i32>)> + Clone,
    fallback: u16,
) -> u16 {
    let mut named = ports.clone().filter(|(name, _)| *name == Some(PORT_NAME));
    let mut all = ports;
    let (chosen, only) = (named.next(), all.next().filter(|_| all.next().is_none()));
    chosen
        .or(only)
        .and_then(|(_, number)| u16::try_from(number?).ok())
        .filter(|number| *number != 0)
        .unwrap_or(fallback)
}

/// An address that a node can have. The API server refuses others, but slices are also written by hand.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

#[cfg(test)]
mod tests;
