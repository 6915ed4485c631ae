//! The two Services: a headless one, by which pods have names and discover each other, and one for applications.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use crate::crd::network::{ServiceType, TrafficDistribution};
use crate::plan::Plan;
use crate::resources::container::{ADMIN, ADMIN_PORT, HTTP, HTTP_PORT, S3};
use crate::resources::meta;

/// Publishes pods before they are ready: a node exchanges heartbeats with all others before it reports ready.
pub(super) fn headless(plan: &Plan) -> Service {
    let mut metadata = meta::object(&plan.identity, &meta::headless_name(&plan.identity));
    // Only this Service has the label: its EndpointSlices are the ring, and those of a second Service would contain
    // each pod twice.
    metadata
        .labels
        .get_or_insert_default()
        .insert(meta::DISCOVERY_ID.to_owned(), plan.discovery_id.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(meta::selector_labels(&plan.identity)),
            ports: Some(vec![port(HTTP, HTTP_PORT), port(ADMIN, ADMIN_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

pub(super) fn client(plan: &Plan) -> Service {
    let mut ports = vec![port(HTTP, plan.service.port)];
    if let Some(gateway) = &plan.s3 {
        ports.push(port(S3, gateway.port));
    }
    Service {
        metadata: ObjectMeta {
            annotations: Some(plan.service.annotations.clone()).filter(|all| !all.is_empty()),
            ..meta::object(&plan.identity, &plan.identity.name)
        },
        spec: Some(ServiceSpec {
            type_: Some(
                match plan.service.kind {
                    ServiceType::ClusterIp => "ClusterIP",
                    ServiceType::NodePort => "NodePort",
                    ServiceType::LoadBalancer => "LoadBalancer",
                }
                .to_owned(),
            ),
            selector: Some(meta::selector_labels(&plan.identity)),
            traffic_distribution: plan.service.traffic_distribution.map(|prefer| {
                match prefer {
                    TrafficDistribution::PreferClose => "PreferClose",
                    TrafficDistribution::PreferSameZone => "PreferSameZone",
                    TrafficDistribution::PreferSameNode => "PreferSameNode",
                }
                .to_owned()
            }),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
