//! The owners of an extent: which of them come before this node, asking them, and giving up on one that has gone
//! silent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::members::Members;
use crate::metrics::Metrics;
use crate::object::{ObjectId, Relayed, Source};
use crate::peer::{self, Contact, PeerBody, Peers, ReadRequest, ReadResponse, Refusal};
use crate::ring::Ring;

/// How long a request waits for a node from which nothing comes, not even the answer to a heartbeat.
const IDLE_LIMIT: Duration = Duration::from_millis(450);
/// Owners that are tried before S3: the first, and its stand-in.
const PEERS_TRIED: usize = 2;

/// The other members, as owners of extents.
pub(super) struct Owners {
    peers: Peers,
    members: Arc<Members>,
    ring: watch::Receiver<Arc<Ring>>,
    metrics: Arc<Metrics>,
}

impl Owners {
    pub(super) fn new(peers: Peers, members: Arc<Members>, metrics: Arc<Metrics>) -> Self {
        Self {
            peers,
            ring: members.ring(),
            members,
            metrics,
        }
    }

    /// True when this node owns the extent.
    pub(super) fn is_me(&self, object: &ObjectId, extent: u32) -> bool {
        self.ring.borrow().owns(object, extent)
    }

    /// The members to ask for an extent before this node reads it itself, best first.
    pub(super) fn before_me(&self, object: &ObjectId, extent: u32) -> Vec<Contact> {
        let ring = self.ring.borrow().clone();
        let owners = ring.owners(object, extent);
        owners
            .into_iter()
            .take_while(|member| member.name != ring.me())
            .take(PEERS_TRIED)
            .map(|member| Contact {
                name: member.name.clone(),
                url: member.url.clone(),
            })
            .collect()
    }

    /// True when a member has not acknowledged some invalidation: what it holds may be stale.
    pub(super) fn is_owing(&self, peer: &Contact) -> bool {
        self.members.owes(&peer.name)
    }

    /// Asks a member for a version's head, its bytes, or both.
    pub(super) async fn read(
        &self,
        peer: &Contact,
        request: &ReadRequest,
    ) -> Result<(ReadResponse, PeerBody), peer::Error> {
        self.while_alive(peer, self.peers.read(&peer.url, request))
            .await
    }

    /// Has a member fetch an extent that it owns. Returns the bytes that it holds then.
    pub(super) async fn warm(
        &self,
        peer: &Contact,
        request: &ReadRequest,
    ) -> Result<u64, peer::Error> {
        self.while_alive(peer, self.peers.warm(&peer.url, request))
            .await
    }

    /// Gives a member a block that was just written to S3.
    pub(super) async fn write_through(
        &self,
        peer: &Contact,
        request: &ReadRequest,
        block: Bytes,
    ) -> Result<(), peer::Error> {
        let written = self.peers.write_through(&peer.url, request, block);
        self.while_alive(peer, written).await
    }

    /// The next bytes of a member's answer; `None` after the last.
    pub(super) async fn next_chunk(
        &self,
        peer: &Contact,
        body: &mut PeerBody,
    ) -> Option<Result<Bytes, peer::Error>> {
        let chunk = tokio::select! {
            biased;
            chunk = body.next() => chunk?,
            () = self.until_idle(&peer.name) => Err(unreachable(peer)),
        };
        if let Ok(chunk) = &chunk {
            self.members.record_activity(&peer.name);
            self.metrics.peer_bytes(chunk.len() as u64);
        }
        Some(chunk)
    }

    async fn while_alive<T>(
        &self,
        peer: &Contact,
        answer: impl Future<Output = Result<T, peer::Error>>,
    ) -> Result<T, peer::Error> {
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = self.until_idle(&peer.name) => Err(unreachable(peer)),
        };
        match &answer {
            Err(peer::Error::Unreachable { .. }) => self.members.suspect(&peer.name),
            Ok(_) | Err(_) => self.members.record_activity(&peer.name),
        }
        answer
    }

    /// Returns when nothing has come from a member for [`IDLE_LIMIT`], to this request or to any other.
    async fn until_idle(&self, name: &str) {
        let mut wait = IDLE_LIMIT;
        while !wait.is_zero() {
            tokio::time::sleep(wait).await;
            let idle = self.members.idle_for(name).unwrap_or(IDLE_LIMIT);
            wait = IDLE_LIMIT.saturating_sub(idle);
        }
    }
}

fn unreachable(peer: &Contact) -> peer::Error {
    peer::Error::Unreachable {
        url: peer.url.clone(),
        source: "nothing comes from it, not even the answer to a heartbeat".into(),
    }
}

/// What another node calls its memory is a peer's memory from here.
pub(super) fn seen_from_here(source: Source) -> Source {
    match source {
        Source::Memory => Source::Peer,
        other => other,
    }
}

/// What another node heard from S3.
pub(super) fn relayed(refusal: Refusal) -> Relayed {
    Relayed {
        status: refusal.status,
        code: refusal.code,
        message: refusal.message,
        said: refusal.said.map(Arc::new),
    }
}
