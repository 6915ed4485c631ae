//! The fence: it keeps a read that began before an invalidation from being stored after it.
//!
//! A reader takes a [`Ticket`] before it asks the origin, and presents it to store the result. An invalidation voids
//! the tickets of what it covers and then removes what is held; nothing can be stored between the two.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::object::{ObjectId, Scope};

/// Objects share generations: an invalidation of one object also voids the running fills of about one in 4,096 others,
/// once.
const STRIPES: usize = LOCKS * STRIPES_PER_LOCK;
const LOCKS: usize = 64;
const STRIPES_PER_LOCK: usize = 64;

/// Taken before a read, and presented when its result is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    stripe: u64,
    all: u64,
}

/// Counts invalidations. Pure: the lock is the caller's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Generations {
    stripes: Vec<u64>,
    all: u64,
}

impl Generations {
    /// No invalidation yet. `stripes` is at least 1.
    pub fn new(stripes: usize) -> Self {
        Self {
            stripes: vec![0; stripes.max(1)],
            all: 0,
        }
    }

    /// The ticket for a read that begins now, of the object with this hash.
    pub fn begin(&self, hash: u64) -> Ticket {
        Ticket {
            stripe: self.stripes[self.stripe(hash)],
            all: self.all,
        }
    }

    /// True when nothing that covers the object was invalidated since the ticket was taken.
    pub fn valid(&self, hash: u64, ticket: Ticket) -> bool {
        self.begin(hash) == ticket
    }

    /// Voids the tickets of what `scope` names. `hash` is the object's, and used for [`Scope::Key`] only.
    pub fn bump(&mut self, scope: &Scope, hash: u64) {
        if let Scope::Key { .. } = scope {
            let stripe = self.stripe(hash);
            self.stripes[stripe] += 1;
        } else {
            self.all += 1;
        }
    }

    fn stripe(&self, hash: u64) -> usize {
        // The remainder is below the number of stripes, which is a usize.
        usize::try_from(hash % self.stripes.len() as u64).unwrap_or_default()
    }
}

/// [`Generations`] of 4,096 stripes behind 64 locks.
pub(crate) struct Fence {
    parts: Box<[Mutex<Generations>]>,
}

impl Fence {
    pub(crate) fn new() -> Self {
        let part = || Mutex::new(Generations::new(STRIPES / LOCKS));
        Self {
            parts: std::iter::repeat_with(part).take(LOCKS).collect(),
        }
    }

    /// The ticket for a read of `object` that begins now.
    pub(crate) fn begin(&self, object: &ObjectId) -> Ticket {
        self.part(object.stable_hash())
            .begin(inner_hash(object.stable_hash()))
    }

    /// Runs `insert` and returns its result, or false if an invalidation came since the ticket was taken. No
    /// invalidation happens while it runs.
    pub(crate) fn admit(
        &self,
        object: &ObjectId,
        ticket: Ticket,
        insert: impl FnOnce() -> bool,
    ) -> bool {
        let part = self.part(object.stable_hash());
        part.valid(inner_hash(object.stable_hash()), ticket) && insert()
    }

    /// Runs `change` while nothing of `object` is stored or invalidated.
    pub(crate) fn alone<T>(&self, object: &ObjectId, change: impl FnOnce() -> T) -> T {
        let _part = self.part(object.stable_hash());
        change()
    }

    /// Voids all tickets of the scope, then runs `remove`. Nothing of the scope is stored until it returns.
    pub(crate) fn revoke<T>(&self, scope: &Scope, remove: impl FnOnce() -> T) -> T {
        if let Scope::Key { bucket, key } = scope {
            let Ok(object) = ObjectId::new(bucket, key) else {
                return remove();
            };
            let mut part = self.part(object.stable_hash());
            part.bump(scope, inner_hash(object.stable_hash()));
            return remove();
        }
        // All locks, always in this order; all other callers take one at a time.
        let mut parts: Vec<MutexGuard<'_, Generations>> = self.parts.iter().map(locked).collect();
        for part in &mut parts {
            part.bump(scope, 0);
        }
        remove()
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, Generations> {
        let at = usize::try_from(hash % LOCKS as u64).unwrap_or_default();
        locked(&self.parts[at])
    }
}

/// The part uses the low bits, and its stripes use others.
fn inner_hash(hash: u64) -> u64 {
    hash / LOCKS as u64
}

fn locked(part: &Mutex<Generations>) -> MutexGuard<'_, Generations> {
    // The counts are valid at every moment, even after a panic in `insert` or `remove`.
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    fn object(key: &str) -> ObjectId {
        ObjectId::new("b", key).unwrap()
    }

    fn scopes() -> [Scope; 3] {
        [
            Scope::from(&object("a/1")),
            Scope::Prefix {
                bucket: "b".into(),
                prefix: "a/".into(),
            },
            Scope::All,
        ]
    }

    #[test]
    fn a_ticket_from_before_an_invalidation_is_worthless() {
        let (fence, object) = (Fence::new(), object("a/1"));
        for scope in scopes() {
            let ticket = fence.begin(&object);
            assert!(fence.admit(&object, ticket, || true));
            fence.revoke(&scope, || ());
            assert!(!fence.admit(&object, ticket, || panic!("must not run")));
            assert!(fence.admit(&object, fence.begin(&object), || true));
        }
    }

    #[test]
    fn an_invalidation_of_one_object_leaves_nearly_all_others_alone() {
        let fence = Fence::new();
        let others: Vec<_> = (0..4096).map(|i| object(&format!("k{i}"))).collect();
        let tickets: Vec<_> = others.iter().map(|other| fence.begin(other)).collect();
        fence.revoke(&Scope::from(&object("a")), || ());
        let refused = others
            .iter()
            .zip(tickets)
            .filter(|(other, ticket)| !fence.admit(other, *ticket, || true))
            .count();
        assert!(refused < 10, "{refused}");
    }

    /// The origin counts its versions, and an invalidation reads the count first; anything stored after it must be at
    /// least that.
    #[test]
    fn threads_that_race_an_invalidation_store_nothing_older() {
        for scope in scopes() {
            let (fence, object) = (Fence::new(), object("a/1"));
            let (origin, held, stop) =
                (AtomicU64::new(1), AtomicU64::new(0), AtomicBool::new(false));
            std::thread::scope(|threads| {
                for _ in 0..3 {
                    threads.spawn(|| {
                        while !stop.load(Ordering::SeqCst) {
                            let ticket = fence.begin(&object);
                            let read = origin.load(Ordering::SeqCst);
                            std::thread::yield_now();
                            fence.admit(&object, ticket, || {
                                held.store(read, Ordering::SeqCst);
                                true
                            });
                        }
                    });
                }
                let mut stale = None;
                for _ in 0..2_000 {
                    let newest = origin.fetch_add(1, Ordering::SeqCst) + 1;
                    fence.revoke(&scope, || held.store(0, Ordering::SeqCst));
                    std::thread::yield_now();
                    let seen = held.load(Ordering::SeqCst);
                    if seen != 0 && seen < newest {
                        stale = Some((seen, newest));
                        break;
                    }
                }
                stop.store(true, Ordering::SeqCst);
                assert_eq!(stale, None, "{scope:?}");
            });
        }
    }
}
