//! Where the bytes of a fill come from, and why they end.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::permits::{Permit, Permits};
use crate::fill::{Abandoned, Error, Version};
use crate::object::Source;
use crate::origin::{self, Origin, OriginBody};
use crate::peer::{self, Contact, PeerBody, ReadRequest, RefusalKind};
use crate::proxy::owners::{Owners, relayed, seen_from_here};

/// The places that bytes may come from: an owner of the extent, and S3.
pub(super) struct Sources {
    pub(super) origin: Origin,
    pub(super) owners: Arc<Owners>,
    pub(super) permits: Permits,
}

/// Bytes of a version on their way.
pub(in crate::proxy) struct FillStream {
    /// Where in the object the next byte lies.
    pub(super) at: u64,
    /// What the answer is said to come from.
    pub(super) source: Source,
    body: Body,
    /// S3's, for as long as it is read.
    pub(super) permit: Option<Permit>,
}

enum Body {
    Origin(OriginBody),
    Peer(Contact, PeerBody),
}

/// Why a stream ended before its end.
pub(super) enum StreamEnd {
    /// Another place may have the bytes.
    Elsewhere(Error),
    /// No other place would know better.
    Final(Error),
}

impl FillStream {
    /// S3's answer to a read, which came by `permit`.
    pub(in crate::proxy) fn from_origin(
        at: u64,
        source: Source,
        body: OriginBody,
        permit: Option<Permit>,
    ) -> Self {
        Self {
            at,
            source,
            body: Body::Origin(body),
            permit,
        }
    }

    /// A peer's answer.
    pub(in crate::proxy) fn from_peer(
        at: u64,
        source: Source,
        peer: Contact,
        body: PeerBody,
    ) -> Self {
        Self {
            at,
            source,
            body: Body::Peer(peer, body),
            permit: None,
        }
    }

    /// True when S3 sends it.
    pub(super) fn is_from_origin(&self) -> bool {
        matches!(self.body, Body::Origin(_))
    }
}

impl Sources {
    /// Asks an owner for bytes of a version.
    pub(super) async fn open_peer(
        &self,
        version: &Version,
        bytes: Range<u64>,
        peer: Contact,
    ) -> Result<FillStream, StreamEnd> {
        let request = ReadRequest {
            bytes: Some(bytes),
            version: Some((version.etag.clone(), version.size)),
            ..ReadRequest::current(&version.object)
        };
        let (response, body) = self.owners.read(&peer, &request).await?;
        let source = seen_from_here(response.source);
        let at = response.bytes.start;
        Ok(FillStream::from_peer(at, source, peer, body))
    }

    /// Asks S3 for bytes of a version, when a permit is free.
    pub(super) async fn open_origin(
        &self,
        version: &Version,
        bytes: Range<u64>,
    ) -> Result<FillStream, StreamEnd> {
        let permit = self.permits.take().await;
        let reply = self
            .origin
            .read(&version.object, bytes, Some(&version.etag))
            .await
            .map_err(unread)?;
        if reply.head.size != version.size {
            return Err(StreamEnd::Final(Error::VersionChanged));
        }
        let source = version.bypass.map_or(Source::Origin, Source::Bypass);
        let at = reply.range.start;
        Ok(FillStream::from_origin(at, source, reply.body, permit))
    }

    /// The next bytes of a stream; `None` after the last.
    pub(super) async fn next_chunk(
        &self,
        stream: &mut FillStream,
    ) -> Option<Result<Bytes, StreamEnd>> {
        let chunk = match &mut stream.body {
            Body::Origin(body) => {
                let chunk = body.next().await?;
                chunk.map_err(|error| StreamEnd::Elsewhere(Error::Origin(error)))
            }
            Body::Peer(peer, body) => {
                let chunk = self.owners.next_chunk(peer, body).await?;
                chunk.map_err(StreamEnd::from)
            }
        };
        if let Ok(chunk) = &chunk {
            stream.at += chunk.len() as u64;
        }
        Some(chunk)
    }
}

impl From<peer::Error> for StreamEnd {
    fn from(error: peer::Error) -> Self {
        match error {
            peer::Error::Refused(refusal) => match refusal.kind {
                RefusalKind::Version | RefusalKind::Absent => Self::Final(Error::VersionChanged),
                RefusalKind::Origin => Self::Final(Error::Relayed(relayed(refusal))),
                RefusalKind::Busy | RefusalKind::Unauthorized | RefusalKind::BadRequest => {
                    Self::Elsewhere(Error::Abandoned(Abandoned::PeerFailed))
                }
            },
            _ => Self::Elsewhere(Error::Abandoned(Abandoned::PeerFailed)),
        }
    }
}

/// What a read that did not begin means for the part. One that S3 did not answer at all says nothing of the object: it
/// is tried again, while a refusal would only be repeated, and a request to slow down must not be answered with more
/// requests.
fn unread(error: origin::Error) -> StreamEnd {
    let unanswered = matches!(
        error,
        origin::Error::Timeout { .. } | origin::Error::Unreachable { .. }
    );
    let error = match error {
        // Gone or shorter: whatever is there now, it is not the version that was asked for.
        origin::Error::VersionChanged
        | origin::Error::NotFound { .. }
        | origin::Error::RangeNotSatisfiable => Error::VersionChanged,
        error => Error::Origin(Arc::new(error)),
    };
    if unanswered {
        StreamEnd::Elsewhere(error)
    } else {
        StreamEnd::Final(error)
    }
}
