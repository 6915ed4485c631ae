//! `Host`, which RFC 9112 §3.2 requires in every request of HTTP/1.1: exactly one, with the characters of a host. Given
//! two, two servers in a row might pick different ones and answer for different buckets.

use http::{HeaderMap, Version, header};
use httparse::Header;

/// True when the head of a request has the `Host` that its version of HTTP demands.
pub(super) fn is_acceptable(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => is_host(host.as_bytes()),
        (Some(_), Some(_)) => false,
    }
}

/// The same for a head of HTTP/1.1 that the HTTP library has not seen.
pub(super) fn is_one(headers: &[Header<'_>]) -> bool {
    let mut hosts = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("host"));
    hosts.next().is_some_and(|host| is_host(host.value)) && hosts.next().is_none()
}

/// The characters of RFC 3986's `host [ ":" port ]`. It may be empty: then the target's own authority counts.
fn is_host(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_host_of_a_hosts_letters() {
        let accepted = |version: Version, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            is_acceptable(version, &headers)
        };
        for host in ["h", "b.s3.lan:9000", "[::1]:80", "10.0.0.1", ""] {
            assert!(accepted(Version::HTTP_11, &[host]), "{host:?}");
        }
        for host in ["a b", "a/b", "a@b", "a\tb", "a#b"] {
            assert!(!accepted(Version::HTTP_11, &[host]), "{host:?}");
        }
        assert!(!accepted(Version::HTTP_11, &[]));
        assert!(!accepted(Version::HTTP_11, &["h", "h"]));
        assert!(accepted(Version::HTTP_10, &[]));
        assert!(!accepted(Version::HTTP_10, &["h", "g"]));
    }
}
