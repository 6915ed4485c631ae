//! What a reconcile has found out when it has applied.

use crate::apply::{self, Outcome};
use crate::crd::status::FalconCacheStatus;
use crate::plan::{self, Identity, Plan};

/// What a reconcile knows before it observes the pods.
pub(super) struct Findings<'a> {
    pub(super) identity: &'a Identity,
    /// Resource version of the cache that was read.
    pub(super) version: Option<&'a str>,
    pub(super) previous: Option<&'a FalconCacheStatus>,
    pub(super) plan: &'a Result<Plan, plan::Error>,
    pub(super) outcome: &'a Result<Outcome, apply::Error>,
}
