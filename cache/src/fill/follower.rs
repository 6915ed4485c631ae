//! Reading a block as it comes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::{Abandoned, Error, Fill, Progress};
use crate::object::Source;

/// A reader of a block that may still be filling. A clone reads for itself, from the beginning.
#[derive(Debug)]
pub struct Follower {
    fill: Arc<Fill>,
    progress: watch::Receiver<Progress>,
    reading: bool,
    next: usize,
    skip: usize,
}

impl Fill {
    /// Reads the block as it comes. Call this before the fill starts: a fill without followers is given up if its block
    /// would not be stored.
    pub fn follow(self: &Arc<Self>) -> Follower {
        self.change(|progress| progress.followers += 1);
        Follower {
            fill: self.clone(),
            progress: self.progress.subscribe(),
            reading: false,
            next: 0,
            skip: 0,
        }
    }
}

impl Follower {
    /// Which block of the object it is.
    pub fn index(&self) -> u32 {
        self.fill.id.index
    }

    /// Skips the next `bytes`.
    pub fn skip(&mut self, bytes: u64) {
        self.skip += usize::try_from(bytes).unwrap_or(usize::MAX);
    }

    /// The next bytes; `None` after the last of the block.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if !self.reading {
            self.reading = true;
            self.fill.change(|progress| {
                progress.reading += 1;
                progress.begun = true;
            });
        }
        loop {
            {
                let progress = self.progress.borrow_and_update();
                while let Some(piece) = progress.pieces.get(self.next) {
                    self.next += 1;
                    if self.skip >= piece.len() {
                        self.skip -= piece.len();
                        continue;
                    }
                    let skip = std::mem::take(&mut self.skip);
                    return Some(Ok(piece.slice(skip..)));
                }
                match &progress.end {
                    Some(Ok(())) => return None,
                    Some(Err(error)) => return Some(Err(error.clone())),
                    None => {}
                }
            }
            if self.progress.changed().await.is_err() {
                return Some(Err(Error::Abandoned(Abandoned::TaskEnded)));
            }
        }
    }

    /// Where the block comes from, as soon as that is known; the error if it never came.
    pub async fn source(&mut self) -> Result<Source, Error> {
        let known = self
            .progress
            .wait_for(|progress| progress.source.is_some() || progress.end.is_some())
            .await;
        let Ok(progress) = known else {
            return Err(Error::Abandoned(Abandoned::TaskEnded));
        };
        match (&progress.source, &progress.end) {
            (Some(source), _) => Ok(*source),
            (None, Some(Err(error))) => Err(error.clone()),
            (None, _) => Ok(Source::Origin),
        }
    }
}

impl Clone for Follower {
    fn clone(&self) -> Self {
        self.fill.follow()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let reading = usize::from(self.reading);
        self.fill.change(|progress| {
            progress.followers -= 1;
            progress.reading -= reading;
        });
    }
}
