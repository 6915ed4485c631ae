//! S3's answer to a write, and the barrier before the client gets it.
//!
//! Most answers are held back until the barrier is raised. When S3 takes long and keeps the client waiting with blanks,
//! the blanks are passed on as they come, and only the rest is held back.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use http::response::Parts as Head;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::object::Scope;
use crate::origin::{self, Forward, ForwardedBody, Origin};
use crate::web::aftermath::Aftermath;
use crate::web::barrier::Barriers;

/// The most bytes of an answer to a write: some lines of XML, or a list of 10,000 parts.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// An answer that has begun and takes longer than this to end is one that S3 is still working on.
const PROMPT: Duration = Duration::from_secs(1);

/// The barrier to raise when S3 may have carried out the write.
pub(super) struct Barrier {
    pub(super) aftermath: Aftermath,
    pub(super) scope: Scope,
}

/// An answer for the client.
pub(super) struct WriteResponse {
    pub(super) head: Head,
    pub(super) body: Body,
    /// Empty where the answer begins before the barrier.
    pub(super) barriers: Barriers,
}

/// Sends a write, and raises its barrier unless S3 certainly did nothing. `in_body`: a success is only certain at the
/// end of the body, and clients know it.
pub(super) async fn send_and_invalidate(
    origin: Origin,
    forward: Forward,
    wait: Duration,
    in_body: bool,
    barrier: Barrier,
) -> Result<WriteResponse, origin::Error> {
    let (head, mut body) = match origin.forward(forward, wait).await {
        Ok(answer) => answer.into_parts(),
        Err(error) => {
            barrier.follow(Some(&error)).await;
            return Err(error);
        }
    };
    let mut text = BytesMut::new();
    let patience = if in_body { PROMPT } else { Duration::MAX };
    let Ok(ended) = timeout(patience, read(&mut body, &mut text)).await else {
        let (sender, pieces) = unbounded_channel();
        tokio::spawn(rest(body, text, sender, barrier));
        let pieces = stream::unfold(pieces, |mut pieces| async {
            Some((pieces.recv().await?, pieces))
        });
        return Ok(WriteResponse {
            head,
            body: Body::from_stream(pieces),
            barriers: Barriers::default(),
        });
    };
    let barriers = match head.status.as_u16() {
        // A proxy on the way says that S3 did not answer in time.
        500 | 502 | 504 => barrier.raise(true).await,
        501 | 503.. => barrier.raise(false).await,
        300..=499 => Barriers::default(),
        _ => barrier.follow(ended.as_ref().err()).await,
    };
    ended?;
    Ok(WriteResponse {
        head,
        body: Body::from(text.freeze()),
        barriers,
    })
}

/// Reads an answer to its end.
async fn read(body: &mut ForwardedBody, text: &mut BytesMut) -> Result<(), origin::Error> {
    while let Some(bytes) = body.try_next().await? {
        take(text, &bytes)?;
    }
    Ok(())
}

fn take(text: &mut BytesMut, bytes: &[u8]) -> Result<(), origin::Error> {
    if text.len() + bytes.len() > ANSWER_BYTES {
        let long = "the answer to the write is too long".to_owned();
        return Err(origin::Error::Broken(long));
    }
    text.extend_from_slice(bytes);
    Ok(())
}

/// Passes on blanks as they come, and the rest after the barrier. It goes on even when the client has hung up.
async fn rest(
    mut body: ForwardedBody,
    mut text: BytesMut,
    client: UnboundedSender<Result<Bytes, origin::Error>>,
    barrier: Barrier,
) {
    let ended = loop {
        let nothing = text.split_to(preface(&text)).freeze();
        if !nothing.is_empty() {
            client.send(Ok(nothing)).ok();
        }
        match body.next().await {
            None => break Ok(()),
            Some(Ok(bytes)) => {
                if let Err(error) = take(&mut text, &bytes) {
                    break Err(error);
                }
            }
            Some(Err(error)) => break Err(error),
        }
    };
    // An answer that began as a success may end in an error, and even then S3 may have done something.
    let barriers = barrier.follow(ended.as_ref().err()).await;
    if let Some(names) = barriers.unanswered() {
        tracing::warn!(
            names,
            "failed to name the nodes that did not acknowledge a write: its answer had already begun"
        );
    }
    client.send(ended.map(|()| text.freeze())).ok();
}

/// The length of the blanks and the XML declaration at the beginning of an answer, which don't tell the outcome.
fn preface(text: &[u8]) -> usize {
    let blanks = |text: &[u8]| text.len() - text.trim_ascii_start().len();
    let before = blanks(text);
    let declared = &text[before..];
    if !declared.starts_with(b"<?") {
        return before;
    }
    match declared.windows(2).position(|pair| pair == b"?>") {
        Some(end) => before + end + 2 + blanks(&declared[end + 2..]),
        None => before,
    }
}

impl Barrier {
    /// After an answer, or an error in place of one.
    async fn follow(self, failed: Option<&origin::Error>) -> Barriers {
        let mut barriers = Barriers::default();
        if let Some(report) = self.aftermath.follow(self.scope, failed).await {
            barriers.add(report);
        }
        barriers
    }

    async fn raise(self, may_land: bool) -> Barriers {
        let mut barriers = Barriers::default();
        barriers.add(self.aftermath.raise(self.scope, may_land).await);
        barriers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_the_declaration_say_nothing() {
        for (text, length) in [
            ("", 0),
            ("  \r\n", 4),
            ("<Result>", 0),
            (" <Result>", 1),
            ("<?xml version=\"1.0\"?>", 21),
            ("<?xml version=\"1.0\"?>\n  <Error>", 24),
            ("\n<?xml versi", 1),
            ("<", 0),
        ] {
            assert_eq!(preface(text.as_bytes()), length, "{text:?}");
        }
    }
}
