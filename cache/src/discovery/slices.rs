//! EndpointSlices → nodes. Pure.

use std::net::SocketAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

use super::candidate::{Candidate, address, name, port, settle};
use crate::members::DiscoveredNode;

/// The union of the slices, given in the order in which they were written.
pub(super) fn merge(slices: &[&EndpointSlice], fallback_port: u16) -> Vec<DiscoveredNode> {
    let mut candidates = Vec::new();
    for slice in slices {
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            tracing::warn!(
                slice = slice.name_any(),
                address_type = slice.address_type,
                "ignoring a slice without IP addresses"
            );
            continue;
        }
        let ports = slice.ports.iter().flatten();
        let port = port(
            ports.map(|port| (port.name.as_deref(), port.port)),
            fallback_port,
        );
        candidates.extend(
            slice
                .endpoints
                .iter()
                .filter_map(|endpoint| candidate(endpoint, port)),
        );
    }
    settle(candidates)
}

fn candidate(endpoint: &Endpoint, port: u16) -> Option<Candidate> {
    // Further addresses of one endpoint have no defined meaning.
    let ip = address(endpoint.addresses.first()?)?;
    // `ready` is useless: with publishNotReadyAddresses it is always true. A missing `serving` means that it serves.
    let conditions = endpoint.conditions.as_ref();
    Some(Candidate {
        name: name(
            endpoint.target_ref.as_ref(),
            endpoint.hostname.as_deref(),
            ip,
        ),
        at: SocketAddr::new(ip, port),
        zone: endpoint.zone.clone().filter(|zone| !zone.is_empty()),
        serving: conditions.and_then(|it| it.serving).unwrap_or(true),
        terminating: conditions.and_then(|it| it.terminating).unwrap_or(false),
    })
}
