//! The NetworkPolicy: who may connect to the pods. Egress is not restricted: S3 may be anywhere.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::plan::Plan;
use crate::resources::container::{ADMIN, HTTP, S3};
use crate::resources::meta;

pub(super) fn policy(plan: &Plan) -> Option<NetworkPolicy> {
    let allow_from = plan.allow_from.as_ref()?;
    let everything = || Some(LabelSelector::default());
    let clients = if allow_from.is_empty() {
        vec![NetworkPolicyPeer {
            pod_selector: everything(),
            ..NetworkPolicyPeer::default()
        }]
    } else {
        allow_from.clone()
    };
    let peers = vec![NetworkPolicyPeer {
        pod_selector: Some(meta::selector(&plan.identity)),
        ..NetworkPolicyPeer::default()
    }];
    // Metrics and health expose no objects: Prometheus and the operator read them from namespaces that are not known
    // here.
    let monitors = vec![NetworkPolicyPeer {
        namespace_selector: everything(),
        ..NetworkPolicyPeer::default()
    }];
    let mut client_ports = vec![HTTP];
    client_ports.extend(plan.s3.as_ref().map(|_| S3));
    Some(NetworkPolicy {
        metadata: meta::object(&plan.identity, &plan.identity.name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(meta::selector(&plan.identity)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule(peers, &[HTTP]),
                rule(clients, &client_ports),
                rule(monitors, &[ADMIN]),
            ]),
            egress: None,
        }),
    })
}

fn rule(from: Vec<NetworkPolicyPeer>, ports: &[&str]) -> NetworkPolicyIngressRule {
    let port = |name: &&str| NetworkPolicyPort {
        port: Some(IntOrString::String((*name).to_owned())),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(ports.iter().map(port).collect()),
    }
}
