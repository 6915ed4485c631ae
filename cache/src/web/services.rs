//! What both APIs work with: the parts of the node that answer a request, whichever port it came in by.

use std::sync::Arc;
use std::time::Duration;

use super::aftermath::Aftermath;
use super::dialect::Dialect;
use super::middleware::Middleware;
use super::rights::ServedBuckets;
use crate::access::Access;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::proxy::Proxy;

/// What both APIs are allowed to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// The buckets that are served.
    pub buckets: ServedBuckets,
    /// No writes.
    pub read_only: bool,
    /// How long a write may wait for its slot and its memory.
    pub upload_wait: Duration,
}

/// The parts of the node that both APIs use.
pub struct Services {
    /// This node's name, as answers give it.
    pub node: String,
    /// Reads.
    pub proxy: Proxy,
    /// Writes and lists.
    pub origin: Origin,
    /// The barrier after each write.
    pub aftermath: Aftermath,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may do what.
    pub access: Access,
    /// What both APIs are allowed to do.
    pub settings: WebSettings,
}

impl Services {
    /// The middleware of the port that metrics call `api`.
    pub(crate) fn middleware(&self, api: &'static str, dialect: Dialect) -> Middleware {
        Middleware::new(api, dialect, &self.node, &self.metrics)
    }
}
