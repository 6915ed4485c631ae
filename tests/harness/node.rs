//! Rings of real nodes: in this process, over real sockets, or each as a process of its own that can be killed.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use falcon_cache::api::Ready;
use falcon_cache::config::Config;
use falcon_cache::members::Found;
use falcon_cache::node::{Listeners, Node, Settings};
use falcon_cache::object::ObjectId;
use falcon_cache::peer::Contact;
use falcon_cache::ring::State;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::http;
use super::s3::{KEY_ID, SECRET};
use super::until;

/// Nodes in this process.
pub(crate) struct Ring {
    pub(crate) nodes: Vec<TestNode>,
    keys: TempDir,
}

/// One of them.
pub(crate) struct TestNode {
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) node: Node,
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
        change: impl Fn(&mut Settings),
    ) -> Self {
        let keys = keys();
        let config = config(endpoint, &keys, flags);
        let mut bound = Vec::new();
        for _ in 0..count {
            let main = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            bound.push(Listeners { main, admin });
        }
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let urls: Vec<String> = bound.iter().map(|listeners| url(&listeners.main)).collect();
        let starting = bound.into_iter().map(|listeners| {
            let me = url(&listeners.main);
            let admin = url(&listeners.admin);
            let found = urls.iter().map(|url| listed(url)).collect::<Vec<_>>();
            let mut settings = Settings::new(&config, contact(&me));
            change(&mut settings);
            async move {
                let discovery = stream::iter([found]).boxed();
                let node = Node::start(settings, listeners, discovery).await.unwrap();
                TestNode {
                    url: me,
                    admin,
                    node,
                }
            }
        });
        let ring = Self {
            nodes: join_all(starting).await,
            keys,
        };
        ring.settled().await;
        ring
    }

    /// The folder of the keys with which the nodes sign.
    pub(crate) fn keys(&self) -> &std::path::Path {
        self.keys.path()
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
                    .filter(|member| member.state == State::Serving)
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
            .position(|node| node.url == owner)
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
        (0..)
            .map(|i| format!("key-{i}"))
            .find(|key| self.owner(key, 0) == place)
            .unwrap()
    }
}

impl TestNode {
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
            "skipped: falcon-cache is not built beside the tests: cargo build -p falcon-cache"
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

/// The binary beside the tests, built by the same command.
pub(crate) fn binary() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let binary = tests.parent()?.parent()?.join("falcon-cache");
    binary.exists().then_some(binary)
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
    // The last one given holds; the flags of a test come after the common ones, and replace them.
    for flag in flags {
        let name = flag.split('=').next().unwrap();
        all.retain(|known| known.split('=').next() != Some(name));
        all.push((*flag).to_owned());
    }
    Config::from_args(all).unwrap()
}

fn contact(url: &str) -> Contact {
    Contact {
        name: url.to_owned(),
        url: url.to_owned(),
    }
}

fn listed(url: &str) -> Found {
    Found {
        name: url.to_owned(),
        url: url.to_owned(),
        zone: None,
        serving: true,
        terminating: false,
    }
}

/// A moment, for a condition that should stay as it is.
pub(crate) const MOMENT: Duration = Duration::from_millis(300);
