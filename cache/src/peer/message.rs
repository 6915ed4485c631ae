//! What nodes say to each other, as JSON. During a rolling update two versions talk to each other: what is new
//! has a default, and what is unknown is passed over.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::object::{ETag, Head, ObjectId, Said, Scope, Source};

/// A node's name and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contact {
    /// What places it in the ring.
    pub name: String,
    /// `http://HOST:PORT`
    pub url: String,
}

/// "Here I am": said at start, as heartbeat, and once more when leaving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's name.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// Random for each process: a restart is another incarnation.
    pub incarnation: u64,
    /// It takes no more work as an owner.
    pub leaving: bool,
    /// It is not in the ring and needs no invalidations: it only asks which nodes answer.
    #[serde(default)]
    pub sidecar: bool,
    /// It does not serve yet, and asks which nodes owe what.
    #[serde(default)]
    pub joining: bool,
    /// Everyone it knows.
    pub members: Vec<Contact>,
}

/// A node that has not answered some invalidations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owing {
    /// The node.
    pub node: Contact,
    /// What it has to forget.
    pub scopes: Vec<Scope>,
}

/// The answer to [`Heartbeat`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The answering node's name.
    pub name: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// Everyone it knows.
    pub members: Vec<Contact>,
    /// Which nodes owe what, for one that is joining.
    #[serde(default)]
    pub owing: Vec<Owing>,
    /// What it knows of the process that sent the heartbeat.
    #[serde(flatten)]
    pub sender: SenderStatus,
}

/// Whether a process that sends a heartbeat is the node that it says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderStatus {
    /// Another process goes by its name, and lives: where that one listens.
    #[serde(default)]
    pub taken: Option<String>,
    /// It has answered a heartbeat at the address that it gives: invalidations reach it there.
    #[serde(default)]
    pub reached: bool,
}

/// "Forget this": one round of an invalidation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidateRequest {
    /// What to forget.
    pub scope: Scope,
    /// The node that coordinates.
    pub from: String,
    /// Nodes that have not answered so far. The recipient remembers that they owe it.
    #[serde(default)]
    pub unanswered: Vec<Contact>,
}

/// The answer to [`InvalidateRequest`]: forgotten, and reads under way are fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidateAck {
    /// The answering node's name.
    pub name: String,
    /// Heads that it dropped.
    pub dropped_heads: u64,
    /// Blocks that it dropped.
    pub dropped_blocks: u64,
    /// Everyone it knows.
    pub members: Vec<Contact>,
}

/// What is asked of a node that owns an extent, or is an object's home.
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
    /// The current version matters only if it is not this one, whose blocks the asker holds.
    pub held: Option<ETag>,
    /// Ask S3 whether the version still holds, whatever the entry says.
    pub revalidate: bool,
    /// This version is known to be gone.
    pub gone: Option<ETag>,
}

impl ReadRequest {
    /// The object's current version, and nothing else yet.
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

/// What the asked node says before the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadResponse {
    /// The version's head; absent when the asker named the version.
    pub head: Option<Head>,
    /// Milliseconds since S3 said so. Ages, not instants: the nodes' clocks need not agree.
    pub age_ms: u64,
    /// Milliseconds for which it may be taken as current; `None` is for ever.
    pub fresh_ms: Option<u64>,
    /// Where the asked node had the bytes from.
    pub source: Source,
    /// The bytes that follow.
    pub bytes: Range<u64>,
}

/// A refusal of another node, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// What the asker should make of it.
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

/// What the asker should make of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// S3 says that there is no such object.
    Absent,
    /// S3 holds another version by now.
    Version,
    /// S3 failed or refused; asking it again from here would not help.
    Origin,
    /// The peer token is missing or wrong.
    Unauthorized,
    /// The request can't be understood, or names a bucket that the node does not serve.
    BadRequest,
    /// The node can't help now: no memory, or no time. So is read what only a newer version says.
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
