//! Which ring, and as whom: from the flags as given to what they mean, or why they can't be meant. Pure.

use std::net::IpAddr;

use super::args::{self, DiscoveryApi};
use super::check::{given, list, refused};
use super::{Discovery, Environment, Error, RingConfig};

/// Which ring this node is in, or beside.
pub(super) fn ring(
    raw: args::RingArgs,
    env: &Environment,
    warnings: &mut Vec<String>,
) -> Result<RingConfig, Error> {
    let sidecar = raw.sidecar;
    let peers = list(&raw.peers);
    let host = given(raw.host);
    let node = given(raw.node_name);
    let namespace = given(raw.k8s_namespace);
    let peer_token_file = raw
        .peer_token_file
        .filter(|file| !file.as_os_str().is_empty());
    if sidecar {
        refuse_of_sidecar(host.as_deref(), node.as_deref())?;
    }
    let (host, discovery) = if let Some(id) = given(raw.k8s_discovery_id) {
        if !peers.is_empty() {
            return Err(refused(
                "--peers and --k8s-discovery-id both say who the nodes are: leave one of them out",
            ));
        }
        if peer_token_file.is_none() {
            warnings.push(
                "no --peer-token-file: whoever reaches the port can speak as a peer".to_owned(),
            );
        }
        let address = env.pod_address.filter(|_| !sidecar);
        let host = host
            .or_else(|| address.map(|ip| ip.to_string()))
            .or_else(|| sidecar.then(localhost))
            .ok_or_else(|| {
                refused("the pod's address is not known: give it with --host (FALCON_HOST from status.podIP)")
            })?;
        let node = if sidecar {
            Some(sidecar_name(env))
        } else {
            node
        };
        (
            host,
            kubernetes(id, namespace, raw.k8s_discovery_api, node, env)?,
        )
    } else {
        if node.is_some() {
            return Err(refused(
                "--node-name is for --k8s-discovery-id: in a list of --peers a node's name is its URL; leave it out",
            ));
        }
        if namespace.is_some() {
            warnings.push("--k8s-namespace does nothing without --k8s-discovery-id".to_owned());
        }
        if sidecar && peers.is_empty() {
            return Err(refused(
                "--sidecar asks a ring and is none: name it with --k8s-discovery-id, or its nodes with --peers",
            ));
        }
        (host.unwrap_or_else(localhost), Discovery::Fixed { peers })
    };
    if !is_host(&host) {
        return Err(refused(format!(
            "--host {host:?} is no name and no address: give it without http:// and without the port"
        )));
    }
    Ok(RingConfig {
        host,
        sidecar,
        discovery,
        zone: given(raw.zone),
        peer_token_file,
    })
}

/// What says how others reach a member, or what it is called there.
fn refuse_of_sidecar(host: Option<&str>, node: Option<&str>) -> Result<(), Error> {
    let flags = [("--host", host), ("--node-name", node)];
    match flags.iter().find(|(_, value)| value.is_some()) {
        Some((flag, _)) => Err(refused(format!(
            "{flag} is for members of the ring, and --sidecar is none: leave it out"
        ))),
        None => Ok(()),
    }
}

fn localhost() -> String {
    "localhost".to_owned()
}

/// A name that no pod and no URL has, so that it is no member's.
fn sidecar_name(env: &Environment) -> String {
    format!("sidecar@{}", env.hostname.as_deref().unwrap_or("localhost"))
}

fn kubernetes(
    id: String,
    namespace: Option<String>,
    api: DiscoveryApi,
    node: Option<String>,
    env: &Environment,
) -> Result<Discovery, Error> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let label = id.len() <= 63
        && id.chars().all(inner)
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.ends_with(|c: char| c.is_ascii_alphanumeric());
    if !label {
        return Err(refused(format!(
            "--k8s-discovery-id {id:?} is no value of a label: take up to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends"
        )));
    }
    let namespace = namespace.or_else(|| env.namespace.clone()).ok_or_else(|| {
        refused("no service account says which namespace this is: give it with --k8s-namespace")
    })?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if namespace.len() > 63 || !namespace.chars().all(plain) {
        return Err(refused(format!(
            "--k8s-namespace {namespace:?} is no name of a namespace: take lower-case letters, digits and '-'"
        )));
    }
    let node = node
        .or_else(|| env.hostname.clone())
        .ok_or_else(|| refused("this host has no name: give the pod's with --node-name"))?;
    Ok(Discovery::Kubernetes {
        id,
        namespace,
        api,
        node,
    })
}

fn is_host(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    bare(text).parse::<IpAddr>().is_ok() || text.chars().all(name)
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// True when the peer, typed as a URL or as `HOST:PORT`, is on `host`.
pub(super) fn same_host(peer: &str, host: &str) -> bool {
    let place = peer.split_once("://").map_or(peer, |(_, place)| place);
    let place = place.trim_end_matches('/');
    let name = place.rsplit_once(':').map_or(place, |(name, _)| name);
    let loopback = |host: &str| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let (name, host) = (bare(name), bare(host));
    name.eq_ignore_ascii_case(host) || (loopback(name) && loopback(host))
}

/// The address that a hosts file, as kubelet writes it, gives the pod; IPv4 where it has both.
pub(super) fn pod_address(hosts: &str, hostname: &str) -> Option<IpAddr> {
    let lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let mut addresses: Vec<IpAddr> = lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words.any(|name| name == hostname).then_some(address)
        })
        .filter(|address| !address.is_loopback())
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied()
}
