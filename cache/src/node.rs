//! One node: its parts wired together, its listeners opened, and its way out. `main` runs one of them, `dev` several.

mod observe;
mod readiness;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::access::{self, Access};
use crate::api::peer_routes::PeerApi;
use crate::api::{self, Aftermath, Api, ApiParts, Hits, Ready};
use crate::gateway;
use crate::invalidate::Invalidator;
use crate::members::heartbeat::{self, HeartbeatClient};
use crate::members::{DiscoveredNode, Members};
use crate::metrics::Metrics;
use crate::origin::{self, Origin};
use crate::peer::{Contact, Peers, Token};
use crate::proxy::{self, Proxy};
use crate::server::{self, FastPath, Limits, Listener, WriteScheduler};
use crate::store::Store;
use observe::observe;
use readiness::{leaving, ready_while_its_name_is_its_own};

/// How long a node waits at start for the answers to its heartbeats. A member that is unreachable by then is told of
/// nothing that this node does, and this node is told of nothing by it: it may start.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(3);
/// How long a node that leaves waits for those that owe it the answer to an invalidation.
const COLLECT: Duration = Duration::from_secs(3);
/// Between two looks at files that may have been changed under the node.
const REREAD: Duration = Duration::from_secs(1);
/// Pause before S3 is asked once more after it did not answer at the start: doubled each time, from the first to the last.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

