//! Which other nodes there are: a fixed list, or a watch on what Kubernetes says is behind the cache's Service.
//!
//! The watch needs `get`, `list` and `watch` on `endpointslices.discovery.k8s.io` (or on `endpoints`, if that API is
//! chosen) in the node's own namespace, and nothing else: no pods, no services, no secrets.
//!
//! Deliberately absent: what a member's state means for the ring, and noticing that a peer is dead. A watch knows
//! nothing of the first and is too slow for the second; both are in `members`.

use std::time::Duration;

use futures::Stream;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;

pub use self::fixed::{PeerAddress, PeersError, fixed};
use self::follow::follow;
pub use self::host::Host;
use crate::members::DiscoveredNode;
use crate::peer::Contact;

mod candidate;
mod endpoints;
mod fixed;
mod follow;
mod host;
mod slices;

/// Ten seconds longer than a watch may be silent, so that only a dead connection reaches it.
const READ_TIMEOUT: Duration = Duration::from_secs(35);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The Kubernetes API that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedApi {
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlices,
    /// `v1` Endpoints, deprecated since Kubernetes 1.33: it has no zones, and does not show nodes that terminate.
    Endpoints,
}

/// The Kubernetes API can't be reached from here: there is no service account and no kubeconfig, or it can't be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up access to the Kubernetes API")]
pub struct NoCluster(#[source] Box<dyn std::error::Error + Send + Sync>);

/// A client of this pod's cluster (outside of one, of the kubeconfig's), set up for a long watch.
pub async fn client() -> Result<kube::Client, NoCluster> {
    let mut config = kube::Config::infer()
        .await
        .map_err(|error| NoCluster(error.into()))?;
    // The watch backs off by itself; retries below it would hide an outage for minutes.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A list has no timeout of its own, and a half-open connection would block it for a quarter of an hour.
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).map_err(|error| NoCluster(error.into()))
}

/// How peers reach the pod `name`, which listens on `port` of `host`.
pub fn contact(name: &str, host: &Host, port: u16) -> Contact {
    Contact {
        name: name.to_owned(),
        url: host.url(port),
    }
}

/// All nodes of the cache `id`, whenever one of them changes. `port` is for objects that name none.
///
/// Nothing comes before the first list is complete, or while the API server is down, so the last set stays in force.
/// The stream doesn't end.
pub fn watch(
    client: kube::Client,
    namespace: &str,
    id: &str,
    api: WatchedApi,
    port: u16,
) -> impl Stream<Item = Vec<DiscoveredNode>> + Send + Unpin + use<> {
    match api {
        WatchedApi::EndpointSlices => follow(
            kube::Api::<EndpointSlice>::namespaced(client, namespace),
            id,
            move |slices| slices::merge(slices, port),
        ),
        WatchedApi::Endpoints => follow(
            kube::Api::<Endpoints>::namespaced(client, namespace),
            id,
            move |endpoints| endpoints::merge(endpoints, port),
        ),
    }
}

#[cfg(test)]
mod tests;
