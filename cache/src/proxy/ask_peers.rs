//! Asking peers: who comes before this node, and giving up on one from which nothing comes any more.

use std::sync::Arc;
use std::time::Duration;

use super::Proxy;
use crate::fill::Error;
use crate::object::{ObjectId, Source};
use crate::peer::{self, Contact, ReadRequest, ReadResponse, Refusal};

/// A request waits so long for a node from which nothing comes, not even the answer to a heartbeat.
const IDLE_LIMIT: Duration = Duration::from_millis(450);

impl Proxy {
    /// The members that are to be asked for an extent before this node is, best first.
    pub(super) fn peers_before_me(
        &self,
        object: &ObjectId,
        extent: u32,
        most: usize,
    ) -> Vec<Contact> {
        let ring = self.0.ring.borrow().clone();
        let owners = ring.owners(object, extent);
        owners
            .into_iter()
            .take_while(|member| member.name != ring.me())
            .take(most)
            .map(|member| Contact {
                name: member.name.clone(),
                url: member.url.clone(),
            })
            .collect()
    }

    /// Asks a node; gives up when nothing comes from it.
    pub(super) async fn ask(
        &self,
        peer: &Contact,
        request: &ReadRequest,
    ) -> Result<(ReadResponse, peer::PeerBody), peer::Error> {
        self.while_alive(peer, self.0.peers.read(&peer.url, request))
            .await
    }

    pub(super) async fn while_alive<T>(
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
            Err(peer::Error::Unreachable { .. }) => self.0.members.suspect(&peer.name),
            Ok(_) | Err(_) => self.0.members.record_activity(&peer.name),
        }
        answer
    }

    /// Comes back when nothing has come from a member for [`IDLE_LIMIT`], to this request or to anybody.
    pub(super) async fn until_idle(&self, name: &str) {
        let mut wait = IDLE_LIMIT;
        while !wait.is_zero() {
            tokio::time::sleep(wait).await;
            let idle = self.0.members.idle_for(name).unwrap_or(IDLE_LIMIT);
            wait = IDLE_LIMIT.saturating_sub(idle);
        }
    }
}

pub(super) fn unreachable(peer: &Contact) -> peer::Error {
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
pub(super) fn relayed(refusal: Refusal) -> Error {
    Error::Relayed {
        status: refusal.status,
        code: refusal.code,
        message: refusal.message,
        said: refusal.said.map(Arc::new),
    }
}
