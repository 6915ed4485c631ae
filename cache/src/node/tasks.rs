//! What a node does beside answering: it follows discovery, reports ready, reads its files again, and tries S3 at its
//! start.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::readiness::ready_while_its_name_is_its_own;
use crate::access::Access;
use crate::api::Ready;
use crate::members::{DiscoveredNode, Members};
use crate::origin::Origin;
use crate::peer::Token;

/// How long a node waits at its start for the answers to its heartbeats. A member that is unreachable by then exchanges
/// no invalidations with this node, so it need not be waited for.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(3);
/// Between two looks at files that may have been changed under the node.
const REREAD: Duration = Duration::from_secs(1);
/// Pause before S3 is asked again after it did not answer at the start: doubled each time, from the first to the last.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

/// The tasks of one node. They end when it stops.
pub(super) struct Tasks {
    running: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub(super) fn until(stop: CancellationToken) -> Self {
        Self {
            running: TaskTracker::new(),
            stop,
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.running.spawn(async move {
            tokio::select! { () = task => {}, () = stop.cancelled() => {} }
        });
    }

    /// Waits until all have ended, which were stopped.
    pub(super) async fn ended(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// Hands each set of nodes to `members`; `known` is true from the first on.
pub(super) async fn follow_discovery(
    mut discovery: BoxStream<'static, Vec<DiscoveredNode>>,
    members: &Members,
    known: watch::Sender<bool>,
) {
    while let Some(found) = discovery.next().await {
        members.apply_discovery(found);
        known.send_replace(true);
    }
    // A fixed list comes once and holds.
    std::future::pending::<()>().await;
}

/// Reports ready once the ring is known and every member has been sent a heartbeat.
pub(super) async fn report_readiness(
    mut known: watch::Receiver<bool>,
    members: &Members,
    ready: &watch::Sender<Ready>,
) {
    if known.wait_for(|known| *known).await.is_err() {
        return;
    }
    ready.send_replace(Ready::No(
        "heartbeats are not sent to all members yet".into(),
    ));
    members.wait_announced(Instant::now() + ANNOUNCE_WAIT).await;
    if !members.know_the_ring() {
        tracing::warn!("no node is in the ring yet: until one is, every read asks S3");
    }
    ready_while_its_name_is_its_own(members, ready).await;
}

/// Reads the access file and the peer token again when they change.
pub(super) async fn reread(access: &Access, token: &Token) {
    loop {
        sleep(REREAD).await;
        match access.reload() {
            Ok(true) => tracing::info!("the access file was read again"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to read the access file again; the last rules stay in force"
                );
            }
        }
        if let Err(error) = token.reload() {
            tracing::warn!(%error, "failed to read the peer token again; the last one stays in use");
        }
    }
}

/// Asks S3 for the bucket until it answers, and logs what is wrong while it does not.
pub(super) async fn try_origin(origin: &Origin, bucket: &str) {
    let (mut pause, longest) = ASK_AGAIN;
    let mut logged = String::new();
    while let Err(error) = origin.list(bucket, "", 1, None).await {
        let what = error.to_string();
        if what != logged {
            let way_out = error.way_out();
            tracing::error!(bucket, %error, way_out, "failed to list the bucket in S3");
            logged = what;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
    tracing::info!(bucket, "S3 answers");
}
