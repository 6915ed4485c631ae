//! Bytes on their way to clients. A client that is slow keeps what it was given: so all of them together may keep only a part of
//! the blocks from being evicted, and beyond that are given copies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::budget::{Budget, Charge};

/// Clients may hold this part of the memory in blocks: as much is left to fills, to copies and to what is hot.
const PART: u64 = 4;

/// The right to give the bytes of a block to a client as they are.
pub struct Loan {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// The right to give away blocks of `bytes`; `None` when clients hold their part of the memory: give copies then.
    pub fn try_lend(&self, bytes: u64) -> Option<Arc<Loan>> {
        let most = self.limit() / PART;
        self.lent()
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |lent| {
                lent.checked_add(bytes).filter(|sum| *sum <= most)
            })
            .ok()?;
        Some(Arc::new(Loan {
            budget: self.clone(),
            bytes,
        }))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.budget.lent().fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Loan {
    /// The same bytes; the loan holds until they are dropped.
    pub fn lend(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Lent {
            bytes,
            _until: self.clone(),
        })
    }
}

impl Charge {
    /// A copy of `bytes`, which this covers; what exceeds them is given back. It drops `with` when it is dropped.
    pub fn copy(mut self, bytes: &[u8], with: impl Send + 'static) -> Bytes {
        self.shrink(bytes.len() as u64);
        Bytes::from_owner(Lent {
            bytes: bytes.to_vec(),
            _until: (self, with),
        })
    }
}

struct Lent<B, U> {
    bytes: B,
    _until: U,
}

impl<B: AsRef<[u8]>, U> AsRef<[u8]> for Lent<B, U> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;

    #[test]
    fn clients_hold_a_part_of_the_memory_until_they_have_read() {
        let budget = Budget::new(400);
        let loan = budget.try_lend(60).unwrap();
        assert!(budget.try_lend(41).is_none());
        let (first, second) = (loan.lend("a".into()), loan.lend("b".into()));
        drop((loan, first));
        assert!(budget.try_lend(41).is_none());
        drop(second);
        assert!(budget.try_lend(100).is_some());
    }

    #[test]
    fn a_copy_is_charged_while_it_lives() {
        let budget = Budget::new(100);
        let copy = budget
            .try_charge(Kind::Answers, 50)
            .unwrap()
            .copy(b"abc", ());
        assert_eq!((&copy[..], budget.used()), (&b"abc"[..], 3));
        drop(copy);
        assert_eq!(budget.used(), 0);
    }
}
