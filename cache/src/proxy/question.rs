//! One question at a time per object, shared by all whom its answer is recent enough for.
//!
//! At a node that is any that is out: an invalidation detaches it. No invalidation reaches a sidecar, and one may have passed by
//! a node without a lease, so there a question is
//! joined until it goes out and not after. Who comes later gathers behind it and shares the next one: a herd costs two
//! questions, and the second brings no bytes, since the version is known by then and its first bytes are on their way.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use tokio::time::{Instant, timeout};

use super::open::Opened;
use super::{Error, Freshness, Proxy};
use crate::object::{ObjectId, Scope};

/// So long a question waits for the one before it, where it must not join that one: a home may turn out to be silent
/// meanwhile, and a stand-in answer.
const TURN: Duration = Duration::from_millis(500);

/// The answer, on its way to all who wait for it.
type Open = Shared<BoxFuture<'static, Result<Opened, Error>>>;

/// A question that others may join: about what, asked of S3 rather than of the home, and how current.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) object: ObjectId,
    pub(super) at_origin: bool,
    pub(super) freshness: Freshness,
}

/// A question that is out, or about to be.
#[derive(Debug)]
struct Asked {
    open: Open,
    is_out: Arc<AtomicBool>,
}

impl Asked {
    /// Its answer is for those who waited for it: who comes after it finds what was stored, or asks anew.
    fn is_answered(&self) -> bool {
        self.open.peek().is_some()
    }
}

/// The questions that are out, the newest of each kind.
#[derive(Debug, Default)]
pub(super) struct Opens {
    running: Mutex<HashMap<Question, Asked>>,
}

impl Opens {
    /// Later readers ask anew.
    pub(super) fn detach(&self, scope: &Scope) {
        self.running()
            .retain(|question, _| !scope.covers(&question.object));
    }

    fn remove(&self, question: &Question, open: &Open) {
        let mut running = self.running();
        if running
            .get(question)
            .is_some_and(|current| current.open.ptr_eq(open))
        {
            running.remove(question);
        }
    }

    /// The question goes out. Under the lock: whoever has joined it came before.
    fn goes_out(&self, is_out: &AtomicBool) {
        let _running = self.running();
        is_out.store(true, Ordering::Relaxed);
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Question, Asked>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// The answer to a question that others may ask too. Boxed: an answer may lead to another question.
    pub(super) fn join(&self, question: Question, first: Option<Range<u64>>) -> Open {
        let believes = self.believes(Instant::now());
        let (open, mine) = {
            let mut running = self.0.opens.running();
            let before = running
                .get(&question)
                .filter(|before| !before.is_answered());
            let joined = before
                .filter(|before| believes || !before.is_out.load(Ordering::Relaxed))
                .map(|before| before.open.clone());
            if let Some(open) = joined {
                (open, false)
            } else {
                let before = before.map(|before| before.open.clone());
                let asked = self.clone().find_detached(question.clone(), first, before);
                let open = asked.open.clone();
                running.insert(question.clone(), asked);
                (open, true)
            }
        };
        if mine {
            // The question outlives whoever asked it first.
            let (proxy, question, open) = (self.clone(), question, open.clone());
            tokio::spawn(async move {
                let _answer = open.clone().await;
                proxy.0.opens.remove(&question, &open);
            });
        }
        open
    }

    /// A question that goes out when the one before it is answered, or has had its time.
    fn find_detached(
        self,
        question: Question,
        first: Option<Range<u64>>,
        before: Option<Open>,
    ) -> Asked {
        let is_out = Arc::new(AtomicBool::new(false));
        let goes_out = is_out.clone();
        let find = async move {
            if let Some(before) = before {
                let _answered_or_not = timeout(TURN, before).await;
            }
            self.0.opens.goes_out(&goes_out);
            self.find(question, first).await
        };
        Asked {
            open: find.boxed().shared(),
            is_out,
        }
    }
}
