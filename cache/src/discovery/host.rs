//! A host as flags give it, in one spelling: a name or an IP address. Pure.

use std::fmt;
use std::net::IpAddr;

/// In lower case, without brackets, an IPv6 address in its short form: every node gives a peer the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// This machine, as its own processes reach it.
    pub fn localhost() -> Self {
        Self("localhost".to_owned())
    }

    /// A name or an address, an IPv6 address with or without its brackets. `None` for anything else, a port included.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
            return Some(Self(address.to_string()));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        (!text.is_empty() && text.chars().all(is_name)).then(|| Self(text.to_ascii_lowercase()))
    }

    /// True when both are the same machine, as far as their spelling tells.
    pub fn is(&self, other: &Self) -> bool {
        self == other || (self.is_loopback() && other.is_loopback())
    }

    fn is_loopback(&self) -> bool {
        let address = self.0.parse::<IpAddr>();
        self.0 == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// `http://HOST:PORT`, with brackets around an IPv6 address.
    pub fn url(&self, port: u16) -> String {
        let host = &self.0;
        if host.contains(':') {
            format!("http://[{host}]:{port}")
        } else {
            format!("http://{host}:{port}")
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self(address.to_string())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (text, host) in [
            ("Cache-0", "cache-0"),
            ("FD00:0::1", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
            ("10.0.0.7", "10.0.0.7"),
            ("a_b.c", "a_b.c"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), host);
        }
        for text in ["", "a:80", "http://a", "a b", "[a]", "[::1", "a/b", "u@a"] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }

    #[test]
    fn all_spellings_of_this_machine_are_one_host() {
        let host = |text| Host::parse(text).unwrap();
        assert!(host("LOCALHOST").is(&host("127.0.0.1")) && host("[::1]").is(&Host::localhost()));
        assert!(!host("10.0.0.7").is(&host("10.0.0.8")) && !host("a").is(&Host::localhost()));
    }
}
