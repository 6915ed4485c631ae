//! Where the node listens, and whom it lets in.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{self, S3Auth};
use super::check::{list, refused};
use super::ring::same_host;
use super::{DEFAULT_ADMIN_PORT, DEFAULT_PORT, DEFAULT_S3_PORT, Discovery, Doors, Error, Ring, S3};

pub(super) fn doors(
    typed: &args::Doors,
    ring: &Ring,
    warnings: &mut Vec<String>,
) -> Result<Doors, Error> {
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
    let doors = Doors {
        // A sidecar is for its own pod. Probes and Prometheus come from outside, and see no object.
        listen: typed
            .listen
            .or(ring.sidecar.then_some(Ipv4Addr::LOCALHOST.into())),
        admin_listen: typed.listen,
        port: typed.port.0.unwrap_or(DEFAULT_PORT),
        s3: s3(
            typed,
            given(typed.s3_port),
            default(DEFAULT_S3_PORT),
            warnings,
        )?,
        access_file: given_file(typed),
        admin_port: given(typed.admin_port).unwrap_or(default(DEFAULT_ADMIN_PORT)),
        max_connections: usize::try_from(typed.max_connections).unwrap_or(usize::MAX),
        drain_timeout: Duration::from_secs(typed.drain_timeout),
    };
    let ports = [
        ("--port", doors.port),
        ("--s3-port", doors.s3.as_ref().map_or(0, |s3| s3.port)),
        ("--admin-port", doors.admin_port),
    ];
    for (at, (second, port)) in ports.iter().enumerate() {
        if let Some((first, _)) = ports[..at].iter().find(|(_, it)| it == port && *port != 0) {
            return Err(refused(format!(
                "{first} and {second} are both {port}: give one of them another port"
            )));
        }
    }
    Ok(doors)
}

fn given_file(typed: &args::Doors) -> Option<PathBuf> {
    let file = typed.access_file.clone();
    file.filter(|file| !file.as_os_str().is_empty())
}

fn s3(
    typed: &args::Doors,
    port: Option<u16>,
    default: u16,
    warnings: &mut Vec<String>,
) -> Result<Option<S3>, Error> {
    let domains = list(&typed.s3_domain);
    let Some(auth) = typed.s3_auth else {
        if port.is_some_and(|port| port != 0) || !domains.is_empty() {
            return Err(refused(
                "--s3-port and --s3-domain are for the S3 API, which is off: say who may use it with --s3-auth keys or --s3-auth none",
            ));
        }
        return Ok(None);
    };
    match (auth, given_file(typed)) {
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
    Ok(Some(S3 {
        port: port.unwrap_or(default),
        domains,
    }))
}
