//! How long a node may trust its entries.
//!
//! A coordinator gives up a node that discovery no longer names and that has been unreachable for [`GONE_AFTER`]. That
//! node may still run: it hung, or was cut off. So each node holds a lease: after a heartbeat that was answered, it
//! believes its entries only for as long as no coordinator can have given it up. The clock goes on while a process is
//! stopped.
//!
//! One answer is not enough, since two nodes that are cut off together would renew each other's lease: more than half
//! of the members, including this node, have to answer. Then any coordinator that reaches as many hears of this node
//! from one of them.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A node that discovery no longer names is told of invalidations until it has been unreachable for this long.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(10);

/// How long a heartbeat that was answered counts; less than [`GONE_AFTER`], since clocks drift.
pub(super) const LEASE: Duration = Duration::from_secs(8);

const _: () = assert!(LEASE.as_millis() * 5 <= GONE_AFTER.as_millis() * 4);

/// The lease of this node. Times count from its start.
pub(super) struct MembershipLease {
    /// In nanoseconds.
    until: AtomicU64,
    forget: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// It has run out, and the log says so.
    logged: AtomicBool,
}

impl fmt::Debug for MembershipLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.until.load(Ordering::Acquire);
        f.debug_tuple("MembershipLease").field(&until).finish()
    }
}

impl MembershipLease {
    /// One that does not hold yet.
    pub(super) fn new() -> Self {
        Self {
            until: AtomicU64::new(0),
            forget: OnceLock::new(),
            logged: AtomicBool::new(false),
        }
    }

    pub(super) fn holds(&self, now: Duration) -> bool {
        nanos(now) < self.until.load(Ordering::Acquire)
    }

    /// What is done before anything is believed again.
    pub(super) fn on_lapse(&self, forget: impl Fn() + Send + Sync + 'static) {
        let set = self.forget.set(Box::new(forget));
        debug_assert!(set.is_ok(), "one store per node");
    }

    /// Makes it hold until `until`. `deserted`: no node is left that could remember what this node owes. The caller
    /// makes sure that only one renewal runs at a time.
    pub(super) fn renew(&self, until: Duration, deserted: bool, now: Duration) {
        let alone = |until: u64| until == nanos(Duration::MAX);
        let left_alone = alone(nanos(until)) && !alone(self.until.load(Ordering::Acquire));
        let lapsed = !self.holds(now) || deserted && left_alone;
        if lapsed && until > now {
            if let Some(forget) = self.forget.get() {
                forget();
            }
            if self.logged.swap(false, Ordering::Relaxed) {
                tracing::info!("the ring answers again: entries are forgotten, blocks stay");
            }
        }
        self.until.store(nanos(until), Ordering::Release);
    }

    /// Says once that it has run out.
    pub(super) fn log_lapse(&self, now: Duration) {
        let held = self.until.load(Ordering::Acquire) > 0;
        if held && !self.holds(now) && !self.logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "half of the ring or more has not answered for {} s: until it does, this node revalidates every read",
                LEASE.as_secs()
            );
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(duration.subsec_nanos()))
}

/// Until when a node may believe what it knows. `answered` holds, for each other member that may be alive, when the
/// last heartbeat that it answered was sent. A node alone may believe forever.
pub(super) fn until(mut answered: Vec<Option<Duration>>) -> Duration {
    let needed = answered.len().div_ceil(2);
    let Some(least) = needed.checked_sub(1) else {
        return Duration::MAX;
    };
    answered.sort_unstable_by(|left, right| right.cmp(left));
    answered[least].map_or(Duration::ZERO, |sent| sent + LEASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn alone_a_node_believes_for_ever() {
        assert_eq!(until(vec![]), Duration::MAX);
    }

    #[test]
    fn more_than_half_of_the_members_have_to_answer() {
        for (answered, sent) in [
            (vec![Some(at(3))], Some(at(3))),
            (vec![None], None),
            (vec![Some(at(3)), None], Some(at(3))),
            (vec![Some(at(3)), Some(at(5))], Some(at(5))),
            (vec![None, Some(at(9)), None], None),
            (vec![Some(at(2)), Some(at(9)), None], Some(at(2))),
            (vec![Some(at(2)), Some(at(9)), None, None], Some(at(2))),
        ] {
            let expected = sent.map_or(Duration::ZERO, |sent| sent + LEASE);
            assert_eq!(until(answered.clone()), expected, "{answered:?}");
        }
    }
}
