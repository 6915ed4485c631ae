//! What follows a write: its barrier, and more barriers while S3 may still carry out a write that was given up.
//!
//! S3 may hold the bytes of a write whose answer never came, and carry it out when it has recovered. A node that looks
//! in between would trust the old version for its whole time to live. So the barrier is repeated, with pauses that grow
//! with the time that has passed: a late write is seen, at the latest, as long after it landed as it took to land.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::invalidate::{Invalidator, Report};
use crate::object::Scope;
use crate::origin;

/// Seconds before each repetition: five minutes in all. No S3 holds on to a request longer once its connection is gone.
const PAUSES: [u64; 15] = [1, 1, 2, 2, 4, 4, 8, 8, 15, 15, 30, 30, 60, 60, 60];

/// The most bytes of names that are watched. An S3 that loses more answers is down, and reads from it fail, too.
const WATCHED_BYTES: usize = 4 * 1024 * 1024;

/// Raises the barriers of this node's writes. A clone is another handle to the same.
#[derive(Clone)]
pub struct Aftermath(Arc<Inner>);

struct Inner {
    invalidator: Invalidator,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    /// What S3 may still carry out, and the last write that named it.
    scopes: HashMap<Scope, u64>,
    bytes: usize,
    writes: u64,
}

impl Aftermath {
    /// Nothing is watched yet.
    pub fn new(invalidator: Invalidator) -> Self {
        Self(Arc::new(Inner {
            invalidator,
            watched: Mutex::default(),
        }))
    }

    /// Raises the barrier after a write that has ended, with `failed` or well. `None` when S3 certainly did nothing.
    pub(crate) async fn follow(
        &self,
        scope: Scope,
        failed: Option<&origin::Error>,
    ) -> Option<Report> {
        match failed {
            None => Some(self.raise(scope, false).await),
            Some(error) if error.may_have_happened() => {
                Some(self.raise(scope, error.may_land_later()).await)
            }
            Some(_) => None,
        }
    }

    /// Raises the barrier; `may_land`: S3 may still carry out the write later.
    pub(crate) async fn raise(&self, scope: Scope, may_land: bool) -> Report {
        if may_land {
            self.watch(scope.clone());
        }
        self.0.invalidator.invalidate(scope).await
    }

    fn watch(&self, scope: Scope) {
        let mut watched = self.0.watched();
        let size = size(&scope);
        if !watched.scopes.contains_key(&scope) {
            if watched.bytes + size > WATCHED_BYTES {
                tracing::warn!(
                    "failed to track another write whose outcome is unknown, since there are too many: if S3 carries it out later, \
                     the old version is served until it expires"
                );
                return;
            }
            watched.bytes += size;
        }
        watched.writes += 1;
        let write = watched.writes;
        watched.scopes.insert(scope.clone(), write);
        drop(watched);
        tokio::spawn(Arc::clone(&self.0).repeat(scope, write));
    }
}

impl Inner {
    async fn repeat(self: Arc<Self>, scope: Scope, write: u64) {
        for pause in PAUSES {
            sleep(Duration::from_secs(pause)).await;
            if self.watched().scopes.get(&scope) != Some(&write) {
                return; // a later write of the same has begun from the first pause
            }
            self.invalidator.invalidate(scope.clone()).await;
        }
        let mut watched = self.watched();
        if watched.scopes.get(&scope) == Some(&write) {
            watched.scopes.remove(&scope);
            watched.bytes -= size(&scope);
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(scope: &Scope) -> usize {
    match scope {
        Scope::Key { bucket, key } => bucket.len() + key.len(),
        Scope::Keys { bucket, keys } => bucket.len() + keys.iter().map(String::len).sum::<usize>(),
        Scope::Prefix { bucket, prefix } => bucket.len() + prefix.len(),
        Scope::All => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_is_longer_than_the_time_that_has_passed() {
        let mut passed = 0;
        for pause in PAUSES {
            assert!(passed == 0 || pause <= passed, "{pause} after {passed}");
            passed += pause;
        }
        assert_eq!(passed, 300);
    }
}
