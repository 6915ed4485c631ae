//! Endpoints → nodes, for clusters with only the old API. Pure.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};

use super::candidate::{Candidate, address, name, port, settle};
use crate::members::DiscoveredNode;

/// The union of all subsets. An address that is not ready is a node that does not serve.
pub(super) fn merge(endpoints: &[&Endpoints], fallback_port: u16) -> Vec<DiscoveredNode> {
    let mut candidates = Vec::new();
    for subset in endpoints.iter().flat_map(|it| it.subsets.iter().flatten()) {
        let ports = subset.ports.iter().flatten();
        let port = port(
            ports.map(|port| (port.name.as_deref(), Some(port.port))),
            fallback_port,
        );
        for (addresses, serving) in [
            (&subset.addresses, true),
            (&subset.not_ready_addresses, false),
        ] {
            candidates.extend(
                addresses
                    .iter()
                    .flatten()
                    .filter_map(|address| candidate(address, port, serving)),
            );
        }
    }
    settle(candidates)
}

fn candidate(endpoint: &EndpointAddress, port: u16, serving: bool) -> Option<Candidate> {
    let ip = address(&endpoint.ip)?;
    Some(Candidate {
        name: name(
            endpoint.target_ref.as_ref(),
            endpoint.hostname.as_deref(),
            ip,
        ),
        at: SocketAddr::new(ip, port),
        zone: None,
        serving,
        terminating: false,
    })
}
