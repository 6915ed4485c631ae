//! Rings of real nodes: in this process, over real sockets, or each as a process of its own that can be killed.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use falcon_cache::api::Ready;
use falcon_cache::config::Config;
use falcon_cache::members::DiscoveredNode;
use falcon_cache::node::{Listeners, Node, NodeSettings};
use falcon_cache::object::ObjectId;
use falcon_cache::peer::Contact;
use falcon_cache::ring::MemberState;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::http;
use super::s3::{KEY_ID, SECRET};
use super::tcp_proxy::TcpProxy;
use super::until;

/// What a sidecar is called here.
pub(crate) const SIDECAR: &str = "sidecar@test";

/// Nodes in this process.
pub(crate) struct Ring {
    pub(crate) nodes: Vec<TestNode>,
    config: Config,
    keys: TempDir,
}

/// One of them.
pub(crate) struct TestNode {
    pub(crate) url: String,
    pub(crate) admin: String,
    /// Its S3 gateway, open where the flags say so.
    pub(crate) s3: String,
    pub(crate) node: Node,
}

/// What lies between the last node of a ring and the others.
pub(crate) struct Cut {
    proxies: Vec<TcpProxy>,
    found: watch::Sender<Vec<DiscoveredNode>>,
}

impl Cut {
    /// From now on nothing passes, in either direction.
    pub(crate) fn off(&self) {
        for proxy in &self.proxies {
            proxy.shut();
        }
    }

    /// The others' discovery does not name the last node any more. Its own goes on naming all.
    pub(crate) fn taken_out(&self) {
        self.found.send_modify(|found| drop(found.pop()));
    }

    /// Everything passes.
    pub(crate) fn heals(&self) {
        for proxy in &self.proxies {
            proxy.open();
        }
    }
}

/// Discovery's newest word, at first and whenever there is one.
async fn newest_word(
    mut found: watch::Receiver<Vec<DiscoveredNode>>,
) -> Option<(Vec<DiscoveredNode>, watch::Receiver<Vec<DiscoveredNode>>)> {
    found.changed().await.ok()?;
    let now = found.borrow_and_update().clone();
    Some((now, found))
}

/// Where a node will listen, and the address by which the others know it.
struct Place {
    me: Contact,
    listeners: Listeners,
}

impl Place {
    async fn bind() -> Self {
        let main = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let s3 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self {
            me: contact(&url(&main)),
            listeners: Listeners {
                main,
                admin,
                s3: Some(s3),
            },
        }
    }

    async fn start(
        self,
        config: &Config,
        found: Vec<DiscoveredNode>,
        change: impl Fn(&mut NodeSettings),
    ) -> TestNode {
        let discovery = stream::iter([found]).boxed();
        self.start_following(config, discovery, change).await
    }

    async fn start_following(
        self,
        config: &Config,
        discovery: BoxStream<'static, Vec<DiscoveredNode>>,
        change: impl Fn(&mut NodeSettings),
    ) -> TestNode {
        let mut listeners = self.listeners;
        let (direct, admin) = (url(&listeners.main), url(&listeners.admin));
        let s3 = listeners.s3.as_ref().map(url).unwrap_or_default();
        if config.network.s3_port.is_none() {
            listeners.s3 = None;
        }
        let mut settings = config.node.clone();
        change(&mut settings);
        TestNode {
            url: direct,
            admin,
            s3,
            node: Node::start(settings, self.me, listeners, discovery)
                .await
                .unwrap(),
        }
    }
}

impl Ring {
    /// `count` nodes in front of the S3 at `endpoint`, with further flags; all of them ready, and each knows all.
    pub(crate) async fn start(endpoint: &str, count: usize, flags: &[&str]) -> Self {
        Self::start_with(endpoint, count, flags, |_| {}).await
    }

    /// The same, with settings that no flag can give.
    pub(crate) async fn start_with(
        endpoint: &str,
        count: usize,
        flags: &[&str],
        change: impl Fn(&mut NodeSettings),
    ) -> Self {
        let places = join_all((0..count).map(|_| Place::bind())).await;
        let ring = Self::of(endpoint, flags, places, |_, _| true, change).await;
        ring.settled().await;
        ring
    }

