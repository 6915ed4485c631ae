//! Asking peers: who comes before this node, and giving up on one that the heartbeat says is silent.

use std::sync::Arc;
use std::time::Duration;

use super::Proxy;
use crate::fill::Error;
use crate::object::{ObjectId, Source};
use crate::peer::{self, Contact, Found, Refusal, Want};
use crate::ring::{Ring, State};

/// A request waits so long for a node from which nothing comes: three missed hellos, as good as.
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

    /// Asks a node; gives up when the heartbeat says that it is silent.
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

    /// Comes back when the member no longer answers: the heartbeat says so, or nothing has come from it for so long,
    /// to this request or to anybody, that it would only be waited for.
    pub(super) async fn silence(&self, name: &str) {
        let mut ring = self.0.ring.clone();
        let is_silent = |ring: &Arc<Ring>| {
            ring.member(name)
                .is_none_or(|member| member.state == State::Silent)
        };
        let said = async {
            let over = ring.wait_for(is_silent).await.is_err();
            if over {
                // No more rings: this node stops, and the answer may still come.
                std::future::pending::<()>().await;
            }
        };
        let seen = async {
            let mut wait = QUIET;
            loop {
                tokio::time::sleep(wait).await;
                let quiet = self.0.members.quiet_for(name).unwrap_or(QUIET);
                match QUIET.checked_sub(quiet) {
                    Some(more) if !more.is_zero() => wait = more,
                    _ => return,
                }
            }
        };
        tokio::select! { () = said => {}, () = seen => {} }
    }
}

pub(super) fn silent(peer: &Contact) -> peer::Error {
    peer::Error::Unreachable {
        url: peer.url.clone(),
        source: "it does not answer heartbeats".into(),
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
    }
}
