//! When a node says that it is ready, once it has sent its heartbeats: for as long as its name is its own.

use tokio::sync::watch;

use crate::api::Ready;
use crate::members::Members;

/// Why a node that leaves is not ready.
pub(super) fn leaving() -> Ready {
    Ready::No("leaving".into())
}

/// Ready, unless another process goes by this node's name: only one of them is told of invalidations.
pub(super) async fn ready_while_its_name_is_its_own(
    members: &Members,
    ready: &watch::Sender<Ready>,
) {
    let mut rival = members.rival();
    loop {
        let taken = rival.borrow_and_update().clone();
        let now = if let Some(url) = taken {
            let name = members.name();
            tracing::error!(
                name,
                rival = url,
                "another process goes by this node's name, so this node is not ready: stop one of them, or name them apart with --node-name, or with --host and --port in a list of --peers"
            );
            Ready::No(format!("another process goes by the name {name}, at {url}"))
        } else {
            members.set_ready();
            Ready::Yes
        };
        ready.send_if_modified(|before| {
            let changes = *before != leaving() && *before != now;
            if changes {
                *before = now;
            }
            changes
        });
        if rival.changed().await.is_err() {
            return;
        }
    }
}
