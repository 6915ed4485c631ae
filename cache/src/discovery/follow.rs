//! One watch on one kind of object → whole sets of nodes, through outages and lost events.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::StreamBackoff};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::members::DiscoveredNode;

/// The label by which a cache's Service is found; Kubernetes copies it to the slices and to the Endpoints.
const LABEL: &str = "falcon-discovery-id";

/// A watch that is silent for longer than this and five seconds is dead. kube's own 290 s would hide a half-open
/// connection for almost five minutes.
const WATCH_SECONDS: u32 = 25;

/// A rollout writes several slices in a row; each of its steps should change the ring once.
pub(super) const QUIET: Duration = Duration::from_millis(20);

/// Changes that come without a pause are passed on after this long.
pub(super) const AT_MOST: Duration = Duration::from_millis(200);

/// Failures further apart than this belong to different outages. Backing off and connecting can take half of it.
const OUTAGE_GAP: Duration = Duration::from_mins(3);

/// After this many refusals in a row to continue from the last known version, the list is read again: a server that was
/// restored from a backup may never reach that version.
pub(super) const REFUSALS: u32 = 5;

/// The sets that `merge` makes of the objects with label `id`. It gets them in the order in which they were written.
pub(super) fn follow<K, F>(
    api: kube::Api<K>,
    id: &str,
    merge: F,
) -> BoxStream<'static, Vec<DiscoveredNode>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Fn(&[&K]) -> Vec<DiscoveredNode> + Send + 'static,
{
    let config = watcher::Config::default()
        .labels(&format!("{LABEL}={id}"))
        .timeout(WATCH_SECONDS);
    let events = events(api, config);
    async_stream::stream! {
        let mut events = pin!(events);
        let mut held = KnownObjects::default();
        let mut outage = Outage::default();
        let mut published: Option<Vec<DiscoveredNode>> = None;
        let mut changed: Option<Changed> = None;
        loop {
            let event = match &changed {
                None => events.next().await,
                Some(changed) => timeout_at(changed.due(), events.next())
                    .await
                    .unwrap_or_default(),
            };
            match event {
                Some(Ok(event)) => {
                    outage.answered::<K>(&event);
                    if held.take(event) {
                        changed.get_or_insert_default().last = Instant::now();
                    }
                }
                Some(Err(error)) => outage.failed::<K>(&error),
                // `events` doesn't end, so this was the timeout.
                None => {
                    changed = None;
                    let found = merge(&held.objects());
                    if published.as_ref() != Some(&found) {
                        published = Some(found.clone());
                        yield found;
                    }
                }
            }
        }
    }
    .boxed()
}

/// kube's watch, which mostly recovers by itself; where it would not, it starts again from a list.
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
                    // It would ask for the same version forever.
                    Err(watcher::Error::WatchStartFailed(error)) => {
                        refusals += 1;
                        refusals == REFUSALS || status(error).is_some_and(|status| status.code == 410)
                    }
                    // An event that can't be parsed may have been a change; kube takes some of them for a status.
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

/// When the first unpublished change came, and when the last one.
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
struct KnownObjects<K> {
    objects: BTreeMap<String, K>,
    /// The list that is being read; it replaces the objects once it is complete.
    listing: BTreeMap<String, K>,
}

impl<K> Default for KnownObjects<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listing: BTreeMap::new(),
        }
    }
}

impl<K: Resource> KnownObjects<K> {
    /// True if there may be something new to publish.
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
                // A resumed watch may repeat a known object in an older state.
                let older = self.objects.get(&object.name_any()).is_some_and(|held| {
                    held.uid() == object.uid() && revision(held) > revision(&object)
                });
                if !older {
                    self.objects.insert(object.name_any(), object);
                }
                !older
            }
            Event::Delete(object) => {
                // Or report the end of an object whose name is in use again.
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

    /// In the order in which they were written.
    fn objects(&self) -> Vec<&K> {
        let mut objects: Vec<&K> = self.objects.values().collect();
        objects.sort_by_key(|object| revision(*object));
        objects
    }
}

/// The order in which objects were written; Kubernetes promises that within one kind.
fn revision(object: &impl Resource) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// Logs an outage of the API server once, however often the watch fails.
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
        // "Too old a version" is how a server asks for a new list.
        if cause.is_some_and(|status| status.code == 410) {
            return;
        }
        let what = K::plural(&());
        if !self.begins() {
            tracing::debug!(%error, "failed again to watch {what}");
        } else if cause.is_some_and(|status| status.code == 403) {
            tracing::warn!(%error, "failed to watch {what}: allow the service account get, list and watch on them; the ring stays as it is");
        } else {
            tracing::warn!(%error, "failed to watch {what}; the ring stays as it is");
        }
    }

    /// Notes a failure; true if it is the first of an outage. A watch without events does not say that it works again,
    /// so an outage is also over once nothing has failed for a while.
    fn begins(&mut self) -> bool {
        let last = self.last_failure.replace(Instant::now());
        last.is_none_or(|last| last.elapsed() > OUTAGE_GAP)
    }

    fn answered<K: Resource<DynamicType = ()>>(&mut self, event: &Event<K>) {
        // `Init` only says that a list will be requested.
        if !matches!(event, Event::Init) && self.last_failure.take().is_some() {
            tracing::info!("watching {} again", K::plural(&()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_of_once() {
        let mut outage = Outage::default();
        assert!(outage.begins());
        for seconds in [1, 30, 60, 90] {
            advance(Duration::from_secs(seconds)).await;
            assert!(!outage.begins());
        }
        advance(OUTAGE_GAP * 2).await;
        assert!(outage.begins());
        outage.answered::<k8s_openapi::api::core::v1::Endpoints>(&Event::Init);
        assert!(!outage.begins());
        outage.answered::<k8s_openapi::api::core::v1::Endpoints>(&Event::InitDone);
        assert!(outage.begins());
    }
}
