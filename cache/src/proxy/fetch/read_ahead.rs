//! Read-ahead: noticing objects that are read piece by piece, so that the rest of an extent is fetched before it is
//! asked for.
//!
//! One small read fetches its blocks and no more. When half of an extent has been read in this way within a short time,
//! the other half is fetched at low priority, and only into memory that readers don't need. A table of which only some
//! columns are read is scattered more thinly than that. S3 bills by the byte: at most twice of what was wanted is ever
//! read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::object::{EXTENT_BLOCKS, ObjectId};

/// This many separate small fills of one extent are a pattern: half of it.
const FILLS: u32 = EXTENT_BLOCKS / 2;
/// Within this time.
const WINDOW: Duration = Duration::from_secs(2);
/// Extents that are watched at one moment.
const WATCHED: u64 = 1024;

/// Small fills seen lately, by extent.
#[derive(Debug)]
pub(super) struct ReadAhead {
    extents: Cache<(ObjectId, u32), Arc<AtomicU32>>,
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self::within(WINDOW)
    }
}

impl ReadAhead {
    fn within(window: Duration) -> Self {
        let extents = Cache::builder()
            .max_capacity(WATCHED)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(window)
            .build();
        Self { extents }
    }

    /// Counts one small fill; true when it is the one that makes the pattern.
    pub(super) fn notice(&self, object: &ObjectId, extent: u32) -> bool {
        let fills = self
            .extents
            .get_with((object.clone(), extent), || Arc::new(AtomicU32::new(0)));
        fills.fetch_add(1, Ordering::Relaxed) + 1 == FILLS
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn noticed(read_ahead: &ReadAhead, object: &ObjectId, count: u32) -> Vec<bool> {
        (0..count).map(|_| read_ahead.notice(object, 0)).collect()
    }

    #[test]
    fn small_fills_of_half_an_extent_are_a_pattern() {
        let (read_ahead, object) = (ReadAhead::default(), ObjectId::new("b", "k").unwrap());
        let few = vec![false; FILLS as usize - 1];
        assert_eq!(noticed(&read_ahead, &object, FILLS - 1), few);
        assert!(
            !read_ahead.notice(&object, 1),
            "another extent counts for itself"
        );
        assert_eq!(noticed(&read_ahead, &object, 2), [true, false]);
    }

    #[test]
    fn small_fills_that_are_far_apart_are_none() {
        let (read_ahead, object) = (
            ReadAhead::within(Duration::from_millis(20)),
            ObjectId::new("b", "k").unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        for _ in 0..FILLS * 2 {
            assert!(!read_ahead.notice(&object, 0));
            while read_ahead.extents.contains_key(&(object.clone(), 0)) {
                assert!(Instant::now() < deadline, "it is watched for ever");
                std::thread::yield_now();
            }
        }
    }
}
