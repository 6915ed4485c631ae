//! PodMonitor and ServiceMonitor. These kinds are not Kubernetes' own, so the objects are untyped.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::json;

use crate::crd::network::MonitorKind;
use crate::plan::Plan;
use crate::resources::container::ADMIN;
use crate::resources::meta;

/// The API that they need.
pub const GROUP_VERSION: &str = "monitoring.coreos.com/v1";

/// The kind as the API server knows it.
pub fn resource(kind: MonitorKind) -> ApiResource {
    let name = match kind {
        MonitorKind::PodMonitor => "PodMonitor",
        MonitorKind::ServiceMonitor => "ServiceMonitor",
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk("monitoring.coreos.com", "v1", name))
}

/// The PodMonitor and the ServiceMonitor: at most one of them is wanted.
pub(super) fn monitors(plan: &Plan) -> (Option<DynamicObject>, Option<DynamicObject>) {
    let Some(monitor) = &plan.monitor else {
        return (None, None);
    };
    let mut metadata = meta::object(&plan.identity, &plan.identity.name);
    metadata
        .labels
        .get_or_insert_default()
        .extend(monitor.labels.clone());
    let endpoint = json!([{ "port": ADMIN, "path": "/metrics", "interval": format!("{}s", monitor.interval.as_secs()) }]);
    let mut object = DynamicObject::new(&plan.identity.name, &resource(monitor.kind));
    object.metadata = metadata;
    match monitor.kind {
        MonitorKind::PodMonitor => {
            object.data = json!({ "spec": { "selector": meta::selector(&plan.identity), "podMetricsEndpoints": endpoint } });
            (Some(object), None)
        }
        MonitorKind::ServiceMonitor => {
            // By the discovery label, which only the headless Service has: each pod is then scraped once.
            let selector = json!({ "matchLabels": { meta::DISCOVERY_ID: plan.discovery_id, meta::INSTANCE: plan.identity.name } });
            object.data = json!({ "spec": { "selector": selector, "endpoints": endpoint } });
            (None, Some(object))
        }
    }
}
