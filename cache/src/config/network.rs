//! Where the node listens, and whom it lets in.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{self, S3Auth};
use super::check::{list, refused};
use super::ring::same_host;
use super::{
    DEFAULT_ADMIN_PORT, DEFAULT_PORT, DEFAULT_S3_PORT, Discovery, Error, NetworkConfig, RingConfig,
    S3Config,
};

pub(super) fn network(
    raw: &args::NetworkArgs,
    ring: &RingConfig,
    warnings: &mut Vec<String>,
) -> Result<NetworkConfig, Error> {
    // Several nodes of one host, as the original is tried: the ports that it did not have must not be fought for.
    let shared = match &ring.discovery {
        Discovery::Fixed { peers } => {
            let same = |peer: &&String| same_host(peer, &ring.host);
            // A sidecar is not among them.
            peers.iter().filter(same).count() + usize::from(ring.sidecar) > 1
        }
        Discovery::Kubernetes { .. } => false,
    };
    let default = |port: u16| if shared { 0 } else { port };
    let given = |port: Option<args::Port>| port.and_then(|port| port.0);
    let network = NetworkConfig {
        // A sidecar is for its own pod. Probes and Prometheus come from outside, and see no object.
        listen: raw
            .listen
            .or(ring.sidecar.then_some(Ipv4Addr::LOCALHOST.into())),
        admin_listen: raw.listen,
        port: raw.port.0.unwrap_or(DEFAULT_PORT),
        s3: s3(raw, given(raw.s3_port), default(DEFAULT_S3_PORT), warnings)?,
        access_file: access_file(raw),
        admin_port: given(raw.admin_port).unwrap_or(default(DEFAULT_ADMIN_PORT)),
        max_connections: usize::try_from(raw.max_connections).unwrap_or(usize::MAX),
        drain_timeout: Duration::from_secs(raw.drain_timeout),
    };
    let ports = [
        ("--port", network.port),
        ("--s3-port", network.s3.as_ref().map_or(0, |s3| s3.port)),
        ("--admin-port", network.admin_port),
    ];
    for (at, (second, port)) in ports.iter().enumerate() {
        if let Some((first, _)) = ports[..at].iter().find(|(_, it)| it == port && *port != 0) {
            return Err(refused(format!(
                "{first} and {second} are both {port}: give one of them another port"
            )));
        }
    }
    Ok(network)
}

fn access_file(raw: &args::NetworkArgs) -> Option<PathBuf> {
    let file = raw.access_file.clone();
    file.filter(|file| !file.as_os_str().is_empty())
}

fn s3(
    raw: &args::NetworkArgs,
    port: Option<u16>,
    default: u16,
    warnings: &mut Vec<String>,
) -> Result<Option<S3Config>, Error> {
    let domains = list(&raw.s3_domain);
    let Some(auth) = raw.s3_auth else {
        if port.is_some_and(|port| port != 0) || !domains.is_empty() {
            return Err(refused(
                "--s3-port and --s3-domain are for the S3 API, which is off: say who may use it with --s3-auth keys or --s3-auth none",
            ));
        }
        return Ok(None);
    };
    match (auth, access_file(raw)) {
        (S3Auth::Keys, None) => {
            return Err(refused(
                "--s3-auth keys needs the keys: give the file with --access-file, or let everybody in with --s3-auth none",
            ));
        }
        (S3Auth::None, Some(_)) => {
            return Err(refused(
                "--s3-auth none lets everybody in past --access-file: say --s3-auth keys, or leave the file out",
            ));
        }
        (S3Auth::None, None) => warnings.push(
            "--s3-auth none: whoever reaches the S3 port reads and writes with this node's keys"
                .to_owned(),
        ),
        (S3Auth::Keys, Some(_)) => {}
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if let Some(wrong) = domains.iter().find(|name| !name.chars().all(plain)) {
        return Err(refused(format!(
            "--s3-domain {wrong:?} is no host name: give it without http:// and without the port"
        )));
    }
    Ok(Some(S3Config {
        port: port.unwrap_or(default),
        domains,
    }))
}
