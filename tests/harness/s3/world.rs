//! What the S3 of the tests holds: buckets, objects by their exact keys, unfinished uploads, accepted keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use md5::{Digest, Md5};
use s3s::dto::Timestamp;
use tokio::time::Instant;

use super::synthetic;

/// The bytes of an object.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// As they are.
    Bytes(Bytes),
    /// Made from the offset; see [`synthetic`].
    Synthetic { seed: u64, size: u64 },
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Synthetic { size, .. } => *size,
        }
    }

    pub(super) fn slice(&self, range: Range<u64>) -> Bytes {
        match self {
            Self::Bytes(bytes) => {
                let at = |n| usize::try_from(n).expect("it is in memory");
                bytes.slice(at(range.start)..at(range.end))
            }
            Self::Synthetic { seed, .. } => synthetic::bytes(*seed, range),
        }
    }

    fn etag(&self) -> String {
        match self {
            Self::Bytes(bytes) => md5(bytes),
            Self::Synthetic { seed, size } => {
                format!("{}-2", md5(format!("{seed} {size}").as_bytes()))
            }
        }
    }
}

/// An object as it is held.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) content: Content,
    /// Without quotes.
    pub(crate) etag: String,
    /// Whole seconds.
    pub(crate) modified: SystemTime,
    pub(crate) headers: StoredHeaders,
}

/// The headers that S3 keeps with an object.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredHeaders {
    pub(crate) content_type: Option<String>,
    pub(crate) cache_control: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) metadata: HashMap<String, String>,
}

impl Stored {
    pub(super) fn new(content: Content, headers: StoredHeaders) -> Self {
        Self {
            etag: content.etag(),
            content,
            modified: now(),
            headers,
        }
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        self.modified.into()
    }
}

/// One change of an object, in the order in which they were made.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// The tag without quotes; `None` is a deletion, also of what was not there.
    pub(crate) etag: Option<String>,
    pub(crate) at: Instant,
    /// The test removed it, and no request did.
    pub(crate) behind: bool,
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) parts: BTreeMap<i32, Bytes>,
    pub(super) headers: StoredHeaders,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) buckets: BTreeSet<String>,
    pub(super) objects: BTreeMap<(String, String), Arc<Stored>>,
    pub(super) commits: Vec<Commit>,
    pub(super) uploads: BTreeMap<String, Unfinished>,
    pub(super) uploads_begun: u64,
    /// Key id to secret; `None` lets everybody in.
    pub(super) keys: Option<HashMap<String, String>>,
}

impl State {
    pub(super) fn store(&mut self, name: (String, String), stored: Arc<Stored>) {
        self.note(&name, Some(stored.etag.clone()), false);
        self.objects.insert(name, stored);
    }

    pub(super) fn remove(&mut self, name: &(String, String), behind: bool) {
        self.note(name, None, behind);
        self.objects.remove(name);
    }

    fn note(&mut self, (bucket, key): &(String, String), etag: Option<String>, behind: bool) {
        self.commits.push(Commit {
            bucket: bucket.clone(),
            key: key.clone(),
            etag,
            at: Instant::now(),
            behind,
        });
    }
}

#[derive(Default)]
pub(super) struct World(Mutex<State>);

impl World {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

pub(super) fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// S3's tag of an object in parts: the hash of the parts' hashes, and how many there were.
pub(super) fn parts_etag<'a>(parts: impl Iterator<Item = &'a Bytes>) -> String {
    let mut all = Md5::new();
    let mut count = 0;
    for part in parts {
        all.update(Md5::digest(part));
        count += 1;
    }
    format!("{}-{count}", hex(&all.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes it");
        hex
    })
}

fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UNIX_EPOCH + Duration::from_secs(since.expect("after 1970").as_secs())
}
