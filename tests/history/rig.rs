//! Three nodes and a sidecar as processes, before an S3 that the test holds; everything that can be done to them.
//!
//! Each node listens at 127.0.0.1 and is known to its peers by an address at which a [`TcpProxy`] stands.

use std::fs::File;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, timeout};

use super::checker::{Commit, History, Read, Span, Time, Value, Write, seconds};
use super::version::Versions;
use crate::harness::http;
use crate::harness::node::{Process, free_ports, metric};
use crate::harness::s3::S3;
use crate::harness::tcp_proxy::TcpProxy;

/// Nodes of the ring. The sidecar stands behind them in every list.
pub(super) const NODES: usize = 3;
/// All who can be asked.
pub(super) const ALL: usize = NODES + 1;

/// What objects are called. Some share a prefix, so that one request can mean several.
pub(super) const KEYS: [&str; 10] = [
    "a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2", "c/0", "c/1", "d",
];

/// What the S3 of the test calls its bucket.
pub(super) const BUCKET: &str = "bucket";

/// From SIGTERM to the end, and what a busy machine needs beside.
const DRAIN: Duration = Duration::from_secs(8);

/// Where a process is, and how it was started.
pub(super) struct Place {
    /// The blob API, past the proxy.
    pub(super) blob: String,
    /// The S3 gateway.
    pub(super) gateway: String,
    admin: String,
    /// What peers call it.
    name: String,
    flags: Vec<String>,
    port: u16,
    log: PathBuf,
    process: Turn<Option<Process>>,
}

pub(super) struct Rig {
    pub(super) s3: S3,
    pub(super) versions: Versions,
    pub(super) places: Vec<Place>,
    proxies: Vec<TcpProxy>,
    began: Instant,
    history: Mutex<History>,
    story: Mutex<Vec<String>>,
}

