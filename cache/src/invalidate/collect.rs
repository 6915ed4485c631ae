//! Retries invalidations at nodes that owe them. Every node that knows of a debt does, so it does not matter which node
//! coordinated, or whether that one is still alive; forgetting twice only costs a read of what was invalidated anyway.
//!
//! Until a node has paid, its entries are not copied (`Members::owes`), so the other nodes need not forget again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Inner;
use super::coordinator::ask;
use crate::members::{Members, jittered};
use crate::peer::InvalidateRequest;

/// The pause between two attempts at a node that does not answer: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(800));

/// How often to check whether discovery has named the nodes.
const LOOK: Duration = Duration::from_millis(100);

/// Asks each node that owes something, as soon as it does.
pub(super) async fn whenever_noted(inner: Arc<Inner>) {
    let stop = inner.stop.clone();
    let work = async {
        loop {
            inner.members.somebody_owes().await;
            for name in inner.members.owing() {
                if inner.asked().insert(name.clone()) {
                    tokio::spawn(collect(Arc::clone(&inner), name));
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn collect(inner: Arc<Inner>, name: String) {
    let work = collect_all(&inner, &name);
    if inner.stop.run_until_cancelled(work).await.is_none() {
        inner.asked().remove(&name);
    }
}

/// Returns once the node owes nothing, or is gone; it is no longer in `asked` then.
async fn collect_all(inner: &Inner, name: &str) {
    let mut pause = BACK_OFF.0;
    loop {
        let Some((url, debt)) = inner.members.debt(name) else {
            // Checked again under the lock: a debt that is noted now starts another task.
            let mut asked = inner.asked();
            if inner.members.debt(name).is_none() {
                asked.remove(name);
                return;
            }
            continue;
        };
        let request = InvalidateRequest {
            scope: debt.scope.clone(),
            from: inner.members.name().to_owned(),
            unanswered: inner.members.also_owing(&debt.scope, name),
        };
        match ask(inner, &request, name.to_owned(), url).await.1 {
            Ok(ack) => {
                // Nodes that only it knew owe the invalidation too from now on, and it must hear of that.
                if !inner.members.learn(&ack.members) {
                    inner.members.paid(name, &debt);
                }
                pause = BACK_OFF.0;
            }
            Err(error) => {
                tracing::debug!(node = name, %error, scope = ?request.scope, "failed again to collect an owed invalidation");
                tokio::select! {
                    () = sleep(jittered(pause)) => {}
                    () = inner.members.until_back(name) => {}
                }
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Waits until discovery has named the nodes.
pub(super) async fn until_the_ring_is_known(members: &Members) {
    while !members.know_the_ring() {
        sleep(jittered(LOOK)).await;
    }
}
