//! Asking peers: who comes before this node, and giving up on one from which nothing comes any more.

use std::sync::Arc;
use std::time::Duration;

use super::Proxy;
use crate::fill::Error;
use crate::object::{ObjectId, Source};
use crate::peer::{self, Contact, Found, Refusal, Want};

/// A request waits so long for a node from which nothing comes, not even the answer to a hello.
const QUIET: Duration = Duration::from_millis(450);

impl Proxy {
    /// The members that are to be asked for a run before this node is, best first.
    pub(super) fn peers_before_me(&self, object: &ObjectId, run: u32, most: usize) -> Vec<Contact> {
        let ring = self.0.ring.borrow().clone();
        let owners = ring.owners(object, run);
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
        want: &Want,
    ) -> Result<(Found, peer::Body), peer::Error> {
        self.while_alive(peer, self.0.peers.read(&peer.url, want))
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
            () = self.silence(&peer.name) => Err(silent(peer)),
        };
        match &answer {
            Err(peer::Error::Unreachable { .. }) => self.0.members.suspect(&peer.name),
            Ok(_) | Err(_) => self.0.members.heard_from(&peer.name),
        }
        answer
    }

    /// Comes back when nothing has come from a member for [`QUIET`], to this request or to anybody.
    pub(super) async fn silence(&self, name: &str) {
        let mut wait = QUIET;
        while !wait.is_zero() {
            tokio::time::sleep(wait).await;
            let quiet = self.0.members.quiet_for(name).unwrap_or(QUIET);
            wait = QUIET.saturating_sub(quiet);
        }
    }
}

pub(super) fn silent(peer: &Contact) -> peer::Error {
    peer::Error::Unreachable {
        url: peer.url.clone(),
        source: "nothing comes from it, not even the answer to a hello".into(),
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
