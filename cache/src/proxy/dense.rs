//! Noticing objects that are read piece by piece, and fetching the rest of the run before it is asked for.
//!
//! One small read fetches its blocks and no more. When half of a run has been asked for so in a short time, the other half
//! comes at low priority, and only into memory that readers don't need. A table of which some columns are read is
//! scattered more thinly than that, and S3 is billed by the byte: so at most twice of what was wanted is ever read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Proxy;
use crate::fill::Version;
use crate::object::{ObjectId, RUN_BLOCKS, run_of};

/// So many separate small fills of one run are a pattern: half of it.
const FILLS: u32 = RUN_BLOCKS / 2;
/// Within this time.
const WINDOW: Duration = Duration::from_secs(2);
/// Runs that are watched at one moment; beyond it the old ones are dropped.
const WATCHED: usize = 1024;

/// Small fills seen lately, by run.
#[derive(Debug, Default)]
pub(super) struct Dense {
    runs: Mutex<HashMap<(ObjectId, u32), (Instant, u32)>>,
}

impl Dense {
    /// Counts one small fill; true when it is the one that makes the pattern.
    fn notice(&self, object: &ObjectId, run: u32) -> bool {
        let now = Instant::now();
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() >= WATCHED {
            runs.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
            if runs.len() >= WATCHED {
                runs.clear();
            }
        }
        let (since, fills) = runs.entry((object.clone(), run)).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *fills) = (now, 0);
        }
        *fills += 1;
        *fills == FILLS
    }
}

impl Proxy {
    /// A small read had to fetch block `index` from S3.
    pub(super) fn small_fill(&self, version: &Version, index: u32) {
        let run = run_of(index);
        if !version.kept || !self.0.dense.notice(&version.object, run) {
            return;
        }
        let (proxy, version) = (self.clone(), version.clone());
        tokio::spawn(async move {
            if let Err(error) = proxy.warm_here(&version, run).await {
                tracing::debug!(object = %version.object, run, %error, "the rest of a run was not fetched");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn small_fills_of_half_a_run_within_two_seconds_are_a_pattern() {
        let (dense, object) = (Dense::default(), ObjectId::new("b", "k").unwrap());
        let noticed = |count| {
            (0..count)
                .map(|_| dense.notice(&object, 0))
                .collect::<Vec<_>>()
        };
        assert_eq!(noticed(FILLS - 1), vec![false; FILLS as usize - 1]);
        tokio::time::advance(WINDOW).await;
        assert_eq!(noticed(FILLS - 1), vec![false; FILLS as usize - 1]);
        assert_eq!(noticed(2), [true, false]);
        assert!(!dense.notice(&object, 1), "another run counts for itself");
    }
}