    /// The folder of the keys with which the nodes sign.
    pub(crate) fn keys(&self) -> &std::path::Path {
        self.keys.path()
    }

    /// As [`Ring::start`]; the others reach the last node only through a proxy. Its own `url` goes past the proxy.
    pub(crate) async fn start_with_a_proxy(
        endpoint: &str,
        count: usize,
        flags: &[&str],
    ) -> (Self, TcpProxy) {
        let mut places = join_all((0..count).map(|_| Place::bind())).await;
        let last = places.last_mut().unwrap();
        let proxy = TcpProxy::before(last.listeners.main.local_addr().unwrap()).await;
        last.me = contact(&proxy.url);
        let ring = Self::of(endpoint, flags, places, |_, _| true, |_| {}).await;
        ring.settled().await;
        (ring, proxy)
    }

    /// As [`Ring::start`]; the last node can be cut off from the others.
    pub(crate) async fn start_with_a_cut(
        endpoint: &str,
        count: usize,
        flags: &[&str],
    ) -> (Self, Cut) {
        let keys = keys();
        let config = config(endpoint, &keys, flags);
        let mut places = join_all((0..count).map(|_| Place::bind())).await;
        let mut proxies = Vec::new();
        for place in &places {
            proxies.push(TcpProxy::before(place.listeners.main.local_addr().unwrap()).await);
        }
        let last = places.last_mut().unwrap();
        last.me = contact(&proxies[count - 1].url);
        let all: Vec<DiscoveredNode> = places.iter().map(|place| listed(&place.me.name)).collect();
        let through_proxies = all
            .iter()
            .zip(&proxies)
            .map(|(found, proxy)| DiscoveredNode {
                url: proxy.url.clone(),
                ..found.clone()
            });
        let mut through_proxies = Some(through_proxies.collect::<Vec<_>>());
        let found = watch::Sender::new(all);
        let starting = places.into_iter().enumerate().rev().map(|(at, place)| {
            let discovery = match through_proxies.take() {
                Some(all) if at == count - 1 => stream::iter([all]).boxed(),
                _ => {
                    let mut found = found.subscribe();
                    // The first word, too, is new to who starts.
                    found.mark_changed();
                    stream::unfold(found, newest_word).boxed()
                }
            };
            place.start_following(&config, discovery, |_| {})
        });
        let mut nodes = join_all(starting).await;
        nodes.reverse();
        let ring = Self {
            nodes,
            config,
            keys,
        };
        ring.settled().await;
        (ring, Cut { proxies, found })
    }

    /// A node that goes by the name of another one, at an address of its own. It need not be ready.
    pub(crate) async fn namesake(&self, of: usize) -> TestNode {
        let mut place = Place::bind().await;
        let found = self.nodes.iter().map(|node| listed(node.name())).collect();
        place.me.name = self.nodes[of].name().to_owned();
        place.start(&self.config, found, |_| {}).await
    }

    /// Nodes whose discovery names for the first the second only if `names` says so; all of them ready.
    pub(crate) async fn disagreeing(
        endpoint: &str,
        count: usize,
        names: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let places = join_all((0..count).map(|_| Place::bind())).await;
        let ring = Self::of(endpoint, &[], places, names, |_| {}).await;
        for node in &ring.nodes {
            node.ready().await;
        }
        ring
    }

    async fn of(
        endpoint: &str,
        flags: &[&str],
        places: Vec<Place>,
        names: impl Fn(usize, usize) -> bool,
        change: impl Fn(&mut NodeSettings),
    ) -> Self {
        let keys = keys();
        let config = config(endpoint, &keys, flags);
        let all: Vec<String> = places.iter().map(|place| place.me.name.clone()).collect();
        let starting = places.into_iter().enumerate().map(|(me, place)| {
            let listing = (0..all.len()).filter(|other| *other == me || names(me, *other));
            let found = listing.map(|other| listed(&all[other])).collect();
            place.start(&config, found, &change)
        });
        Self {
            nodes: join_all(starting).await,
            config,
            keys,
        }
    }

