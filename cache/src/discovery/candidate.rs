//! What EndpointSlices and Endpoints have in common: nodes as one of them names them, and which of these count. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::ObjectReference;

use crate::members::DiscoveredNode;

/// The port of a Service by which nodes talk to each other, where it has several.
const PORT_NAME: &str = "http";

/// A node as one Kubernetes object names it.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) at: SocketAddr,
    pub(super) zone: Option<String>,
    pub(super) serving: bool,
    pub(super) terminating: bool,
}

/// One address family, one entry per node; sorted by name. Of two equal entries the later one counts.
pub(super) fn settle(mut candidates: Vec<Candidate>) -> Vec<DiscoveredNode> {
    // A dual-stack Service names each pod twice. Both addresses work; all nodes must choose the same one.
    if candidates.iter().any(|candidate| candidate.at.is_ipv4()) {
        candidates.retain(|candidate| candidate.at.is_ipv4());
    }
    let rank = |candidate: &Candidate| (!candidate.terminating, candidate.serving);
    let mut best: HashMap<String, Candidate> = HashMap::new();
    for candidate in candidates {
        let better = best
            .get(&candidate.name)
            .is_none_or(|held| rank(&candidate) >= rank(held));
        if better {
            best.insert(candidate.name.clone(), candidate);
        }
    }
    let mut found: Vec<DiscoveredNode> = best
        .into_values()
        .map(|candidate| DiscoveredNode {
            url: format!("http://{}", candidate.at),
            name: candidate.name,
            zone: candidate.zone,
            serving: candidate.serving,
            terminating: candidate.terminating,
        })
        .collect();
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

/// The pod's name, which a restart doesn't change; else the host name, else the address.
pub(super) fn name(target: Option<&ObjectReference>, hostname: Option<&str>, ip: IpAddr) -> String {
    let pod = target
        .filter(|target| target.kind.as_deref().is_none_or(|kind| kind == "Pod"))
        .and_then(|target| target.name.as_deref());
    [pod, hostname]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .map_or_else(|| ip.to_string(), str::to_owned)
}

/// The port named `http`, else the only one, else `fallback`.
pub(super) fn port<'a>(
    ports: impl Iterator<Item = (Option<&'a str>, Option<i32>)> + Clone,
    fallback: u16,
) -> u16 {
    let mut named = ports.clone().filter(|(name, _)| *name == Some(PORT_NAME));
    let mut all = ports;
    let (chosen, only) = (named.next(), all.next().filter(|_| all.next().is_none()));
    chosen
        .or(only)
        .and_then(|(_, number)| u16::try_from(number?).ok())
        .filter(|number| *number != 0)
        .unwrap_or(fallback)
}

/// An address that a node can have. It is checked, since slices are also written by hand.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}
