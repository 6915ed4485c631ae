//! Which ring this node belongs to, and under which name. Pure.

use super::args::{DiscoveryApi, RingArgs};
use super::environment::Environment;
use super::error::{Error, must_be, refused};
use super::given;
use super::resolved::{Discovery, RingConfig};
use crate::discovery::{Host, WatchedApi};

/// Which ring this node is in, or beside.
pub(super) fn ring(
    raw: &RingArgs,
    env: &Environment,
    warnings: &mut Vec<String>,
) -> Result<RingConfig, Error> {
    let host = given::text(raw.host.clone());
    let node_name = given::text(raw.node_name.clone());
    if raw.sidecar {
        let flags = [("--host", &host), ("--node-name", &node_name)];
        if let Some((flag, _)) = flags.iter().find(|(_, value)| value.is_some()) {
            return Err(refused(format!(
                "{flag} is for members of the ring, and a sidecar is not one: leave it out"
            )));
        }
    }
    let host = host
        .map(|host| {
            let what = "a host name or an IP address, without http:// and without a port";
            Host::parse(&host).ok_or_else(|| must_be("host", what, format_args!("{host:?}")))
        })
        .transpose()?;
    match given::text(raw.k8s_discovery_id.clone()) {
        Some(id) => in_kubernetes(raw, id, host, node_name, env, warnings),
        None => of_peers(raw, host, node_name.as_deref(), warnings),
    }
}

fn of_peers(
    raw: &RingArgs,
    host: Option<Host>,
    node_name: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<RingConfig, Error> {
    if node_name.is_some() {
        return Err(refused(
            "--node-name needs --k8s-discovery-id: in a list of --peers a node's name is its URL. Leave it out",
        ));
    }
    if given::text(raw.k8s_namespace.clone()).is_some() {
        warnings.push("--k8s-namespace has no effect without --k8s-discovery-id".to_owned());
    }
    let peers = given::list(&raw.peers);
    if raw.sidecar && peers.is_empty() {
        return Err(refused(
            "--sidecar needs a ring to ask: name it with --k8s-discovery-id, or list its nodes with --peers",
        ));
    }
    let peers = peers.iter().map(|peer| peer.parse());
    Ok(RingConfig {
        host: host.unwrap_or_else(Host::localhost),
        discovery: Discovery::Fixed {
            peers: peers.collect::<Result<_, _>>()?,
        },
    })
}

fn in_kubernetes(
    raw: &RingArgs,
    id: String,
    host: Option<Host>,
    node_name: Option<String>,
    env: &Environment,
    warnings: &mut Vec<String>,
) -> Result<RingConfig, Error> {
    if !given::list(&raw.peers).is_empty() {
        return Err(refused(
            "--peers and --k8s-discovery-id both name the ring's nodes: leave one of them out",
        ));
    }
    if given::path(raw.peer_token_file.clone()).is_none() {
        warnings
            .push("no --peer-token-file: anyone who reaches the port can act as a peer".to_owned());
    }
    let host = if raw.sidecar {
        // Only its own pod reaches it.
        Some(Host::localhost())
    } else {
        host.or_else(|| env.pod_address.map(Host::from))
    };
    let host = host.ok_or_else(|| {
        refused("the pod's address is unknown: set --host (FALCON_HOST from status.podIP)")
    })?;
    let node_name = if raw.sidecar {
        // No pod can have such a name, so no member has it.
        let pod = env.hostname.as_deref().unwrap_or("localhost");
        Some(format!("sidecar@{pod}"))
    } else {
        node_name.or_else(|| env.hostname.clone())
    };
    let node_name = node_name
        .ok_or_else(|| refused("this host's name is unknown: set --node-name to the pod's name"));
    Ok(RingConfig {
        host,
        discovery: Discovery::Kubernetes {
            k8s_discovery_id: label(id)?,
            k8s_discovery_api: match raw.k8s_discovery_api {
                DiscoveryApi::EndpointSlices => WatchedApi::EndpointSlices,
                DiscoveryApi::Endpoints => WatchedApi::Endpoints,
            },
            k8s_namespace: namespace(raw, env)?,
            node_name: node_name?,
        },
    })
}

fn label(id: String) -> Result<String, Error> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_label = id.len() <= 63
        && id.chars().all(inner)
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.ends_with(|c: char| c.is_ascii_alphanumeric());
    if is_label {
        return Ok(id);
    }
    Err(must_be(
        "k8s-discovery-id",
        "a label's value: up to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends",
        format_args!("{id:?}"),
    ))
}

fn namespace(raw: &RingArgs, env: &Environment) -> Result<String, Error> {
    let namespace = given::text(raw.k8s_namespace.clone()).or_else(|| env.namespace.clone());
    let namespace = namespace.ok_or_else(|| {
        refused("the namespace is unknown, since there is no service account: set --k8s-namespace")
    })?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if namespace.len() <= 63 && namespace.chars().all(plain) {
        return Ok(namespace);
    }
    Err(must_be(
        "k8s-namespace",
        "a namespace's name: up to 63 lower-case letters, digits and '-'",
        format_args!("{namespace:?}"),
    ))
}
