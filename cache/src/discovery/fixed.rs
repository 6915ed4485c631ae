//! The ring of `--peers`: its nodes, and which of them is this one. Pure.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::Host;
use crate::members::DiscoveredNode;
use crate::peer::Contact;

/// What is wrong with `--peers`, with the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeersError {
    /// An entry is not the address of a node.
    #[error("--peers must list http://HOST:PORT, comma separated; got {entry:?}: {reason}")]
    Entry {
        /// The entry as given.
        entry: String,
        /// What to change.
        reason: &'static str,
    },
    /// Two entries mean the same node.
    #[error("--peers must name each node once; got {first} and {second}, which are the same node")]
    Twice {
        /// The first of the two.
        first: String,
        /// The second of the two.
        second: String,
    },
    /// This node is missing.
    #[error(
        "--peers must include this node, {me}; got {peers}. Add it, or say with --host and --port which one it is"
    )]
    NotListed {
        /// This node, from `--host` and `--port`.
        me: String,
        /// The list.
        peers: String,
    },
    /// A sidecar is listed.
    #[error(
        "--peers must not include a sidecar; got {me}, which is this one. Take it out, or give the sidecar another --port"
    )]
    Sidecar {
        /// The sidecar, as the list has it.
        me: String,
    },
}

/// An entry of `--peers`: `http://HOST:PORT`. The scheme may be missing, and the port where it is this node's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    host: Host,
    port: Option<u16>,
}

/// This node, and all nodes of the list, itself included unless it is a sidecar. A peer's name is its URL; one without
/// a port has this node's.
///
/// An empty list is a ring of this node alone.
pub fn fixed(
    peers: &[PeerAddress],
    host: &Host,
    port: u16,
    sidecar: bool,
) -> Result<(Contact, Vec<DiscoveredNode>), PeersError> {
    let me = Place {
        host: host.clone(),
        port,
    };
    let mut listed: Vec<Place> = peers.iter().map(|peer| peer.place(port)).collect();
    for (at, second) in listed.iter().enumerate() {
        if let Some(first) = listed[..at].iter().find(|first| first.is(second)) {
            return Err(PeersError::Twice {
                first: first.url(),
                second: second.url(),
            });
        }
    }
    if listed.is_empty() && !sidecar {
        listed.push(me.clone());
    }
    let contact = match listed.iter().find(|place| place.is(&me)) {
        Some(mine) if sidecar => return Err(PeersError::Sidecar { me: mine.url() }),
        Some(mine) => Contact {
            name: mine.url(),
            url: mine.url(),
        },
        None if sidecar => Contact {
            name: format!("sidecar@{host}:{port}"),
            url: me.url(),
        },
        None => {
            let peers: Vec<String> = listed.iter().map(Place::url).collect();
            return Err(PeersError::NotListed {
                me: me.url(),
                peers: peers.join(","),
            });
        }
    };
    Ok((contact, listed.iter().map(Place::discovered).collect()))
}

impl PeerAddress {
    /// The machine it is on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    fn place(&self, default_port: u16) -> Place {
        Place {
            host: self.host.clone(),
            port: self.port.unwrap_or(default_port),
        }
    }
}

impl FromStr for PeerAddress {
    type Err = PeersError;

    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| PeersError::Entry {
            entry: entry.to_owned(),
            reason,
        };
        let place = match entry.split_once("://") {
            Some((scheme, place)) if scheme.eq_ignore_ascii_case("http") => place,
            Some(_) => return Err(wrong("nodes speak plain HTTP to each other")),
            None => entry,
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.rsplit_once(':') {
            // An IPv6 address alone ends with a bracket, or has none.
            _ if place.ends_with(']') || place.parse::<Ipv6Addr>().is_ok() => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        };
        let port = port
            .map(|port| {
                let port = port.parse().ok().filter(|port| *port != 0);
                port.ok_or_else(|| wrong("its port must be between 1 and 65535"))
            })
            .transpose()?;
        // Before a port, an IPv6 address needs its brackets.
        let is_bare = port.is_some() && host.contains(':') && !host.starts_with('[');
        let host = Host::parse(host).filter(|_| !is_bare);
        let host = host.ok_or_else(|| wrong("it must be a host and a port, and nothing more"))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => f.write_str(&self.host.url(port)),
            None => self.host.fmt(f),
        }
    }
}

/// Where a node of the list listens.
#[derive(Debug, Clone)]
struct Place {
    host: Host,
    port: u16,
}

impl Place {
    fn url(&self) -> String {
        self.host.url(self.port)
    }

    /// True when both mean the same node.
    fn is(&self, other: &Self) -> bool {
        self.port == other.port && self.host.is(&other.host)
    }