/// What one node is made of.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its own name and address.
    pub me: Contact,
    /// Its zone, where it has one.
    pub zone: Option<String>,
    /// It is beside the ring and not in it: it owns nothing, and believes nothing that it would have to be told is over.
    pub sidecar: bool,
    /// Bytes of memory for objects.
    pub cache_bytes: u64,
    /// How many of them may hold copies of what other nodes own.
    pub replica_bytes: u64,
    /// How it reads.
    pub proxy: proxy::ProxySettings,
    /// Where S3 is.
    pub origin: origin::OriginSettings,
    /// What the routes may do.
    pub api: api::ApiSettings,
    /// What the S3 gateway does.
    pub gateway: gateway::GatewaySettings,
    /// Who may do what; `None`: everybody everything.
    pub access_file: Option<PathBuf>,
    /// What connections may cost.
    pub limits: Limits,
    /// The token shared by the nodes.
    pub peer_token_file: Option<PathBuf>,
}

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

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The S3 endpoint is no URL.
    #[error(transparent)]
    Endpoint(#[from] origin::InvalidEndpoint),
    /// There is no thread for the heartbeat.
    #[error("no thread for the heartbeat")]
    Heartbeat(#[source] std::io::Error),
    /// Nobody could be told from anybody.
    #[error(transparent)]
    Access(#[from] access::Error),
    /// The peer token can't be read.
    #[error("the peer token in {} can't be used", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
}

/// The listeners, being served. Each gives the connections that it had to cut.
struct Servers {
    main: JoinHandle<usize>,
    s3: Option<JoinHandle<usize>>,
    admin: JoinHandle<usize>,
}

/// A node that runs.
pub struct Node {
    proxy: Proxy,
    members: Arc<Members>,
    origin: Origin,
    api: Arc<Api>,
    ready: watch::Sender<Ready>,
    stop_main: CancellationToken,
    stop_all: CancellationToken,
    servers: Servers,
    heartbeat_client: Arc<dyn HeartbeatClient>,
    invalidator: Invalidator,
    tasks: TaskTracker,
    /// A node that is dropped ends too: its heartbeat does not end with the runtime.
    _end: DropGuard,
}

impl Node {
    /// Starts a node whose fellow nodes `discovery` tells: the whole set, each time that it changes.
    pub async fn start(
        settings: NodeSettings,
        listeners: Listeners,
        discovery: BoxStream<'static, Vec<DiscoveredNode>>,
    ) -> Result<Self, Error> {
        let token = token(settings.peer_token_file)?;
        let access = Access::load(settings.access_file)?;
        let metrics = Arc::new(Metrics::new());
        let origin = Origin::new(settings.origin, metrics.clone()).await?;
        let store = Arc::new(Store::new(settings.cache_bytes, settings.replica_bytes));
        let members = members(settings.me, settings.zone, settings.sidecar);
        let peers = Peers::new(token.clone());
        let proxy = Proxy::new(
            settings.proxy,
            store,
            origin.clone(),
            peers.clone(),
            members.clone(),
            metrics.clone(),
        );
        let (stop_main, stop_all) = (CancellationToken::new(), CancellationToken::new());
        let invalidator = barrier(&proxy, &members, &peers, &metrics, &stop_all);
        let (ready, is_ready) = watch::channel(Ready::No("the ring is not known yet".into()));
        let api = Api::new(ApiParts {
            proxy: proxy.clone(),
            origin: origin.clone(),
            invalidator: invalidator.clone(),
            aftermath: Aftermath::new(invalidator.clone()),
            members: members.clone(),
            metrics: metrics.clone(),
            access: access.clone(),
            ready: is_ready,
            settings: settings.api.clone(),
        });
        observe(&metrics, &proxy, &members, &invalidator);
        let peer_api = PeerApi {
            proxy: proxy.clone(),
            members: members.clone(),
            invalidator: invalidator.clone(),
            token: token.clone(),
            settings: Arc::new(settings.api.clone()),
        };
        let servers = Servers::open(
            listeners,
            &api,
            peer_api,
            settings.gateway,
            &settings.limits,
            (&stop_main, &stop_all),
        );
        heartbeat::start(members.clone(), token.clone(), stop_all.clone())
            .map_err(Error::Heartbeat)?;
        let node = Self {
            proxy,
            members,
            origin,
            api,
            ready,
            stop_main,
            servers,
            heartbeat_client: Arc::new(peers),
            invalidator,
            tasks: TaskTracker::new(),
            _end: stop_all.clone().drop_guard(),
            stop_all,
        };
        node.follow(discovery, token, access);
        Ok(node)
    }

    /// The decision, for what is not HTTP.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Who is known.
    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// What the routes of the blob API work with, for whoever asks them without a socket.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Whether it may be sent requests; changes as it starts and leaves.
    pub fn ready(&self) -> watch::Receiver<Ready> {
        self.ready.subscribe()
    }

    /// Asks S3 for the bucket until it answers, in a task of its own, and says what is wrong if anything is. The node
    /// serves meanwhile.
    pub fn check_origin(&self, bucket: Option<&str>) {
        let (origin, Some(bucket)) = (self.origin.clone(), bucket.map(str::to_owned)) else {
            return;
        };
        let stop = self.stop_all.clone();
        self.tasks.spawn(async move {
            tokio::select! { () = until_it_answers(&origin, &bucket) => {}, () = stop.cancelled() => {} }
        });
    }

    /// Leaves in order: not ready, out of the ring, then what runs is finished, then the listeners close. Returns the
    /// connections that had to be cut.
    pub async fn leave(self) -> usize {
        self.ready.send_replace(leaving());
        // Peers hear of it with the next heartbeat and ask others from then on; what they asked already is finished.
        self.members.leave();
        heartbeat::send_leave(&self.members, &self.heartbeat_client).await;
        self.invalidator.collected(COLLECT).await;
        self.stop_main.cancel();
        let mut cut = self.servers.main.await.unwrap_or_default();
        if let Some(s3) = self.servers.s3 {
            cut += s3.await.unwrap_or_default();
        }
        self.origin.settled().await;
        self.stop_all.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let _admin_cut = self.servers.admin.await;
        cut
    }

    /// The tasks that keep the node's picture of the others true.
    fn follow(
        &self,
        mut discovery: BoxStream<'static, Vec<DiscoveredNode>>,
        token: Token,
        access: Access,
    ) {
        let spawn = |task: futures::future::BoxFuture<'static, ()>| {
            let stop = self.stop_all.clone();
            self.tasks.spawn(async move {
                tokio::select! { () = task => {}, () = stop.cancelled() => {} }
            });
        };
        let members = self.members.clone();
        let (known, mut is_known) = watch::channel(false);
        spawn(Box::pin(async move {
            while let Some(found) = discovery.next().await {
                members.apply_discovery(found);
                known.send_replace(true);
            }
            // A static list is told once and holds.
            std::future::pending::<()>().await;
        }));
        let (members, ready) = (self.members.clone(), self.ready.clone());
        spawn(Box::pin(async move {
            if is_known.wait_for(|known| *known).await.is_ok() {
                ready.send_replace(Ready::No(
                    "heartbeats are not sent to all members yet".into(),
                ));
                members.wait_announced(Instant::now() + ANNOUNCE_WAIT).await;
                if !members.know_the_ring() {
                    tracing::warn!("nobody is in the ring yet: until then S3 is asked, each time");
                }
                ready_while_its_name_is_its_own(&members, &ready).await;
            }
        }));
        spawn(Box::pin(async move {
            loop {
                sleep(REREAD).await;
                match access.reload() {
                    Ok(true) => tracing::info!("the access file was read again"),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the last rules stay in force"
                        );
                    }
                }
                if let Err(error) = token.reload() {
                    tracing::warn!(%error, "the peer token can't be read again: the last one stays in use");
                }
            }
        }));
    }
}