impl Rig {
    /// Starts all, with further flags for each; logs go to that folder. `None`, said aloud, where Falcon is not built.
    pub(super) async fn start(folder: &Path, flags: &[String]) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let s3 = S3::start().await;
        let ports = free_ports(3 * u16::try_from(ALL).expect("few"));
        let (main, rest) = ports.split_at(ALL);
        let (gateways, admins) = rest.split_at(ALL);
        let mut proxies = Vec::new();
        let mut names = Vec::new();
        for (at, port) in main[..NODES].iter().enumerate() {
            let host = Ipv4Addr::new(127, 0, 1, u8::try_from(at + 1).expect("few"));
            let inner = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            proxies.push(TcpProxy::at((host, *port).into(), inner).await);
            names.push(format!("http://{host}:{port}"));
        }
        let mut all = vec![
            format!("--bucket={BUCKET}"),
            format!("--s3-endpoint={}", s3.endpoint()),
            "--s3-region=us-east-1".to_owned(),
            format!("--peers={}", names.join(",")),
            "--listen=127.0.0.1".to_owned(),
            "--s3-auth=none".to_owned(),
            "--block-size=64".to_owned(),
            "--max-cache-size=64".to_owned(),
            "--drain-timeout=3".to_owned(),
            "--log-level=info".to_owned(),
        ];
        all.extend(flags.iter().cloned());
        let mut places = Vec::new();
        for at in 0..ALL {
            let mut own = all.clone();
            own.push(format!("--port={}", main[at]));
            own.push(format!("--s3-port={}", gateways[at]));
            own.push(format!("--admin-port={}", admins[at]));
            let name = names.get(at).cloned();
            match &name {
                Some(_) => own.push(format!("--host=127.0.1.{}", at + 1)),
                None => own.push("--sidecar".to_owned()),
            }
            places.push(Place {
                blob: format!("http://127.0.0.1:{}", main[at]),
                gateway: format!("http://127.0.0.1:{}", gateways[at]),
                admin: format!("http://127.0.0.1:{}", admins[at]),
                name: name.unwrap_or_else(|| "the sidecar".to_owned()),
                flags: own,
                port: main[at],
                log: folder.join(format!("node-{at}.log")),
                process: Turn::new(None),
            });
        }
        let rig = Self {
            s3,
            versions: Versions::default(),
            places,
            proxies,
            began: Instant::now(),
            history: Mutex::new(History {
                sidecars: vec![NODES],
                ..History::default()
            }),
            story: Mutex::default(),
        };
        for at in 0..ALL {
            if !rig.run(at).await {
                return None;
            }
        }
        Some(rig)
    }

    /// Now, on the history's clock.
    pub(super) fn now(&self) -> Time {
        self.time(Instant::now())
    }

    fn time(&self, at: Instant) -> Time {
        let since = at.saturating_duration_since(self.began);
        Time::try_from(since.as_micros()).expect("a test is shorter")
    }

    /// A line of the story that is told when something is wrong.
    pub(super) fn tell(&self, line: &str) {
        let line = format!("{} {line}", seconds(self.now()));
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        story.push(line);
    }

    pub(super) fn story(&self) -> String {
        let story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        story.join("\n")
    }

    fn note(&self, note: impl FnOnce(&mut History)) {
        note(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn note_read(&self, read: Read) {
        self.note(|history| history.reads.push(read));
    }

    pub(super) fn note_write(&self, write: Write) {
        self.note(|history| history.writes.push(write));
    }

    pub(super) fn note_settled(&self) {
        let now = self.now();
        self.note(|history| history.settled.push(now));
    }

    /// All that has happened so far, what S3 holds included.
    pub(super) fn history(&self) -> History {
        let mut history = self
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for commit in self.s3.commits(BUCKET) {
            let Some(key) = KEYS.iter().position(|key| *key == commit.key) else {
                continue;
            };
            let value = match &commit.etag {
                None => Value::Absent,
                Some(etag) => {
                    let version = self.versions.of_tag(etag);
                    let key = &commit.key;
                    Value::Stored(version.unwrap_or_else(|| {
                        panic!("S3 was given bytes for {key} that nobody wrote: {etag}")
                    }))
                }
            };
            let at = self.time(commit.at);
            history.commits.push(Commit {
                key,
                at,
                value,
                behind: commit.behind,
            });
        }
        history
    }

    /// The places of nodes by what an answer calls them.
    pub(super) fn named<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
        let mut places = Vec::new();
        for name in names {
            // A node that has just started knows of nobody yet, and says so.
            if name == "the ring (not known yet)" {
                places.extend(0..ALL);
            }
            let is_it = |place: &Place| place.name == name.trim();
            places.extend(self.places.iter().position(is_it));
        }
        places
    }

    /// Starts the process of that place, where it is not running.
    pub(super) async fn run(&self, at: usize) -> bool {
        let place = &self.places[at];
        let mut process = place.process.lock().await;
        if process.is_some() {
            return true;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&place.log)
            .unwrap();
        *process = Process::spawn(place.port, &place.flags, Stdio::from(log));
        process.is_some()
    }

    /// Sends a signal, where there is a process.
    pub(super) async fn signal(&self, at: usize, signal: &str) {
        if let Some(process) = &*self.places[at].process.lock().await {
            process.signal(signal).await;
        }
    }

    /// Ends the process: at once, or by SIGTERM and after its drain.
    pub(super) async fn end(&self, at: usize, gently: bool) {
        let mut place = self.places[at].process.lock().await;
        let Some(mut process) = place.take() else {
            return;
        };
        let now = self.now();
        self.note(|history| history.ended.push((at, now)));
        if gently {
            process.signal("TERM").await;
            if timeout(DRAIN, process.child.wait()).await.is_ok() {
                return;
            }
            self.tell(&format!("node {at} did not end {DRAIN:?} after SIGTERM"));
        }
        process.child.kill().await.unwrap();
    }

    /// True while the process runs; one that ended by itself is noted as ended.
    pub(super) async fn lives(&self, at: usize) -> bool {
        let mut place = self.places[at].process.lock().await;
        let over = place
            .as_mut()
            .is_none_or(|process| !matches!(process.child.try_wait(), Ok(None)));
        if over {
            *place = None;
        }
        !over
    }

    /// Lets a node hang until `over`: stopped, or (not `whole`) out of reach of the others while it goes on.
    pub(super) async fn hang<T>(&self, at: usize, whole: bool, over: impl Future<Output = T>) -> T {
        let start = self.now();
        if whole {
            self.signal(at, "STOP").await;
        } else {
            self.proxies[at].shut();
        }
        let out = over.await;
        if whole {
            self.signal(at, "CONT").await;
        } else {
            self.proxies[at].open();
        }
        let span = Span {
            start,
            end: self.now(),
        };
        self.note(|history| history.hung.push((at, span)));
        out
    }

    /// Starts a second process of a node's name, at another address of this machine; where it listens.
    pub(super) fn twin(&self, at: usize) -> (Process, String) {
        const HOST: &str = "127.0.0.9";
        let place = &self.places[at];
        let own = ["--listen", "--s3-port", "--admin-port"];
        let same = |flag: &&String| !own.iter().any(|own| flag.starts_with(&format!("{own}=")));
        let mut flags: Vec<_> = place.flags.iter().filter(same).cloned().collect();
        flags.push(format!("--listen={HOST}"));
        flags.extend(["--s3-port=0".to_owned(), "--admin-port=0".to_owned()]);
        let log = File::create(place.log.with_extension("twin.log")).unwrap();
        let twin =
            Process::spawn(place.port, &flags, Stdio::from(log)).expect("it was there before");
        (twin, format!("http://{HOST}:{}", place.port))
    }

    /// Cuts the connections that others have to a node.
    pub(super) fn cut(&self, at: usize) {
        self.proxies[at].cut();
    }

    /// Whether each node sees all serve, and owes nothing that it knows of.
    pub(super) async fn is_well(&self) -> Result<(), String> {
        for (at, place) in self.places.iter().enumerate() {
            let ring = http::try_get(&format!("{}/ring", place.blob)).await;
            let ring = ring
                .map_err(|error| format!("node {at} says nothing: {error}"))?
                .json();
            let members = ring["members"].as_array().cloned().unwrap_or_default();
            let serving = members
                .iter()
                .filter(|member| member["state"] == "serving")
                .count();
            let ready = http::try_get(&format!("{}/readyz", place.blob)).await;
            if serving != NODES || !ready.is_ok_and(|answer| answer.status == 200) {
                return Err(format!("node {at} sees {ring}"));
            }
            let owed = metric(&place.admin, "falcon_unanswered_nodes").await;
            if owed > 0.5 {
                return Err(format!("node {at} still waits for {owed} nodes"));
            }
        }
        Ok(())
    }

    /// Waits until it is so; says what was not, in vain.
    pub(super) async fn well_within(&self, deadline: Duration) -> Result<(), String> {
        let until = Instant::now() + deadline;
        loop {
            let state = timeout(Duration::from_secs(3), self.is_well()).await;
            match state.unwrap_or_else(|_| Err("somebody does not answer".to_owned())) {
                Ok(()) if self.s3.is_idle() => return Ok(()),
                Ok(()) if Instant::now() > until => {
                    return Err("S3 is still at work".to_owned());
                }
                Err(what) if Instant::now() > until => return Err(what),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
