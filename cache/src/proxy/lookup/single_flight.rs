//! One request at a time per key, shared by all callers that its answer is recent enough for.
//!
//! Usually that is any request that is out: an invalidation detaches it. Where no invalidation arrives (a sidecar, or a
//! node without a lease), a request is shared until it is sent and not after. Later callers queue behind it and share
//! the next one: however many come at once, they cost two requests.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use tokio::time::timeout;

/// How long a request waits for the one before it, where it must not share that one: the node that was asked may turn
/// out to be unreachable meanwhile, and a stand-in answer.
const TURN: Duration = Duration::from_millis(500);

/// An answer, on its way to all callers that wait for it.
pub(super) type SharedAnswer<T> = Shared<BoxFuture<'static, T>>;

/// A request that is out, or about to be sent.
#[derive(Debug)]
struct Pending<T: Clone> {
    answer: SharedAnswer<T>,
    is_sent: Arc<AtomicBool>,
}

impl<T: Clone> Pending<T> {
    /// Its answer is for the callers that waited for it: later ones find what was stored, or ask again.
    fn is_answered(&self) -> bool {
        self.answer.peek().is_some()
    }
}

/// The requests that are out, the newest of each key.
#[derive(Debug)]
pub(super) struct SingleFlight<K, T: Clone> {
    running: Mutex<HashMap<K, Pending<T>>>,
}

impl<K, T: Clone> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
        }
    }
}

impl<K, T> SingleFlight<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The answer for `key`: that of a request which is out, or else of `request`. With `share_sent`, one that was sent
    /// before this call will do.
    pub(super) fn share(
        self: &Arc<Self>,
        key: &K,
        share_sent: bool,
        request: impl Future<Output = T> + Send + 'static,
    ) -> SharedAnswer<T> {
        let answer = {
            let mut running = self.running();
            let before = running.get(key).filter(|before| !before.is_answered());
            if let Some(before) = before
                && (share_sent || !before.is_sent.load(Ordering::Relaxed))
            {
                return before.answer.clone();
            }
            let before = before.map(|before| before.answer.clone());
            let pending = self.start(before, request);
            let answer = pending.answer.clone();
            running.insert(key.clone(), pending);
            answer
        };
        // The request outlives the caller that began it.
        let (flights, key, own) = (Arc::clone(self), key.clone(), answer.clone());
        tokio::spawn(async move {
            let _answer = own.clone().await;
            flights.remove(&key, &own);
        });
        answer
    }

    /// Later callers ask again, for the keys that this is true of.
    pub(super) fn detach(&self, is_detached: impl Fn(&K) -> bool) {
        self.running().retain(|key, _| !is_detached(key));
    }

    /// A request that is sent when the one before it is answered, or has had its time.
    fn start(
        self: &Arc<Self>,
        before: Option<SharedAnswer<T>>,
        request: impl Future<Output = T> + Send + 'static,
    ) -> Pending<T> {
        let is_sent = Arc::new(AtomicBool::new(false));
        let (flights, sent) = (Arc::clone(self), Arc::clone(&is_sent));
        let answer = async move {
            if let Some(before) = before {
                let _answered_or_not = timeout(TURN, before).await;
            }
            flights.mark_sent(&sent);
            request.await
        };
        Pending {
            answer: answer.boxed().shared(),
            is_sent,
        }
    }

    fn remove(&self, key: &K, answer: &SharedAnswer<T>) {
        let mut running = self.running();
        if running
            .get(key)
            .is_some_and(|current| current.answer.ptr_eq(answer))
        {
            running.remove(key);
        }
    }

    /// The request is sent. Under the lock: whoever shares it came before.
    fn mark_sent(&self, is_sent: &AtomicBool) {
        let _running = self.running();
        is_sent.store(true, Ordering::Relaxed);
    }

    fn running(&self) -> MutexGuard<'_, HashMap<K, Pending<T>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    type Flights = Arc<SingleFlight<&'static str, u32>>;

    /// A request that counts itself when it is sent, and is answered with its number after `answered`.
    fn request(sent: &Arc<AtomicU32>, answered: &Arc<Notify>) -> impl Future<Output = u32> + use<> {
        let (sent, answered) = (Arc::clone(sent), Arc::clone(answered));
        async move {
            let number = sent.fetch_add(1, Ordering::Relaxed) + 1;
            answered.notified().await;
            number
        }
    }

    async fn until_sent(sent: &AtomicU32, count: u32) {
        while sent.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_a_request_that_was_sent_where_they_may() {
        let (flights, sent, answered) = (Flights::default(), Arc::default(), Arc::default());
        let first = flights.share(&"k", true, request(&sent, &answered));
        until_sent(&sent, 1).await;
        let second = flights.share(&"k", true, request(&sent, &answered));
        let other = flights.share(&"other", true, request(&sent, &answered));
        until_sent(&sent, 2).await;
        answered.notify_waiters();
        assert_eq!((first.await, second.await, other.await), (1, 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn late_callers_share_the_next_request_where_a_sent_one_is_too_old() {
        let (flights, sent, answered) = (Flights::default(), Arc::default(), Arc::default());
        let first = flights.share(&"k", false, request(&sent, &answered));
        until_sent(&sent, 1).await;
        let second = flights.share(&"k", false, request(&sent, &answered));
        let third = flights.share(&"k", false, request(&sent, &answered));
        answered.notify_waiters();
        assert_eq!(first.await, 1);
        until_sent(&sent, 2).await;
        answered.notify_waiters();
        assert_eq!((second.await, third.await), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn after_it_is_detached_a_request_is_not_shared() {
        let (flights, sent, answered) = (Flights::default(), Arc::default(), Arc::default());
        let first = flights.share(&"k", true, request(&sent, &answered));
        until_sent(&sent, 1).await;
        flights.detach(|key| *key == "k");
        let second = flights.share(&"k", true, request(&sent, &answered));
        until_sent(&sent, 2).await;
        answered.notify_waiters();
        assert_eq!((first.await, second.await), (1, 2));
    }
}
