//! The accountant: every byte that a node holds for objects is charged here before it is allocated. It doesn't know
//! about blocks, and evicts nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A reader that lets go of a block which stays in the store releases no charge, yet makes it evictable; so a waiter
/// checks again after this time even if nothing was released.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What memory is used for; the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Complete blocks, and the index that finds them.
    Blocks,
    /// What is known about objects.
    Heads,
    /// Blocks being read from the origin.
    Fills,
    /// Bodies on their way to S3.
    Uploads,
    /// Blocks of other nodes, held or being read from a peer, and bytes that pass through without being stored.
    Replicas,
    /// Copies on their way to clients.
    Answers,
}

impl Kind {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Blocks,
        Self::Heads,
        Self::Fills,
        Self::Uploads,
        Self::Replicas,
        Self::Answers,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Heads => "heads",
            Self::Fills => "fills",
            Self::Uploads => "uploads",
            Self::Replicas => "replicas",
            Self::Answers => "answers",
        }
    }
}

/// A bound in bytes, and how much of it is in use. A clone is the same budget.
#[derive(Clone)]
pub struct Budget(Arc<Ledger>);

struct Ledger {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    leased: AtomicU64,
    by_kind: [AtomicU64; Kind::ALL.len()],
    waiting: AtomicUsize,
    released: Notify,
}

impl Budget {
    /// A budget of `limit` bytes, all free.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Ledger {
            limit,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            leased: AtomicU64::new(0),
            by_kind: Default::default(),
            waiting: AtomicUsize::new(0),
            released: Notify::new(),
        }))
    }

    /// The bound, in bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes charged now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes charged now for one use.
    pub fn used_by(&self, kind: Kind) -> u64 {
        self.0.by_kind[kind as usize].load(Ordering::Relaxed)
    }

    /// The most bytes that were ever charged at once.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Bytes of blocks that clients hold.
    pub(super) fn leased(&self) -> &AtomicU64 {
        &self.0.leased
    }

    /// Charges `bytes` if they fit under the limit. Nothing is evicted for them.
    pub fn try_charge(&self, kind: Kind, bytes: u64) -> Option<Charge> {
        let mut charge = self.0.take(kind, bytes).then(|| self.nothing(kind))?;
        charge.bytes = bytes;
        Some(charge)
    }

    /// An empty charge, to which others can be added.
    pub(super) fn nothing(&self, kind: Kind) -> Charge {
        Charge {
            ledger: self.0.clone(),
            bytes: 0,
            kind: AtomicU8::new(kind as u8),
        }
    }

    /// How many bytes must be released before `bytes` more can be charged.
    pub(crate) fn missing(&self, bytes: u64) -> u64 {
        self.used()
            .saturating_add(bytes)
            .saturating_sub(self.limit())
    }

    /// Calls `attempt` until it succeeds: now, and after each release, for as long as `wait`.
    pub(crate) async fn until<T>(
        &self,
        wait: Duration,
        attempt: impl Fn() -> Option<T>,
    ) -> Option<T> {
        if let Some(got) = attempt() {
            return Some(got);
        }
        let deadline = Instant::now() + wait;
        let _waiting = Waiting::new(&self.0.waiting);
        loop {
            // Made before the attempt: a release between the attempt and the wait is not lost.
            let released = self.0.released.notified();
            if let Some(got) = attempt() {
                return Some(got);
            }
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            // Both outcomes mean the same: check again.
            let _ = timeout_at(deadline.min(now + LOOK_AGAIN), released).await;
        }
    }
}

impl Ledger {
    fn take(&self, kind: Kind, bytes: u64) -> bool {
        let taken = self
            .used
            .try_update(Ordering::SeqCst, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            });
        if let Ok(before) = taken {
            self.peak.fetch_max(before + bytes, Ordering::Relaxed);
            self.by_kind[kind as usize].fetch_add(bytes, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn release(&self, kind: Kind, bytes: u64) {
        self.by_kind[kind as usize].fetch_sub(bytes, Ordering::Relaxed);
        // SeqCst, here and where a waiter counts itself: either it sees these bytes or this sees it waiting.
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.released.notify_waiters();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes taken from a [`Budget`]. Dropping it gives them back and wakes tasks that wait for memory.
pub struct Charge {
    ledger: Arc<Ledger>,
    bytes: u64,
    kind: AtomicU8,
}

impl Charge {
    /// The number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What they are used for.
    pub fn kind(&self) -> Kind {
        Kind::ALL[usize::from(self.kind.load(Ordering::Relaxed))]
    }

    /// Gives back all but `to` bytes.
    pub fn shrink(&mut self, to: u64) {
        if to < self.bytes {
            let surplus = self.bytes - to;
            self.bytes = to;
            self.ledger.release(self.kind(), surplus);
        }
    }

    /// The same bytes, counted under another use from now on.
    pub fn turn_into(&self, kind: Kind) {
        let before = self.kind.swap(kind as u8, Ordering::Relaxed);
        self.ledger.by_kind[usize::from(before)].fetch_sub(self.bytes, Ordering::Relaxed);
        self.ledger.by_kind[kind as usize].fetch_add(self.bytes, Ordering::Relaxed);
    }

    /// Adds the bytes of `other`, a charge of the same budget, to this one.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        other.turn_into(self.kind());
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The budget that it was taken from.
    pub(crate) fn budget(&self) -> Budget {
        Budget(self.ledger.clone())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.release(self.kind(), self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_counts_until_it_is_dropped_and_never_above_the_limit() {
        let budget = Budget::new(100);
        let mut charge = budget.try_charge(Kind::Fills, 60).unwrap();
        assert!(budget.try_charge(Kind::Heads, 41).is_none());
        assert!(budget.try_charge(Kind::Heads, u64::MAX).is_none());
        charge.turn_into(Kind::Blocks);
        charge.shrink(50);
        charge.shrink(70);
        charge.absorb(budget.try_charge(Kind::Heads, 5).unwrap());
        assert_eq!(
            (
                budget.used(),
                budget.used_by(Kind::Blocks),
                budget.used_by(Kind::Fills),
                budget.used_by(Kind::Heads)
            ),
            (55, 55, 0, 0)
        );
        drop(charge);
        assert_eq!(
            (budget.used(), budget.used_by(Kind::Blocks), budget.peak()),
            (0, 0, 60)
        );
    }

    #[test]
    fn threads_that_fight_for_memory_never_pass_the_limit() {
        let budget = Budget::new(1000);
        std::thread::scope(|scope| {
            for seed in 0..4u64 {
                let budget = &budget;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for i in 0..20_000u64 {
                        held.extend(budget.try_charge(Kind::Fills, (i * 7 + seed) % 200));
                        if i % 3 == 0 {
                            held.clear();
                        }
                    }
                });
            }
        });
        assert!(budget.peak() <= 1000 && budget.peak() > 500);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_gets_what_another_gives_back_and_gives_up_at_its_deadline() {
        let budget = Budget::new(10);
        let all = budget.try_charge(Kind::Fills, 10).unwrap();
        let want = || budget.try_charge(Kind::Fills, 5);
        let start = Instant::now();
        assert!(budget.until(Duration::from_secs(1), want).await.is_none());
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        let (got, ()) = tokio::join!(budget.until(Duration::from_secs(1), want), async {
            drop(all);
        });
        assert!(got.is_some());
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
