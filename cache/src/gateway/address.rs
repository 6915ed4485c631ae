//! What a request names: bucket and key, in the path or with the bucket in the host, and the query's parameters. Keys are
//! decoded once and kept exact.

use http::{HeaderMap, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;

use crate::api::error::Failure;

/// What belongs to a signature in the query, and to nothing else.
const SIGNATURE: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
    // The older kind's.
    "AWSAccessKeyId",
    "Signature",
    "Expires",
    // The operation's name, which SDKs add for logs.
    "x-id",
];

/// The bucket and the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) bucket: Option<String>,
    pub(super) key: Option<String>,
}

impl Address {
    /// What `uri` names, said to `host`; under one of the `domains` the host's first part is the bucket.
    pub(super) fn of(uri: &Uri, host: Option<&str>, domains: &[String]) -> Result<Self, Failure> {
        let path = uri.path().strip_prefix('/').unwrap_or(uri.path());
        let (bucket, key) = if let Some(bucket) = host.and_then(|host| bucket_of(host, domains)) {
            (bucket.to_owned(), path)
        } else {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (decoded(bucket)?, key)
        };
        Ok(Self {
            key: Some(decoded(key)?).filter(|key| !key.is_empty() && !bucket.is_empty()),
            bucket: Some(bucket).filter(|bucket| !bucket.is_empty()),
        })
    }

    /// The host that a request was said to.
    pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
        let said = headers.get(header::HOST);
        said.and_then(|host| host.to_str().ok())
            .or_else(|| uri.host())
    }
}

/// The bucket in a host name, if it is one below a domain.
fn bucket_of<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let bare = |host: &'a str| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = bare(host);
    domains.iter().find_map(|domain| {
        let split = name.len().checked_sub(domain.len())?;
        let (bucket, end) = name.split_at_checked(split)?;
        let bucket = bucket.strip_suffix('.')?;
        (end.eq_ignore_ascii_case(domain) && !bucket.is_empty()).then_some(bucket)
    })
}

pub(super) fn decoded(text: &str) -> Result<String, Failure> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        Failure::new(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "the key is not UTF-8, and keys of S3 are",
        )
    })?;
    Ok(decoded.into_owned())
}

/// The parameters of a query, without what belongs to its signature.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// As they came.
    raw: String,
    pairs: Vec<(String, String)>,
}

impl Parameters {
    pub(super) fn of(query: &str) -> Self {
        Self::read(query, |name| {
            !SIGNATURE.iter().any(|it| it.eq_ignore_ascii_case(name))
        })
    }

    /// With those of the signature.
    pub(super) fn all_of(query: &str) -> Self {
        Self::read(query, |_| true)
    }

    fn read(query: &str, counts: impl Fn(&str) -> bool) -> Self {
        let mut own = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decoded = |text: &str| {
                let blanks = text.replace('+', " ");
                percent_decode_str(&blanks).decode_utf8_lossy().into_owned()
            };
            let name = decoded(name);
            if !counts(&name) {
                continue;
            }
            if !own.raw.is_empty() {
                own.raw.push('&');
            }
            own.raw.push_str(part);
            own.pairs.push((name, decoded(value)));
        }
        own
    }

    /// As they came, for sending on.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        pairs
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uri: &str, host: Option<&str>) -> (Option<String>, Option<String>) {
        let domains = ["s3.lan".to_owned()];
        let address = Address::of(&uri.parse().unwrap(), host, &domains).unwrap();
        (address.bucket, address.key)
    }

    #[test]
    fn a_bucket_stands_in_the_path_or_in_the_host() {
        let some = |bucket: &str, key: &str| (Some(bucket.to_owned()), Some(key.to_owned()));
        assert_eq!(named("/b/k", Some("127.0.0.1:9000")), some("b", "k"));
        assert_eq!(named("/k", Some("b.s3.lan:9000")), some("b", "k"));
        assert_eq!(named("/k/l", Some("b.c.S3.lan")), some("b.c", "k/l"));
        assert_eq!(named("/b/k", Some("s3.lan")), some("b", "k"));
        assert_eq!(named("/b/k", Some("bs3.lan")), some("b", "k"));
        assert_eq!(named("/", Some("b.s3.lan")), (Some("b".into()), None));
        assert_eq!(named("/b/", None), (Some("b".into()), None));
        assert_eq!(named("/", None), (None, None));
    }

    #[test]
    fn keys_are_exact() {
        for (path, key) in [
            ("/b//a//b", "/a//b"),
            ("/b/a%2Fb", "a/b"),
            ("/b/a%252Fb", "a%2Fb"),
            ("/b/a+b%20c", "a+b c"),
            ("/b/%C3%BC/", "ü/"),
            ("/b/../x", "../x"),
        ] {
            assert_eq!(named(path, None).1.as_deref(), Some(key), "{path}");
        }
        let bad = Address::of(&"/b/%FF".parse().unwrap(), None, &[]);
        assert_eq!(bad.unwrap_err().code(), "InvalidURI");
    }

    #[test]
    fn a_signature_is_not_sent_on() {
        let query =
            "X-Amz-Algorithm=A&versionId=3&X-Amz-Signature=0&acl&prefix=a%20b+c&x-id=GetObject";
        let parameters = Parameters::of(query);
        assert_eq!(parameters.raw(), "versionId=3&acl&prefix=a%20b+c");
        assert_eq!(parameters.get("prefix"), Some("a b c"));
        assert!(parameters.has("acl") && !parameters.has("X-Amz-Signature"));
    }
}
