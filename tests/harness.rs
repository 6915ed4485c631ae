//! What the tests run against: servers that count, fail on demand and hold nothing but what a test put there.

pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod kubernetes;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod odd;
pub(crate) mod operator;
pub(crate) mod readme;
pub(crate) mod s3;
pub(crate) mod sdk;
pub(crate) mod servers;
pub(crate) mod tcp_proxy;
pub(crate) mod weed;

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// After this, what a test waits for will not come any more.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `holds` gives something; a test that waits longer than [`DEADLINE`] fails with `what`.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    holds: impl FnMut() -> F,
) -> T {
    until_within(DEADLINE, what, holds).await
}

/// As [`until`], with a deadline of its own.
pub(crate) async fn until_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut holds: impl FnMut() -> F,
) -> T {
    let wait = async {
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(deadline, wait)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}
