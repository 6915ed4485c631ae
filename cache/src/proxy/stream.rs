//! Where the bytes of a fill come from, and why they end.

use bytes::Bytes;

use super::Proxy;
use super::ask_peers::{relayed, unreachable};
use crate::fill::Error;
use crate::origin;
use crate::peer::{self, Contact, RefusalKind};

/// Bytes that come from somewhere.
pub(super) enum FillStream {
    Origin(origin::OriginBody),
    Peer(Contact, peer::PeerBody),
}

impl From<origin::OriginBody> for FillStream {
    fn from(body: origin::OriginBody) -> Self {
        Self::Origin(body)
    }
}

impl From<(Contact, peer::PeerBody)> for FillStream {
    fn from((contact, body): (Contact, peer::PeerBody)) -> Self {
        Self::Peer(contact, body)
    }
}

/// Why a stream ended before its end.
pub(super) enum StreamEnd {
    /// Another place may have the bytes.
    Elsewhere(Error),
    /// No other place would know better.
    Final(Error),
}

impl FillStream {
    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self, proxy: &Proxy) -> Option<Result<Bytes, StreamEnd>> {
        match self {
            Self::Origin(body) => {
                let chunk = body.next().await?;
                Some(chunk.map_err(|error| StreamEnd::Elsewhere(Error::Origin(error))))
            }
            Self::Peer(peer, body) => {
                let chunk = tokio::select! {
                    biased;
                    chunk = body.next() => chunk?,
                    () = proxy.until_idle(&peer.name) => Err(unreachable(peer)),
                };
                if let Ok(chunk) = &chunk {
                    proxy.0.members.record_activity(&peer.name);
                    proxy.0.metrics.peer_bytes(chunk.len() as u64);
                }
                Some(chunk.map_err(StreamEnd::from))
            }
        }
    }
}

impl From<peer::Error> for StreamEnd {
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