    fn discovered(&self) -> DiscoveredNode {
        DiscoveredNode {
            name: self.url(),
            url: self.url(),
            zone: None,
            serving: true,
            terminating: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(peers: &str) -> Vec<PeerAddress> {
        let peers = peers.split(',').map(str::parse);
        peers.collect::<Result<_, _>>().unwrap()
    }

    fn member(
        peers: &str,
        host: &str,
        port: u16,
    ) -> Result<(Contact, Vec<DiscoveredNode>), PeersError> {
        fixed(&list(peers), &Host::parse(host).unwrap(), port, false)
    }

    fn sidecar(
        peers: &str,
        host: &str,
        port: u16,
    ) -> Result<(Contact, Vec<DiscoveredNode>), PeersError> {
        fixed(&list(peers), &Host::parse(host).unwrap(), port, true)
    }

    fn names(found: &[DiscoveredNode]) -> Vec<&str> {
        found.iter().map(|found| found.name.as_str()).collect()
    }

    #[test]
    fn a_node_finds_itself_by_host_and_port() {
        let peers = "http://localhost:8080,http://localhost:8081,http://localhost:8082";
        let (me, found) = member(peers, "localhost", 8081).unwrap();
        assert_eq!(me.name, "http://localhost:8081");
        assert_eq!(me.url, me.name);
        assert_eq!(names(&found).join(","), peers);
        assert!(
            found
                .iter()
                .all(|found| found.serving && !found.terminating)
        );
    }

    #[test]
    fn localhost_has_three_spellings_and_the_name_is_the_lists() {
        for (peers, host) in [
            ("http://127.0.0.1:1", "localhost"),
            ("http://[::1]:1", "127.0.0.1"),
            ("http://localhost:1", "::1"),
            ("http://LOCALHOST:1/", "127.0.0.1"),
        ] {
            let (me, _) = member(peers, host, 1).unwrap();
            assert_eq!(me.name, peers.to_ascii_lowercase().trim_end_matches('/'));
        }
    }

    #[test]
    fn every_spelling_of_a_peer_gives_it_one_name() {
        for spelling in [
            "cache-0:80",
            "HTTP://cache-0:80",
            "http://Cache-0:80/",
            "cache-0",
        ] {
            let (me, _) = member(spelling, "cache-0", 80).unwrap();
            assert_eq!(me.name, "http://cache-0:80", "{spelling}");
        }
        for spelling in [
            "[FD00:0::1]:80",
            "fd00::1",
            "http://[fd00::1]",
            "http://[fd00::1]:80",
        ] {
            let (me, _) = member(spelling, "fd00::1", 80).unwrap();
            assert_eq!(me.name, "http://[fd00::1]:80", "{spelling}");
        }
    }

    #[test]
    fn no_list_is_a_ring_of_one() {
        let (me, found) = fixed(&[], &Host::localhost(), 8080, false).unwrap();
        assert_eq!(me.name, "http://localhost:8080");
        assert_eq!(names(&found), [me.name.as_str()]);
        let (me, _) = fixed(&[], &Host::parse("::1").unwrap(), 8080, false).unwrap();
        assert_eq!(me.url, "http://[::1]:8080");
    }

    #[test]
    fn a_list_without_this_node_is_refused_and_shown() {
        let error = member("http://a:8080,http://b:8080", "localhost", 8080).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--peers must include this node, http://localhost:8080; got http://a:8080,http://b:8080. Add it, or say with --host and --port which one it is"
        );
        // The right host at another port is another node.
        assert!(member("http://a:8080", "a", 8081).is_err());
    }

    #[test]
    fn a_sidecar_is_not_in_the_list() {
        let peers = "http://a:8080,http://localhost:8080";
        let (me, found) = sidecar(peers, "localhost", 8090).unwrap();
        assert_eq!(me.name, "sidecar@localhost:8090");
        assert_eq!(me.url, "http://localhost:8090");
        assert_eq!(names(&found).join(","), peers);
        let error = sidecar(peers, "localhost", 8080).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--peers must not include a sidecar; got http://localhost:8080, which is this one. Take it out, or give the sidecar another --port"
        );
        assert!(sidecar("a:1,http://A:1/", "localhost", 1).is_err());
    }

    #[test]
    fn a_node_named_twice_is_refused() {
        for peers in ["a:1,http://A:1/", "localhost:1,127.0.0.1:1"] {
            let error = member(peers, "a", 1).unwrap_err();
            assert!(matches!(error, PeersError::Twice { .. }), "{peers}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for peer in [
            "",
            "http://",
            "https://a:1",
            "a:0",
            "a:70000",
            "a:x",
            "a/b",
            "http://a:1/b",
            "u@a:1",
            "[::1",
            "a b:1",
            "a:1?x",
            "[nonsense]:1",
            "fd00::1::2",
        ] {
            let refused = peer.parse::<PeerAddress>();
            assert!(matches!(refused, Err(PeersError::Entry { .. })), "{peer}");
        }
    }
}
