//! Rings whose nodes are processes of their own: killed, stopped, told to leave, cut off from S3, strangers at their
//! ports.

mod away;
mod flags;
mod leave;
mod log;
mod lost;
mod owed;
mod token;

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::harness::http;
use crate::harness::node::{Process, free_ports};
use crate::harness::s3::{S3, synthetic};
use crate::harness::until;

/// So many KiB has a block here: small, so that objects of a few MiB have many, in several extents.
const BLOCK: &str = "--block-size=64";
/// Blocks that are placed together, in bytes.
const RUN_BYTES: u64 = 16 * 64 * 1024;

/// Three nodes on this machine.
struct Cluster {
    nodes: Vec<Process>,
    ports: Vec<u16>,
    flags: Vec<String>,
}

impl Cluster {
    /// Starts them in front of that S3, with further flags; each sees all serve. `None`, said aloud, where they are not
    /// built.
    async fn start(s3: &S3, flags: &[&str]) -> Option<Self> {
        let ports = free_ports(3);
        let peers: Vec<String> = ports.iter().map(|port| url(*port)).collect();
        let mut all = vec![
            "--bucket=bucket".to_owned(),
            "--max-cache-size=256".to_owned(),
            format!("--s3-endpoint={}", s3.endpoint()),
            "--s3-region=us-east-1".to_owned(),
            format!("--peers={}", peers.join(",")),
            "--log-level=warn".to_owned(),
        ];
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let mut nodes = Vec::new();
        for port in &ports {
            nodes.push(spawn(*port, &all)?);
        }
        let cluster = Self {
            nodes,
            ports,
            flags: all,
        };
        cluster.all_serve().await;
        Some(cluster)
    }

    /// Starts the node of that place once more, where it was.
    fn start_again(&mut self, place: usize) {
        self.nodes[place] = spawn(self.ports[place], &self.flags).unwrap();
    }

    /// Waits until each is ready and sees all serve.
    async fn all_serve(&self) {
        for node in &self.nodes {
            node.ready().await;
        }
        for (at, _) in self.nodes.iter().enumerate() {
            for (of, _) in self.nodes.iter().enumerate() {
                self.sees(at, of, "serving").await;
            }
        }
    }

    /// Waits until the node at one place sees that of another in this state.
    async fn sees(&self, at: usize, of: usize, state: &str) {
        let name = url(self.ports[of]);
        until(&format!("{of} {state} as {at} sees it"), || async {
            let ring = self.ring(at, "").await?;
            let members = ring["members"].as_array().unwrap();
            let member = members.iter().find(|member| member["name"] == *name)?;
            (member["state"] == state).then_some(())
        })
        .await;
    }

    /// What `/ring` says at that place.
    async fn ring(&self, at: usize, query: &str) -> Option<serde_json::Value> {
        let url = format!("{}/ring{query}", self.nodes[at].url);
        Some(http::try_get(&url).await.ok()?.json())
    }

    /// The places of the owners of the object's first extents, as the node at `at` sees them.
    async fn owners(&self, at: usize, key: &str) -> Vec<usize> {
        let query = format!("?key={}", http::encoded(key));
        let ring = self.ring(at, &query).await.unwrap();
        let extents = ring["object"]["extents"].as_array().unwrap();
        let place = |run: &serde_json::Value| {
            let owner = run["owners"][0].as_str().unwrap();
            let is_it = |port: &&u16| url(**port) == owner;
            let port = self.ports.iter().find(is_it).unwrap();
            self.ports.iter().position(|it| it == port).unwrap()
        };
        extents.iter().map(place).collect()
    }

    /// A key `PREFIX-…` whose first run the node at that place owns.
    async fn key_of(&self, place: usize, prefix: &str) -> String {
        for i in 0.. {
            let key = format!("{prefix}-{i}");
            if self.owners(place, &key).await[0] == place {
                return key;
            }
        }
        unreachable!("some key is its")
    }
}

fn spawn(port: u16, flags: &[String]) -> Option<Process> {
    let mut flags = flags.to_vec();
    flags.push(format!("--port={port}"));
    Process::spawn(port, &flags, Stdio::inherit())
}

fn url(port: u16) -> String {
    format!("http://localhost:{port}")
}

/// Objects and what is in them.
#[derive(Clone, Default)]
struct Objects(Arc<HashMap<String, Bytes>>);

impl Objects {
    /// Stores `small` objects of a few KiB and `large` ones of several extents.
    fn put(s3: &S3, small: u64, large: u64) -> Self {
        let mut objects = HashMap::new();
        for seed in 0..small + large {
            let (name, size) = if seed < small {
                ("small", 100 + seed * 11)
            } else {
                ("large", 3 * RUN_BYTES - 12_345)
            };
            let key = format!("{name}/{seed}");
            s3.put_synthetic("bucket", &key, seed, size);
            objects.insert(key, synthetic::bytes(seed, 0..size));
        }
        Self(Arc::new(objects))
    }

    fn keys(&self) -> Vec<&String> {
        let mut keys: Vec<_> = self.0.keys().collect();
        keys.sort();
        keys
    }

    /// Gets one; tells what is wrong with the answer.
    async fn check(&self, url: &str, key: &str) -> Result<(), String> {
        let wrong = |what: String| Err(format!("{key} at {url}: {what}"));
        match http::try_get(&format!("{url}/get?key={}", http::encoded(key))).await {
            Err(error) => wrong(format!("{error:?}")),
            Ok(answer) if answer.status != 200 => {
                wrong(format!("{} {}", answer.status, answer.text()))
            }
            Ok(answer) if answer.body != self.0[key] => wrong("other bytes".to_owned()),
            Ok(_) => Ok(()),
        }
    }

    /// Gets each at each of these nodes, well.
    async fn read_all<'a>(&self, nodes: impl IntoIterator<Item = &'a Process>) {
        for node in nodes {
            for key in self.keys() {
                self.check(&node.url, key).await.unwrap();
            }
        }
    }
}

/// Readers that go on until they are told to end.
struct Load {
    readers: JoinSet<()>,
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Load {
    /// So many readers at each of these nodes, each of all objects, over and over.
    fn start<'a>(
        objects: &Objects,
        nodes: impl IntoIterator<Item = &'a Process>,
        readers: usize,
    ) -> Self {
        let mut load = Self {
            readers: JoinSet::new(),
            over: Arc::default(),
            done: Arc::default(),
            failed: Arc::default(),
        };
        for (at, node) in nodes.into_iter().enumerate() {
            for reader in 0..readers {
                let (over, done, failed) =
                    (load.over.clone(), load.done.clone(), load.failed.clone());
                let (objects, url) = (objects.clone(), node.url.clone());
                load.readers.spawn(async move {
                    let keys = objects.keys();
                    // Each begins elsewhere.
                    let from = keys.len() / readers * reader + at;
                    for key in keys.iter().cycle().skip(from) {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        if let Err(wrong) = objects.check(&url, key).await {
                            failed.lock().unwrap().push(wrong);
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        load
    }

    /// Waits until so many more requests have been answered.
    async fn more(&self, requests: u64) {
        let enough = self.done.load(Ordering::Relaxed) + requests;
        until("requests of the running load", || async {
            (self.done.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    /// Ends it. Panics unless every request was answered well.
    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.readers.join_all().await;
        let failed = self.failed.lock().unwrap();
        let done = self.done.load(Ordering::Relaxed);
        let first = failed.iter().take(5).collect::<Vec<_>>();
        assert!(failed.is_empty(), "{} of {done}: {first:#?}", failed.len());
    }
}
