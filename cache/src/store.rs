//! Stand-in until the real module is merged.
#![expect(missing_docs, clippy::unused_async, reason = "a stand-in")]
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Blocks,
    Heads,
    Fills,
    Uploads,
    Relays,
}

pub struct Charge;

impl Charge {
    pub fn bytes(&self) -> u64 {
        unreachable!()
    }
}

pub struct Store;

impl Store {
    pub async fn reserve(&self, _kind: Kind, _bytes: u64, _wait: Duration) -> Option<Charge> {
        unreachable!()
    }
}
