//! S3's answer to a write, and the barrier before its client hears of it.
//!
//! Most answers are held until the barrier is raised. Where S3 works long and keeps the client waiting with blanks, these are
//! passed on as they come, and what tells the outcome is held.

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

/// The answer to a write is a few lines of XML; the parts of 10,000 fit.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// An answer that has begun and does not end within this is one of those that S3 works on.
const PROMPT: Duration = Duration::from_secs(1);

/// What is raised when S3 may have done what it was asked.
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

/// Sends a write, and raises its barrier unless it is proved that S3 did nothing. `in_body`: the head of a success says nothing
/// yet, and clients know it.
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
        // Somebody on the way says that S3 did not answer in time.
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

/// Passes on what says nothing yet, as it comes; the rest after the barrier. It goes on where nobody listens any more.
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
    // An error may stand in an answer that began as a success; not even that proves that nothing happened.
    let barriers = barrier.follow(ended.as_ref().err()).await;
    if let Some(names) = barriers.unanswered() {
        tracing::warn!(
            names,
            "failed to name the nodes that did not acknowledge a write: its answer had already begun"
        );
    }
    client.send(ended.map(|()| text.freeze())).ok();
}

/// So many bytes at the beginning of an answer in XML say nothing: blanks, and the declaration.
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
