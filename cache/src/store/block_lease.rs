//! Bytes on their way to clients. A slow client holds on to what it was given. So all clients together may keep only a
//! part of the blocks from being evicted, and get copies beyond that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::budget::{Budget, Charge, Kind};

/// Clients may hold this part of the memory in blocks, and the same in copies: half is left for fills and for what is
/// read often.
const PART: u64 = 4;
/// Clients of unknown speed may hold this part of it in blocks, so that clients that stop reading leave some for fast
/// ones.
const UNKNOWN_PART: u64 = 8;
/// One client gets this part of what clients may still hold in copies: with N clients, each has 1/(N + 16) of all.
const COPY_PART: u64 = 16;
/// The smallest copy for a client: a thousand clients that have stopped hold 16 MiB even when everything is leased.
const COPY_BYTES: u64 = 16 * 1024;

/// How fast a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSpeed {
    /// Nothing has been sent to it yet.
    Unknown,
    /// It holds a block for a moment.
    Fast,
    /// It would keep a block from being evicted for seconds.
    Slow,
}

/// A lease on the bytes of a block: the right to send them to a client without a copy.
pub struct BlockLease {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// The right to send a block of `bytes` to a client of this speed. `None` if the client is slow, or if clients hold
    /// their part of the memory: send copies then.
    pub fn try_lease(&self, bytes: u64, speed: ClientSpeed) -> Option<Arc<BlockLease>> {
        let most = match speed {
            ClientSpeed::Unknown => self.limit() / UNKNOWN_PART,
            ClientSpeed::Fast => self.limit() / PART,
            ClientSpeed::Slow => return None,
        };
        self.leased()
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |leased| {
                leased.checked_add(bytes).filter(|sum| *sum <= most)
            })
            .ok()?;
        Some(Arc::new(BlockLease {
            budget: self.clone(),
            bytes,
        }))
    }

    /// Bytes of a copy for one client: its share among all clients that hold copies.
    pub fn copy_bytes(&self) -> u64 {
        let left = (self.limit() / PART).saturating_sub(self.used_by(Kind::Answers));
        (left / COPY_PART).max(COPY_BYTES)
    }
}

impl Drop for BlockLease {
    fn drop(&mut self) {
        self.budget
            .leased()
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl BlockLease {
    /// The same bytes; the lease holds until they are dropped.
    pub fn wrap(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(LeasedBytes {
            bytes,
            _until: self.clone(),
        })
    }
}

impl Charge {
    /// A copy of the first bytes of `pieces`, as many as this charge covers; the excess is given back. Dropping it
    /// drops `with`.
    pub fn copy(mut self, pieces: impl Iterator<Item = Bytes>, with: impl Send + 'static) -> Bytes {
        let most = usize::try_from(self.bytes()).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(most);
        for piece in pieces {
            let left = most - bytes.len();
            bytes.extend_from_slice(&piece[..left.min(piece.len())]);
            if bytes.len() == most {
                break;
            }
        }
        self.shrink(bytes.len() as u64);
        Bytes::from_owner(LeasedBytes {
            bytes,
            _until: (self, with),
        })
    }
}

struct LeasedBytes<B, U> {
    bytes: B,
    _until: U,
}

impl<B: AsRef<[u8]>, U> AsRef<[u8]> for LeasedBytes<B, U> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hold_a_part_of_the_memory_until_they_have_read() {
        let budget = Budget::new(400);
        let lend = |bytes| budget.try_lease(bytes, ClientSpeed::Fast);
        let lease = lend(60).unwrap();
        assert!(lend(41).is_none());
        let (first, second) = (lease.wrap("a".into()), lease.wrap("b".into()));
        drop((lease, first));
        assert!(lend(41).is_none());
        drop(second);
        assert!(lend(100).is_some());
    }

    #[test]
    fn new_clients_leave_something_to_quick_ones_and_slow_ones_get_nothing() {
        let budget = Budget::new(400);
        assert!(budget.try_lease(51, ClientSpeed::Unknown).is_none());
        let unknown = budget.try_lease(50, ClientSpeed::Unknown);
        assert!(unknown.is_some());
        assert!(budget.try_lease(1, ClientSpeed::Slow).is_none());
        assert!(budget.try_lease(50, ClientSpeed::Fast).is_some());
    }

    #[test]
    fn the_more_copies_clients_hold_the_smaller_is_the_next() {
        let budget = Budget::new(4 << 20);
        let mut copies = Vec::new();
        for _ in 0..64 {
            copies.extend(budget.try_charge(Kind::Answers, budget.copy_bytes()));
        }
        let sizes: Vec<u64> = copies.iter().map(Charge::bytes).collect();
        assert_eq!((sizes[0], sizes[63]), (64 << 10, 16 << 10));
        assert!(sizes.is_sorted_by(|one, next| one >= next));
    }

    #[test]
    fn a_copy_is_charged_while_it_lives() {
        let budget = Budget::new(100);
        let copy = budget
            .try_charge(Kind::Answers, 50)
            .unwrap()
            .copy(["abc".into(), "de".into()].into_iter(), ());
        assert_eq!((&copy[..], budget.used()), (&b"abcde"[..], 5));
        drop(copy);
        assert_eq!(budget.used(), 0);
    }
}
