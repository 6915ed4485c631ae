//! Where the node listens, and who may use its S3 API. Pure.

use std::net::Ipv4Addr;

use super::args::{NetworkArgs, Port, S3Auth};
use super::error::{Error, must_be, refused};
use super::given;
use super::resolved::{Discovery, NetworkConfig, RingConfig};

const DEFAULT_PORT: u16 = 8080;
const DEFAULT_S3_PORT: u16 = 9000;
const DEFAULT_ADMIN_PORT: u16 = 9095;

pub(super) fn network(
    raw: &NetworkArgs,
    ring: &RingConfig,
    sidecar: bool,
) -> Result<NetworkConfig, Error> {
    // Several nodes on one host: the ports that the first Falcon did not have must not collide.
    let shared = match &ring.discovery {
        Discovery::Fixed { peers } => {
            let here = peers.iter().filter(|peer| peer.host().is(&ring.host));
            // A sidecar is not in the list.
            here.count() + usize::from(sidecar) > 1
        }
        Discovery::Kubernetes { .. } => false,
    };
    let or_default = |port: Option<Port>, default: u16| {
        let default = if shared { 0 } else { default };
        port.and_then(|port| port.0).unwrap_or(default)
    };
    let network = NetworkConfig {
        // A sidecar is for its own pod. Probes and Prometheus come from outside, and see no object.
        listen: raw.listen.or(sidecar.then_some(Ipv4Addr::LOCALHOST.into())),
        admin_listen: raw.listen,
        port: raw.port.0.unwrap_or(DEFAULT_PORT),
        s3_port: raw
            .s3_auth
            .map(|_| or_default(raw.s3_port, DEFAULT_S3_PORT)),
        admin_port: or_default(raw.admin_port, DEFAULT_ADMIN_PORT),
    };
    let ports = [
        ("--port", network.port),
        ("--s3-port", network.s3_port.unwrap_or(0)),
        ("--admin-port", network.admin_port),
    ];
    for (at, (second, port)) in ports.iter().enumerate() {
        if let Some((first, _)) = ports[..at].iter().find(|(_, it)| it == port && *port != 0) {
            return Err(refused(format!(
                "{first} and {second} must be different ports; got {port} for both"
            )));
        }
    }
    Ok(network)
}

/// The domains of the S3 API, and whether its flags agree on who may use it.
pub(super) fn s3_domain(
    raw: &NetworkArgs,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, Error> {
    let domains = given::list(&raw.s3_domain);
    let has_port = raw.s3_port.and_then(|port| port.0).unwrap_or(0) != 0;
    let access_file = given::path(raw.access_file.clone());
    match (raw.s3_auth, access_file) {
        (None, _) if has_port || !domains.is_empty() => {
            let flag = if has_port { "--s3-port" } else { "--s3-domain" };
            return Err(refused(format!(
                "{flag} needs --s3-auth, without which the S3 API is off: add --s3-auth keys, or --s3-auth none"
            )));
        }
        (Some(S3Auth::Keys), None) => {
            return Err(refused(
                "--s3-auth keys needs --access-file, which lists the keys: add it, or let everybody in with --s3-auth none",
            ));
        }
        (Some(S3Auth::None), Some(_)) => {
            return Err(refused(
                "--s3-auth none would bypass --access-file: use --s3-auth keys, or leave --access-file out",
            ));
        }
        (Some(S3Auth::None), None) => warnings.push(
            "--s3-auth none: anyone who reaches the S3 port reads and writes with this node's keys"
                .to_owned(),
        ),
        (None, _) | (Some(S3Auth::Keys), Some(_)) => {}
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if let Some(wrong) = domains.iter().find(|name| !name.chars().all(plain)) {
        let what = "a host name, without http:// and without a port";
        return Err(must_be("s3-domain", what, format_args!("{wrong:?}")));
    }
    Ok(domains)
}
