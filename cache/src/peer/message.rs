//! The messages between nodes, as JSON. During a rolling update two versions talk to each other: new fields have a
//! default, and unknown ones are ignored.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::object::{ETag, Head, ObjectId, Said, Scope, Source};

/// A node's name and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contact {
    /// Its name: this places it in the ring.
    pub name: String,
    /// `http://HOST:PORT`
    pub url: String,
}

/// "Here I am": sent at start, as a heartbeat, and once more when leaving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's name.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// Random for each process: a restart is another incarnation.
    pub incarnation: u64,
    /// It no longer acts as an owner.
    pub leaving: bool,
    /// It is not in the ring and is sent nothing: it only wants to know which nodes answer.
    #[serde(default)]
    pub sidecar: bool,
    /// It does not serve yet, and asks which nodes owe the answer to an invalidation.
    #[serde(default)]
    pub joining: bool,
    /// All nodes that it knows.
    pub members: Vec<Contact>,
}

/// A node that has not answered some invalidations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owing {
    /// The node.
    pub node: Contact,
    /// What it has to drop.
    pub scopes: Vec<Scope>,
}

/// The answer to [`Heartbeat`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The answering node's name.
    pub name: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// All nodes that it knows.
    pub members: Vec<Contact>,
    /// For a joining node: which nodes owe the answer to an invalidation.
    #[serde(default)]
    pub owing: Vec<Owing>,
    /// What it knows of the sender's process.
    #[serde(flatten)]
    pub sender: SenderStatus,
}

/// Whether the sender of a heartbeat is the node that it claims to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderStatus {
    /// Another process has the same name and is alive: where that one listens.
    #[serde(default)]
    pub taken: Option<String>,
    /// It has answered a heartbeat at its address, so invalidations reach it there.
    #[serde(default)]
    pub reached: bool,
}

/// "Drop this": one round of an invalidation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidateRequest {
    /// What to drop.
    pub scope: Scope,
    /// The node that coordinates.
    pub from: String,
    /// The nodes that have not answered so far. The receiver remembers that they owe an answer.
    #[serde(default)]
    pub unanswered: Vec<Contact>,
}

/// The answer to [`InvalidateRequest`]: it is dropped, and reads in progress are fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidateAck {
    /// The answering node's name.
    pub name: String,
    /// Heads that it dropped.
    pub dropped_heads: u64,
    /// Blocks that it dropped.
    pub dropped_blocks: u64,
    /// All nodes that it knows.
    pub members: Vec<Contact>,
}

/// A request to the owner of an extent, or to an object's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The bucket.
    pub bucket: String,
    /// The key, exactly.
    pub key: String,
    /// The bytes wanted; `None` for the head alone.
    pub bytes: Option<Range<u64>>,
    /// The version they must be of, with its size. `None`: the current one, which the home knows.
    pub version: Option<(ETag, u64)>,
    /// The version whose blocks the requesting node holds: only another one matters.
    pub held: Option<ETag>,
    /// Asks S3 whether the version is still current, whatever the entry says.
    pub revalidate: bool,
    /// A version that is known to be gone.
    pub gone: Option<ETag>,
}

impl ReadRequest {
    /// Asks for the object's current version alone.
    pub fn current(object: &ObjectId) -> Self {
        Self {
            bucket: object.bucket().to_owned(),
            key: object.key().to_owned(),
            bytes: None,
            version: None,
            held: None,
            revalidate: false,
            gone: None,
        }
    }
}

/// The head of the answer, before the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadResponse {
    /// The version's head; absent when the request named the version.
    pub head: Option<Head>,
    /// Milliseconds since S3 confirmed it. Ages, not instants: the nodes' clocks need not agree.
    pub age_ms: u64,
    /// Milliseconds for which it may be taken as current; `None`: for ever.
    pub fresh_ms: Option<u64>,
    /// Where the answering node got the bytes from.
    pub source: Source,
    /// The bytes that follow.
    pub bytes: Range<u64>,
}

/// A node's refusal, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// What it means for the requesting node.
    pub kind: RefusalKind,
    /// The status for a client.
    pub status: u16,
    /// S3's code, or Falcon's.
    pub code: String,
    /// The cause, in words.
    pub message: String,
    /// What else S3 said.
    #[serde(default)]
    pub said: Option<Said>,
}

/// What a refusal means for the requesting node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// S3 has no such object.
    Absent,
    /// S3 has another version by now.
    Version,
    /// S3 failed or refused; asking it again from here would not help.
    Origin,
    /// The peer token is missing or wrong.
    Unauthorized,
    /// The request can't be understood, or names a bucket that the node does not serve.
    BadRequest,
    /// The node can't help now: no memory, or no time. Kinds that only a newer version knows are read as this.
    #[serde(other)]
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_refusal_that_is_not_known_reads_as_busy() {
        let kind = |word: &str| serde_json::from_value::<RefusalKind>(word.into()).unwrap();
        assert_eq!(kind("unauthorized"), RefusalKind::Unauthorized);
        assert_eq!(kind("bad-request"), RefusalKind::BadRequest);
        assert_eq!(kind("busy"), RefusalKind::Busy);
        assert_eq!(kind("of-tomorrow"), RefusalKind::Busy);
    }
}
