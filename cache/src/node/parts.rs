//! The parts of one node, and how they are wired together.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{NodeSettings, observe};
use crate::access::Access;
use crate::api::peer_routes::PeerApi;
use crate::api::{Api, ApiParts, ApiSettings, Ready};
use crate::invalidate::Invalidator;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::peer::{Contact, Peers, Token};
use crate::proxy::Proxy;
use crate::store::Store;
use crate::web::{Aftermath, ServedBuckets, Services, WebSettings};

/// What ends with the node.
#[derive(Clone, Default)]
pub(super) struct Stop {
    /// Ends the listeners for clients and peers.
    pub(super) clients: CancellationToken,
    /// Ends all the rest.
    pub(super) all: CancellationToken,
}

/// What reads, and what invalidates.
pub(super) struct Parts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) origin: Origin,
    pub(super) members: Arc<Members>,
    pub(super) peers: Peers,
    pub(super) proxy: Proxy,
    pub(super) invalidator: Invalidator,
}

impl Parts {
    /// Wires them, without sending anything to S3 or to peers.
    pub(super) async fn wire(
        settings: &NodeSettings,
        me: Contact,
        token: &Token,
        stop: &Stop,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let origin = Origin::new(settings.origin.clone(), metrics.clone()).await;
        let store = Store::new(settings.max_cache_size, settings.replica_share);
        let members = if settings.sidecar {
            Members::beside(me)
        } else {
            Members::new(me, settings.zone.clone())
        };
        let peers = Peers::new(token.clone());
        let proxy = Proxy::new(
            settings.proxy,
            Arc::new(store),
            origin.clone(),
            peers.clone(),
            members.clone(),
            metrics.clone(),
        );
        // This node takes part in its own barrier.
        let own = proxy.clone();
        let invalidator = Invalidator::new(
            members.clone(),
            Arc::new(peers.clone()),
            Arc::new(move |scope: &_| own.forget(scope)),
            metrics.clone(),
            stop.all.clone(),
        );
        observe(&metrics, &proxy, &members, &invalidator);
        Self {
            metrics,
            origin,
            members,
            peers,
            proxy,
            invalidator,
        }
    }

    /// What both APIs for clients work with.
    pub(super) fn services(&self, settings: WebSettings, access: Access) -> Arc<Services> {
        Arc::new(Services {
            node: self.members.name().to_owned(),
            proxy: self.proxy.clone(),
            origin: self.origin.clone(),
            aftermath: Aftermath::new(self.invalidator.clone()),
            metrics: self.metrics.clone(),
            access,
            settings,
        })
    }

    /// What the routes of the blob API work with.
    pub(super) fn api(
        &self,
        services: Arc<Services>,
        settings: ApiSettings,
        ready: watch::Receiver<Ready>,
    ) -> Arc<Api> {
        Api::new(ApiParts {
            services,
            invalidator: self.invalidator.clone(),
            members: self.members.clone(),
            ready,
            settings,
        })
    }

    /// What the routes for peers work with.
    pub(super) fn peer_api(&self, buckets: ServedBuckets, token: Token) -> PeerApi {
        PeerApi {
            proxy: self.proxy.clone(),
            members: self.members.clone(),
            invalidator: self.invalidator.clone(),
            token,
            buckets,
        }
    }
}
