//! Random numbers, and jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A number that no other process or call is likely to draw.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// Between four fifths of `most` and `most`, so that nodes started together don't stay in step.
pub(crate) fn jittered(most: Duration) -> Duration {
    let share = u32::try_from(random() % 200).expect("below 200");
    most * (1_000 - share) / 1_000
}
