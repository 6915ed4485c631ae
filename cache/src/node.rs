//! One node: its parts wired together, its listeners opened, and its way out. `main` runs one of them, `dev` several.

mod observe;
mod parts;
mod readiness;
mod servers;
mod tasks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use crate::access::{self, Access};
use crate::api::{Api, ApiSettings, Ready};
use crate::gateway::GatewaySettings;
use crate::members::heartbeat::{self, HeartbeatClient};
use crate::members::{DiscoveredNode, Members};
use crate::origin::OriginSettings;
use crate::peer::{Contact, Token};
use crate::proxy::{Proxy, ProxySettings};
use crate::server::Limits;
use crate::web::WebSettings;
use observe::observe;
use parts::{Parts, Stop};
use readiness::leaving;
pub use servers::Listeners;
use servers::{Served, Servers};
use tasks::Tasks;

/// How long a node that leaves waits for nodes that still owe it the answer to an invalidation.
const COLLECT: Duration = Duration::from_secs(3);

/// What one node is made of. A setting has the name of its flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its availability zone, shown in `/ring`; `None` is what discovery says.
    pub zone: Option<String>,
    /// It is beside the ring and not in it: it owns nothing, and trusts no entry that an invalidation would have to
    /// reach.
    pub sidecar: bool,
    /// Bytes of memory for objects.
    pub max_cache_size: u64,
    /// How many of them are kept for replicas.
    pub replica_share: u64,
    /// How it reads.
    pub proxy: ProxySettings,
    /// Where S3 is.
    pub origin: OriginSettings,
    /// What both APIs may do.
    pub web: WebSettings,
    /// What the blob API does.
    pub api: ApiSettings,
    /// What the S3 gateway does.
    pub gateway: GatewaySettings,
    /// Who may do what; `None`: everybody may do everything.
    pub access_file: Option<PathBuf>,
    /// What connections may cost.
    pub limits: Limits,
    /// The token shared by the nodes.
    pub peer_token_file: Option<PathBuf>,
}

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The heartbeat has a thread of its own, which can't be started.
    #[error("failed to start the heartbeat's thread")]
    Heartbeat(#[source] std::io::Error),
    /// The access file can't be read or used.
    #[error(transparent)]
    Access(#[from] access::Error),
    /// The peer token can't be read.
    #[error("failed to read the peer token from {}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
}

/// A node that runs.
pub struct Node {
    parts: Parts,
    api: Arc<Api>,
    ready: watch::Sender<Ready>,
    stop: Stop,
    servers: Servers,
    tasks: Tasks,
    heartbeat_client: Arc<dyn HeartbeatClient>,
    /// A node that is dropped ends too: its heartbeat does not end with the runtime.
    _end: DropGuard,
}

impl Node {
    /// Starts a node that goes by `me`. `discovery` names its fellow nodes: the whole set, each time that it changes.
    pub async fn start(
        settings: NodeSettings,
        me: Contact,
        listeners: Listeners,
        discovery: BoxStream<'static, Vec<DiscoveredNode>>,
    ) -> Result<Self, Error> {
        let token = read_token(settings.peer_token_file.clone())?;
        let access = Access::load(settings.access_file.clone())?;
        let stop = Stop::default();
        let parts = Box::pin(Parts::wire(&settings, me, &token, &stop)).await;

        let (ready, is_ready) = watch::channel(Ready::No("the ring is not known yet".into()));
        let services = parts.services(settings.web, access.clone());
        let api = parts.api(services.clone(), settings.api, is_ready);
        let served = Served {
            peers: parts.peer_api(services.settings.buckets.clone(), token.clone()),
            api: api.clone(),
            services,
            gateway: settings.gateway,
        };
        let servers = Servers::open(listeners, served, &settings.limits, &stop);

        heartbeat::start(parts.members.clone(), token.clone(), stop.all.clone())
            .map_err(Error::Heartbeat)?;
        let node = Self {
            heartbeat_client: Arc::new(parts.peers.clone()),
            parts,
            api,
            ready,
            servers,
            tasks: Tasks::until(stop.all.clone()),
            _end: stop.all.clone().drop_guard(),
            stop,
        };
        node.join_ring(discovery);
        node.tasks
            .spawn(async move { tasks::reread(&access, &token).await });
        Ok(node)
    }

    /// The read path, for callers without HTTP.
    pub fn proxy(&self) -> &Proxy {
        &self.parts.proxy
    }

    /// The nodes that it knows.
    pub fn members(&self) -> &Arc<Members> {
        &self.parts.members
    }

    /// The state of the blob API's routes, for callers without a socket.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Whether it takes requests; changes as it starts and leaves.
    pub fn ready(&self) -> watch::Receiver<Ready> {
        self.ready.subscribe()
    }

    /// Asks S3 for the default bucket until it answers, in a task of its own, and logs what is wrong.
    /// The node serves meanwhile.
    pub fn check_origin(&self) {
        let Some(bucket) = self.api.default_bucket().map(str::to_owned) else {
            return;
        };
        let origin = self.parts.origin.clone();
        self.tasks
            .spawn(async move { tasks::try_origin(&origin, &bucket).await });
    }

    /// Leaves in order: not ready, out of the ring, then what runs is finished, then the listeners close. Returns the
    /// connections that had to be cut.
    pub async fn leave(mut self) -> usize {
        let Parts {
            members,
            invalidator,
            origin,
            ..
        } = &self.parts;
        self.ready.send_replace(leaving());
        // Peers hear of it with the next heartbeat, and ask others from then on; what they have asked for is still
        // answered.
        members.leave();
        heartbeat::send_leave(members, &self.heartbeat_client).await;
        invalidator.collected(COLLECT).await;
        self.stop.clients.cancel();
        let cut = self.servers.clients_ended().await;
        origin.settled().await;
        self.stop.all.cancel();
        self.tasks.ended().await;
        self.servers.admin_ended().await;
        cut
    }

    /// Follows discovery, and is ready once the ring knows of this node.
    fn join_ring(&self, discovery: BoxStream<'static, Vec<DiscoveredNode>>) {
        let (known, is_known) = watch::channel(false);
        let members = self.parts.members.clone();
        self.tasks
            .spawn(async move { tasks::follow_discovery(discovery, &members, known).await });
        let (members, ready) = (self.parts.members.clone(), self.ready.clone());
        self.tasks
            .spawn(async move { tasks::report_readiness(is_known, &members, &ready).await });
    }
}

fn read_token(file: Option<PathBuf>) -> Result<Token, Error> {
    let path = file.clone().unwrap_or_default();
    Token::load(file).map_err(|source| Error::Token { path, source })
}