    /// One more node, ready. Its discovery names all, each at its own `url`; nobody's discovery names it.
    pub(crate) async fn join(&self) -> TestNode {
        let place = Place::bind().await;
        let mut found = vec![listed(&place.me.name)];
        for node in &self.nodes {
            found.push(DiscoveredNode {
                url: node.url.clone(),
                ..listed(node.name())
            });
        }
        let node = place.start(&self.config, found, |_| {}).await;
        node.ready().await;
        node
    }

    /// A sidecar beside the ring, ready, with further flags; it has the memory that sidecars have. Beside a ring of no
    /// nodes its discovery names nobody.
    pub(crate) async fn sidecar(&self, flags: &[&str]) -> TestNode {
        let own = [
            "--sidecar",
            "--k8s-discovery-id=ring",
            "--k8s-namespace=test",
            "--max-cache-size=64",
        ];
        let flags: Vec<_> = own.iter().chain(flags).copied().collect();
        let endpoint = self.config.node.origin.s3_endpoint.as_ref().unwrap();
        let config = config(endpoint.as_str(), &self.keys, &flags);
        let place = Place {
            me: contact(SIDECAR),
            ..Place::bind().await
        };
        let found = self.nodes.iter().map(|node| listed(node.name())).collect();
        let sidecar = place.start(&config, found, |_| {}).await;
        sidecar.ready().await;
        sidecar
    }

    /// Waits until every node is ready and sees every other serve.
    pub(crate) async fn settled(&self) {
        for node in &self.nodes {
            node.ready().await;
        }
        let all = self.nodes.len();
        for node in &self.nodes {
            let mut ring = node.node.members().ring();
            let serving = |ring: &Arc<falcon_cache::ring::Ring>| {
                ring.members()
                    .iter()
                    .filter(|member| member.state == MemberState::Serving)
                    .count()
                    == all
            };
            tokio::time::timeout(super::DEADLINE, ring.wait_for(serving))
                .await
                .unwrap()
                .unwrap();
        }
    }

    /// The place in `nodes` of the one that owns run `run` of a key in the bucket `bucket`.
    pub(crate) fn owner(&self, key: &str, run: u32) -> usize {
        let object = ObjectId::new("bucket", key).unwrap();
        let ring = self.nodes[0].node.members().ring();
        let owner = ring.borrow().owner(&object, run).unwrap().name.clone();
        self.nodes
            .iter()
            .position(|node| node.name() == owner)
            .unwrap()
    }

    /// The places of the nodes that don't own the key's first run.
    pub(crate) fn others(&self, key: &str) -> Vec<usize> {
        let owner = self.owner(key, 0);
        (0..self.nodes.len())
            .filter(|place| *place != owner)
            .collect()
    }

    /// A key whose first run that node owns.
    pub(crate) fn key_of(&self, place: usize) -> String {
        (0..10_000)
            .map(|i| format!("key-{i}"))
            .find(|key| self.owner(key, 0) == place)
            .unwrap()
    }
}

impl TestNode {
    /// What it is called in the ring.
    pub(crate) fn name(&self) -> &str {
        self.node.members().name()
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&self) {
        let mut ready = self.node.ready();
        let ready = tokio::time::timeout(
            super::DEADLINE,
            ready.wait_for(|ready| *ready == Ready::Yes),
        );
        drop(ready.await.unwrap().unwrap());
    }

    /// `GET /get?key=`
    pub(crate) async fn get(&self, key: &str) -> http::Answer {
        http::get(&format!("{}/get?key={}", self.url, http::encoded(key))).await
    }
}

/// A node as a process of its own.
pub(crate) struct Process {
    pub(crate) url: String,
    pub(crate) child: Child,
}

impl Process {
    /// Starts `falcon-cache` with these flags; `port` is among them. `None`, said aloud, where it is not built.
    pub(crate) async fn start(port: u16, flags: &[String]) -> Option<Self> {
        let mut flags = flags.to_vec();
        flags.push(format!("--port={port}"));
        let process = Self::spawn(port, &flags, Stdio::inherit())?;
        process.ready().await;
        Some(process)
    }

