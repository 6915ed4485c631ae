//! The listeners of one node, and what is served at each.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::parts::Stop;
use crate::api::peer_routes::PeerApi;
use crate::api::{self, Api};
use crate::gateway::{self, GatewaySettings};
use crate::server::{self, FastPath, Limits, Listener, WriteScheduler};
use crate::web::dialect::Dialect;
use crate::web::{Hits, Services, error_document};

/// The ports, bound before the node starts.
#[derive(Debug)]
pub struct Listeners {
    /// For clients and peers.
    pub main: TcpListener,
    /// For probes and metrics.
    pub admin: TcpListener,
    /// For S3's clients, where that gateway is on.
    pub s3: Option<TcpListener>,
}

/// What is served.
pub(super) struct Served {
    pub(super) services: Arc<Services>,
    pub(super) api: Arc<Api>,
    pub(super) peers: PeerApi,
    pub(super) gateway: GatewaySettings,
}

/// The listeners, being served. Each gives the connections that it had to cut.
pub(super) struct Servers {
    main: JoinHandle<usize>,
    s3: Option<JoinHandle<usize>>,
    admin: JoinHandle<usize>,
}

impl Servers {
    /// Answers at each of them from now on, until it is stopped.
    pub(super) fn open(listeners: Listeners, served: Served, limits: &Limits, stop: &Stop) -> Self {
        let Served {
            services,
            api,
            peers,
            gateway,
        } = served;
        let scheduler = Arc::<WriteScheduler>::default();
        let listener = |name, dialect, hits: Option<Hits>, stop: &CancellationToken| Listener {
            name,
            error_body: error_document::of_server(dialect),
            limits: limits.clone(),
            fast: hits.map(|hits| Arc::new(hits) as Arc<dyn FastPath>),
            scheduler: Arc::clone(&scheduler),
            metrics: Arc::clone(&services.metrics),
            stop: stop.clone(),
        };
        let peers = api::peer_routes::router(peers, services.access.is_guarded());
        let routes = api::router(&api, peers);
        let main = listener("blob", Dialect::Blob, Some(api::hits(&api)), &stop.clients);
        let s3 = listeners.s3.map(|socket| {
            let hits = gateway::hits(&services, gateway.clone());
            let s3 = listener("s3", Dialect::S3, hits, &stop.clients);
            tokio::spawn(server::serve(
                socket,
                gateway::router(&services, gateway),
                s3,
            ))
        });
        let admin = listener("admin", Dialect::Blob, None, &stop.all);
        Self {
            main: tokio::spawn(server::serve(listeners.main, routes, main)),
            s3,
            admin: tokio::spawn(server::serve(
                listeners.admin,
                api::admin_router(&api),
                admin,
            )),
        }
    }

    /// Waits until the listeners for clients have ended, which were stopped; returns the connections that had to be
    /// cut.
    pub(super) async fn clients_ended(&mut self) -> usize {
        let mut cut = (&mut self.main).await.unwrap_or_default();
        if let Some(s3) = self.s3.take() {
            cut += s3.await.unwrap_or_default();
        }
        cut
    }

    /// Waits until the listener for probes has ended, which was stopped.
    pub(super) async fn admin_ended(self) {
        let _cut = self.admin.await;
    }
}
