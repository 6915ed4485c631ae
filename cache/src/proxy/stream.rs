//! Where the bytes of a fill come from, and why they end.

use bytes::Bytes;

use super::Proxy;
use super::ask::{relayed, silent};
use crate::fill::Error;
use crate::origin;
use crate::peer::{self, Contact, RefusalKind};

/// Bytes that come from somewhere.
pub(super) enum Stream {
    Origin(origin::Body),
    Peer(Contact, peer::Body),
}

impl From<origin::Body> for Stream {
    fn from(body: origin::Body) -> Self {
        Self::Origin(body)
    }
}

impl From<(Contact, peer::Body)> for Stream {
    fn from((contact, body): (Contact, peer::Body)) -> Self {
        Self::Peer(contact, body)
    }
}

/// Why a stream ended before its end.
pub(super) enum Break {
    /// Another place may have the bytes.
    Elsewhere(Error),
    /// No other place would know better.
    Final(Error),
}

impl Stream {
    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self, proxy: &Proxy) -> Option<Result<Bytes, Break>> {
        match self {
            Self::Origin(body) => {
                let chunk = body.next().await?;
                Some(chunk.map_err(|error| Break::Elsewhere(Error::Origin(error))))
            }
            Self::Peer(peer, body) => {
                let chunk = tokio::select! {
                    biased;
                    chunk = body.next() => chunk?,
                    () = proxy.silence(&peer.name) => Err(silent(peer)),
                };
                if let Ok(chunk) = &chunk {
                    proxy.0.members.heard_from(&peer.name);
                    proxy.0.metrics.peer_bytes(chunk.len() as u64);
                }
                Some(chunk.map_err(Break::from))
            }
        }
    }
}

impl From<peer::Error> for Break {
    fn from(error: peer::Error) -> Self {
        match error {
            peer::Error::Refused(refusal) => match refusal.kind {
                RefusalKind::Version | RefusalKind::Absent => Self::Final(Error::VersionChanged),
                RefusalKind::Origin => Self::Final(relayed(refusal)),
                RefusalKind::Busy => Self::Elsewhere(Error::NoMemory),
            },
            _ => Self::Elsewhere(Error::NoMemory),
        }
    }
}
