//! What the S3 of the tests was asked for and what it sent.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One GET of an object that was answered with bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) bucket: String,
    pub(crate) key: String,
    /// As answered.
    pub(crate) range: Range<u64>,
    /// How many of them have left.
    pub(crate) sent: u64,
}

#[derive(Default)]
pub(super) struct Log(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    counts: BTreeMap<&'static str, u64>,
    reads: Vec<(Read, Arc<AtomicU64>)>,
}

impl Log {
    pub(super) fn count(&self, op: &'static str) {
        *self.0.lock().unwrap().counts.entry(op).or_default() += 1;
    }

    /// Notes a read; what is sent of it is added to the answer.
    pub(super) fn read(&self, bucket: &str, key: &str, range: Range<u64>) -> Arc<AtomicU64> {
        let sent = Arc::new(AtomicU64::new(0));
        let read = Read {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            range,
            sent: 0,
        };
        let mut pages = self.0.lock().unwrap();
        pages.reads.push((read, Arc::clone(&sent)));
        sent
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap().counts.clone()
    }

    pub(super) fn reads(&self) -> Vec<Read> {
        let pages = self.0.lock().unwrap();
        let reads = pages.reads.iter().map(|(read, sent)| Read {
            sent: sent.load(Ordering::Relaxed),
            ..read.clone()
        });
        reads.collect()
    }

    pub(super) fn forget(&self) {
        *self.0.lock().unwrap() = Pages::default();
    }
}
