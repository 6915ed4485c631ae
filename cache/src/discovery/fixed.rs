//! The static list, and which of it is this node. Pure.

use std::net::{IpAddr, Ipv6Addr};

use super::Error;
use crate::members::DiscoveredNode;
use crate::peer::Contact;

/// This node and all nodes of the list, itself included. A peer's name is its URL; one without a port has this node's.
///
/// An empty list is a ring of this node alone.
pub fn fixed(
    peers: &[String],
    host: &str,
    port: u16,
) -> Result<(Contact, Vec<DiscoveredNode>), Error> {
    let listed = listed(peers, port)?;
    let me = Peer {
        host: bare(host),
        port,
    };
    let listed = if listed.is_empty() {
        vec![me.clone()]
    } else {
        listed
    };
    let Some(mine) = listed.iter().find(|peer| peer.is(&me)) else {
        let peers: Vec<String> = listed.iter().map(Peer::url).collect();
        return Err(Error::NotListed {
            me: me.url(),
            peers: peers.join(","),
        });
    };
    let url = mine.url();
    let me = Contact {
        name: url.clone(),
        url,
    };
    Ok((me, found(&listed)))
}

/// A sidecar at this host and port, and all nodes of the list, of which it is none.
pub fn beside(
    peers: &[String],
    host: &str,
    port: u16,
) -> Result<(Contact, Vec<DiscoveredNode>), Error> {
    let listed = listed(peers, port)?;
    let me = Peer {
        host: bare(host),
        port,
    };
    if let Some(mine) = listed.iter().find(|peer| peer.is(&me)) {
        return Err(Error::Sidecar { me: mine.url() });
    }
    let me = Contact {
        name: format!("sidecar@{host}:{port}"),
        url: me.url(),
    };
    Ok((me, found(&listed)))
}

fn listed(peers: &[String], port: u16) -> Result<Vec<Peer>, Error> {
    let listed = peers
        .iter()
        .map(|peer| Peer::parse(peer, port))
        .collect::<Result<Vec<_>, _>>()?;
    for (at, second) in listed.iter().enumerate() {
        if let Some(first) = listed[..at].iter().find(|first| first.is(second)) {
            return Err(Error::Twice {
                first: first.url(),
                second: second.url(),
            });
        }
    }
    Ok(listed)
}

fn found(listed: &[Peer]) -> Vec<DiscoveredNode> {
    let found = listed.iter().map(|peer| DiscoveredNode {
        name: peer.url(),
        url: peer.url(),
        zone: None,
        serving: true,
        terminating: false,
    });
    found.collect()
}

/// `http://HOST:PORT`, with brackets where the host is an IPv6 address.
pub(super) fn url(host: &str, port: u16) -> String {
    let host = bare(host);
    Peer { host, port }.url()
}

#[derive(Debug, Clone)]
struct Peer {
    /// In lower case, without brackets.
    host: String,
    port: u16,
}

impl Peer {
    fn parse(typed: &str, default_port: u16) -> Result<Self, Error> {
        let wrong = |reason| Error::Peer {
            peer: typed.to_owned(),
            reason,
        };
        let place = match typed.split_once("://") {
            Some((scheme, place)) if scheme.eq_ignore_ascii_case("http") => place,
            Some(_) => return Err(wrong("must begin with http://: nodes speak plain HTTP")),
            None => typed,
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        // Three or more colons, no brackets: an IPv6 address alone.
        if place.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self {
                host: bare(place),
                port: default_port,
            });
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (place, None),
        };
        let port = match port {
            None => default_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| wrong("must end with a port from 1 to 65535"))?,
        };
        let name = |host: &str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
        if name(host) || (host.starts_with('[') && bare(host).parse::<Ipv6Addr>().is_ok()) {
            Ok(Self {
                host: bare(host),
                port,
            })
        } else {
            Err(wrong("must be http://HOST:PORT and nothing more"))
        }
    }

    fn url(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') {
            format!("http://[{host}]:{port}")
        } else {
            format!("http://{host}:{port}")
        }
    }

    /// True when both mean the same node.
    fn is(&self, other: &Self) -> bool {
        self.port == other.port
            && (self.host == other.host || (self.is_loopback() && other.is_loopback()))
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

/// Lower case, no brackets; IPv6 addresses in their one short form, so that every node gives a peer the same name.
fn bare(host: &str) -> String {
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.parse::<IpAddr>()
        .map_or_else(|_| host.to_ascii_lowercase(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(peers: &str) -> Vec<String> {
        peers.split(',').map(str::to_owned).collect()
    }

    fn names(found: &[DiscoveredNode]) -> Vec<&str> {
        found.iter().map(|found| found.name.as_str()).collect()
    }

    #[test]
    fn a_node_finds_itself_by_host_and_port() {
        let peers = list("http://localhost:8080,http://localhost:8081,http://localhost:8082");
        let (me, found) = fixed(&peers, "localhost", 8081).unwrap();
        assert_eq!((me.name.as_str(), &me.url), (peers[1].as_str(), &peers[1]));
        assert_eq!(names(&found), peers);
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
            let (me, _) = fixed(&list(peers), host, 1).unwrap();
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
            let (me, _) = fixed(&list(spelling), "cache-0", 80).unwrap();
            assert_eq!(me.name, "http://cache-0:80", "{spelling}");
        }
        for spelling in [
            "[FD00:0::1]:80",
            "fd00::1",
            "http://[fd00::1]",
            "http://[fd00::1]:80",
        ] {
            let (me, _) = fixed(&list(spelling), "fd00::1", 80).unwrap();
            assert_eq!(me.name, "http://[fd00::1]:80", "{spelling}");
        }
    }

    #[test]
    fn no_list_is_a_ring_of_one() {
        let (me, found) = fixed(&[], "localhost", 8080).unwrap();
        assert_eq!(me.name, "http://localhost:8080");
        assert_eq!(names(&found), [me.name.as_str()]);
        assert_eq!(fixed(&[], "::1", 8080).unwrap().0.url, "http://[::1]:8080");
    }

    #[test]
    fn a_list_without_this_node_is_refused_and_shown() {
        let error = fixed(&list("http://a:8080,http://b:8080"), "localhost", 8080).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this node is http://localhost:8080, which is not one of --peers http://a:8080,http://b:8080: add it, or say with --host and --port which one it is"
        );
        // The right host at another port is another node.
        assert!(fixed(&list("http://a:8080"), "a", 8081).is_err());
    }

    #[test]
    fn a_sidecar_is_none_of_the_list() {
        let peers = list("http://a:8080,http://localhost:8080");
        let (me, found) = beside(&peers, "localhost", 8090).unwrap();
        assert_eq!(me.name, "sidecar@localhost:8090");
        assert_eq!(me.url, "http://localhost:8090");
        assert_eq!(names(&found), peers);
        let error = beside(&peers, "localhost", 8080).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this node is http://localhost:8080, a sidecar and no node of the ring: take it out of --peers, or give it another --port"
        );
        assert!(beside(&list("a:1,http://A:1/"), "localhost", 1).is_err());
    }

    #[test]
    fn a_node_named_twice_is_refused() {
        for peers in ["a:1,http://A:1/", "localhost:1,127.0.0.1:1"] {
            let error = fixed(&list(peers), "a", 1).unwrap_err();
            assert!(matches!(error, Error::Twice { .. }), "{peers}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
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
            assert!(
                matches!(fixed(&list(peer), "a", 1), Err(Error::Peer { .. })),
                "{peer}"
            );
        }
    }
}
