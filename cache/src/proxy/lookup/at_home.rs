//! Asking an object's home which version is current.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::found::{Lookup, LookupKey};
use super::freshness::CachedHeads;
use crate::object::{ObjectId, Source};
use crate::peer::{self, Contact, PeerBody, ReadRequest, ReadResponse, RefusalKind};
use crate::proxy::error::Error;
use crate::proxy::fetch::{Fetcher, FillStream};
use crate::proxy::owners::{Owners, relayed, seen_from_here};
use crate::proxy::read::Freshness;
use crate::store::{Absent, Entry, EntryState, Ticket};

/// Lookups at the home, or its stand-ins.
pub(super) struct AtHome {
    pub(super) heads: Arc<CachedHeads>,
    pub(super) owners: Arc<Owners>,
    pub(super) fetcher: Arc<Fetcher>,
}

impl AtHome {
    /// True when this node is the home.
    pub(super) fn is_here(&self, object: &ObjectId) -> bool {
        self.owners.is_me(object, 0)
    }

    /// Asks the home, else its stand-ins; `None` when none of them can help.
    pub(super) async fn look_up(
        &self,
        key: &LookupKey,
        first: Option<Range<u64>>,
        old: Option<&Entry>,
        ticket: Ticket,
    ) -> Option<Result<Lookup, Error>> {
        let object = &key.object;
        let request = read_request(key, first, old);
        for home in self.owners.before_me(object, 0) {
            // After the ticket: what it comes to owe later overtakes this read. Its stand-in, or S3, knows better.
            if self.owners.is_owing(&home) {
                continue;
            }
            match self.owners.read(&home, &request).await {
                Ok((response, body)) => {
                    let adopted = self.adopt(object, &request, response, (home, body), ticket);
                    if let Some(lookup) = adopted {
                        return Some(lookup);
                    }
                }
                Err(peer::Error::Refused(refusal)) => match refusal.kind {
                    RefusalKind::Absent => {
                        let absent = Absent {
                            code: refusal.code,
                            message: refusal.message,
                            said: refusal.said.map(Arc::new),
                        };
                        return Some(Err(self.heads.record_absent(object, absent, ticket, true)));
                    }
                    RefusalKind::Version => return Some(Err(Error::VersionChanged)),
                    RefusalKind::Origin => return Some(Err(Error::Relayed(relayed(refusal)))),
                    RefusalKind::Busy | RefusalKind::Unauthorized | RefusalKind::BadRequest => {
                        tracing::debug!(%object, home = home.name, %refusal, "failed to ask the home");
                    }
                },
                Err(error) => {
                    tracing::debug!(%object, home = home.name, %error, "failed to ask the home");
                }
            }
        }
        None
    }

    /// Adopts the home's head, with what is left of its freshness; the bytes that follow it are streamed into fills.
    fn adopt(
        &self,
        object: &ObjectId,
        request: &ReadRequest,
        response: ReadResponse,
        (home, body): (Contact, PeerBody),
        ticket: Ticket,
    ) -> Option<Result<Lookup, Error>> {
        let now = Instant::now();
        let age = Duration::from_millis(response.age_ms);
        let head = response.head?;
        let source = match response.source {
            // What is here is as current as what is there.
            Source::Memory if request.held.as_ref() == Some(&head.etag) => Source::Memory,
            source => seen_from_here(source),
        };
        let entry = Entry {
            state: EntryState::Present(Arc::new(head)),
            fetched: now.checked_sub(age).unwrap_or(now),
            fresh_until: response.fresh_ms.map(|ms| now + Duration::from_millis(ms)),
            copied: true,
        };
        let entry = self.heads.record(object, entry, ticket);
        let mut lookup = match Lookup::new(entry, source) {
            Ok(lookup) if !response.bytes.is_empty() => lookup,
            other => return Some(other),
        };
        let stream = FillStream::from_peer(response.bytes.start, source, home, body);
        let (head, bytes) = (&lookup.head, &response.bytes);
        lookup.fills = self.fetcher.fetch_from(object, head, bytes, stream, ticket);
        Some(Ok(lookup))
    }
}

/// What the home is asked, with what is held here already.
fn read_request(key: &LookupKey, first: Option<Range<u64>>, old: Option<&Entry>) -> ReadRequest {
    let held = old.and_then(|entry| match &entry.state {
        EntryState::Present(head) => Some(head.etag.clone()),
        EntryState::Negative(_) => None,
    });
    let mut request = ReadRequest {
        bytes: first,
        held,
        ..ReadRequest::current(&key.object)
    };
    match &key.freshness {
        Freshness::Stored => {}
        Freshness::Revalidate => request.revalidate = true,
        Freshness::Not(gone) => request.gone = Some(gone.clone()),
    }
    request
}
