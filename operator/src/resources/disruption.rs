//! The PodDisruptionBudget.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};

use crate::plan::Plan;
use crate::resources::meta;

pub(super) fn budget(plan: &Plan) -> Option<PodDisruptionBudget> {
    let max_unavailable = plan.disruption.clone()?;
    Some(PodDisruptionBudget {
        metadata: meta::object(&plan.identity, &plan.identity.name),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(max_unavailable),
            selector: Some(meta::selector(&plan.identity)),
            // Without this, a broken cache would block the drain of its nodes.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}
