//! The URL of an S3 service. Pure.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// `http://` or `https://`, a host, and a port where it is not the usual one. It holds no keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    tls: bool,
}

/// What is given is not the URL of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It has no scheme, or another one.
    #[error("must begin with http:// or https://; got {0:?}. Write http://{0} or https://{0}")]
    Scheme(String),
    /// Something stands beside host and port. It may be a secret, so it is not repeated.
    #[error(
        "must be http://HOST:PORT or https://HOST:PORT, without keys, query or blanks: keys go in --s3-credentials-dir"
    )]
    Form,
}

impl Endpoint {
    /// As given, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// True for `https://`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = text.trim_end_matches('/');
        if url.contains(|c: char| "@?# \\".contains(c) || c.is_control()) {
            return Err(InvalidEndpoint::Form);
        }
        let tls = match url.split_once("://") {
            Some(("https", _)) => true,
            Some(("http", _)) => false,
            Some(_) => return Err(InvalidEndpoint::Form),
            None => return Err(InvalidEndpoint::Scheme(text.to_owned())),
        };
        let has_host = |url: Uri| url.host().is_some_and(|host| !host.is_empty());
        if !url.parse().is_ok_and(has_host) {
            return Err(InvalidEndpoint::Form);
        }
        Ok(Self {
            url: url.to_owned(),
            tls,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_url_of_a_web_server() {
        let tls = |text: &str| text.parse().map(|url: Endpoint| url.is_tls());
        assert_eq!(tls("https://s3.example.com/"), Ok(true));
        assert_eq!(tls("http://127.0.0.1:9000"), Ok(false));
        for wrong in ["minio:9000", "s3.example.com", "http://", ""] {
            let scheme = InvalidEndpoint::Scheme(wrong.to_owned());
            assert_eq!(tls(wrong), Err(scheme));
        }
        for wrong in [
            "ftp://s3",
            "http://:80",
            "http://k:s@s3",
            "k:s@s3",
            "http://s3?x",
            "http://a b",
        ] {
            assert_eq!(tls(wrong), Err(InvalidEndpoint::Form), "{wrong}");
        }
    }
}