    /// As [`Process::start`], with these flags and no others; it is not ready yet. Its log goes to `stderr`.
    pub(crate) fn spawn(port: u16, flags: &[String], stderr: Stdio) -> Option<Self> {
        let mut command = command()?;
        command
            .args(flags)
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        let child = command.stderr(stderr).spawn().unwrap();
        Some(Self {
            url: format!("http://localhost:{port}"),
            child,
        })
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&self) {
        let url = format!("{}/readyz", self.url);
        until("a process that is ready", || async {
            let answer = http::try_get(&url).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// `SIGNAL` to it, by number or name as `kill` takes it.
    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
    }

    /// `GET /get?key=`
    pub(crate) async fn get(&self, key: &str) -> http::Answer {
        http::get(&format!("{}/get?key={}", self.url, http::encoded(key))).await
    }
}

/// So many free ports in a row. They lie below those that the system gives to clients, so that none is taken before
/// what is to listen there does.
pub(crate) fn free_ports(count: u16) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 900).unwrap() * 10;
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    loop {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = 20_000 + start.wrapping_add(step) % 10_000;
        let ports: Vec<u16> = (first..first + count).collect();
        if ports.iter().all(is_free) {
            return ports;
        }
    }
}

/// `falcon-cache`, ended when it is dropped, with nothing of what this process was told. `None`, said aloud, where it
/// is not built.
pub(crate) fn command() -> Option<Command> {
    let Some(binary) = binary() else {
        println!(
            "skipped: falcon-cache is not built beside the tests, or is older than its sources: cargo build --workspace"
        );
        return None;
    };
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("FALCON_") || name.starts_with("AWS_") {
            command.env_remove(&*name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.kill_on_drop(true);
    Some(command)
}

/// The binary beside the tests, built by the same command; none that is older than its sources.
pub(crate) fn binary() -> Option<PathBuf> {
    binary_of("cache")
}

/// As [`binary`], of the crate in that folder.
pub(crate) fn binary_of(folder: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let binary = tests.parent()?.parent()?.join(format!("falcon-{folder}"));
    let built = binary.metadata().ok()?.modified().ok()?;
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../{folder}/src"));
    (newest(&sources) <= built).then_some(binary)
}

fn newest(folder: &std::path::Path) -> std::time::SystemTime {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    let times = entries.map(|entry| {
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            newest(&entry.path())
        } else {
            about.modified().unwrap()
        }
    });
    times.max().unwrap_or(std::time::UNIX_EPOCH)
}

/// What a metric of a node says now, all its labels added up.
pub(crate) async fn metric(admin: &str, name: &str) -> f64 {
    let text = http::get(&format!("{admin}/metrics")).await.text();
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    });
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// A folder of key files that the test S3 takes.
pub(crate) fn keys() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("access-key-id"), KEY_ID).unwrap();
    std::fs::write(folder.path().join("secret-access-key"), SECRET).unwrap();
    folder
}

fn config(endpoint: &str, keys: &TempDir, flags: &[&str]) -> Config {
    let mut all = vec![
        "falcon-cache".to_owned(),
        "--bucket=bucket".to_owned(),
        "--max-cache-size=512".to_owned(),
        format!("--s3-endpoint={endpoint}"),
        "--s3-region=us-east-1".to_owned(),
        format!("--s3-credentials-dir={}", keys.path().display()),
    ];
    if flags.iter().any(|flag| flag.starts_with("--access-file")) {
        let token = keys.path().join("peer-token");
        std::fs::write(&token, "token-of-the-tests").unwrap();
        all.push(format!("--peer-token-file={}", token.display()));
    }
    // The last one given holds; the flags of a test come after the common ones, and replace them.
    for flag in flags {
        let name = flag.split('=').next().unwrap();
        all.retain(|known| known.split('=').next() != Some(name));
        all.push((*flag).to_owned());
    }
    Config::from_args(all).unwrap()
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

fn contact(url: &str) -> Contact {
    Contact {
        name: url.to_owned(),
        url: url.to_owned(),
    }
}

fn listed(url: &str) -> DiscoveredNode {
    DiscoveredNode {
        name: url.to_owned(),
        url: url.to_owned(),
        zone: None,
        serving: true,
        terminating: false,
    }
}

/// A moment, for a condition that should stay as it is.
pub(crate) const MOMENT: Duration = Duration::from_millis(300);