async fn until_it_answers(origin: &Origin, bucket: &str) {
    let (mut pause, longest) = ASK_AGAIN;
    let mut told = String::new();
    while let Err(error) = origin.list(bucket, "", 1, None).await {
        let what = error.to_string();
        if what != told {
            let way_out = error.way_out();
            tracing::error!(bucket, %error, way_out, "S3 does not answer as it should");
            told = what;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
    tracing::info!(bucket, "S3 answers");
}

impl Servers {
    /// `stop_main` ends the listeners for clients, `stop_all` the one for probes.
    fn open(
        listeners: Listeners,
        api: &Arc<Api>,
        peer_api: PeerApi,
        settings: gateway::GatewaySettings,
        limits: &Limits,
        (stop_main, stop_all): (&CancellationToken, &CancellationToken),
    ) -> Self {
        let scheduler = Arc::<WriteScheduler>::default();
        let listener = |name, hits: Option<Hits>, stop: &CancellationToken| Listener {
            name,
            limits: limits.clone(),
            fast: hits.map(|hits| Arc::new(hits) as Arc<dyn FastPath>),
            scheduler: Arc::clone(&scheduler),
            metrics: Arc::clone(&api.parts().metrics),
            stop: stop.clone(),
        };
        let peers = api::peer_routes::router(peer_api, api.parts().access.is_guarded());
        let routes = api::router(api, peers);
        let main = listener("blob", Some(Hits::of_blobs(api)), stop_main);
        let s3 = listeners.s3.map(|socket| {
            let s3 = listener("s3", gateway::hits(api, settings.clone()), stop_main);
            tokio::spawn(server::serve(socket, gateway::router(api, settings), s3))
        });
        let (probes, admin) = (api::admin_router(api), listener("admin", None, stop_all));
        Self {
            main: tokio::spawn(server::serve(listeners.main, routes, main)),
            s3,
            admin: tokio::spawn(server::serve(listeners.admin, probes, admin)),
        }
    }
}

/// The barrier, in which this node takes part too.
fn barrier(
    proxy: &Proxy,
    members: &Arc<Members>,
    peers: &Peers,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> Invalidator {
    let own = proxy.clone();
    Invalidator::new(
        members.clone(),
        Arc::new(peers.clone()),
        Arc::new(move |scope: &_| own.forget(scope)),
        metrics.clone(),
        stop.clone(),
    )
}

/// Its picture of the others: from within the ring, or from beside it.
fn members(me: Contact, zone: Option<String>, sidecar: bool) -> Arc<Members> {
    if sidecar {
        Members::beside(me)
    } else {
        Members::new(me, zone)
    }
}

fn token(file: Option<PathBuf>) -> Result<Token, Error> {
    let path = file.clone().unwrap_or_default();
    Token::load(file).map_err(|source| Error::Token { path, source })
}
