//! What a request names: bucket and key, in the path or with the bucket in the host, and the query's parameters. Keys
//! are decoded once and kept exact.

use std::collections::BTreeSet;

use http::{HeaderMap, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::web::failure::Failure;

/// All but what RFC 3986 leaves unreserved.
pub(super) const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Parameters that belong to a signature, and don't change the request.
const SIGNATURE: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
    // Of signature version 2.
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
    /// The address that `uri` names at `host`; below one of the `domains`, the host's first part is the bucket.
    pub(super) fn parse(
        uri: &Uri,
        host: Option<&str>,
        domains: &[String],
    ) -> Result<Self, Failure> {
        let path = uri.path().strip_prefix('/').unwrap_or(uri.path());
        let (bucket, key) = if let Some(bucket) = host.and_then(|host| bucket_of(host, domains)) {
            (bucket.to_owned(), path)
        } else {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (decode(bucket)?, key)
        };
        // Only a bare slash is the service: `//` names a bucket without a name.
        if bucket.is_empty() && !path.is_empty() {
            return Err(Failure::bad(
                "InvalidBucketName",
                "the path must be /BUCKET/KEY; got an empty bucket name. Does the endpoint end with a slash?",
            ));
        }
        Ok(Self {
            key: Some(decode(key)?).filter(|key| !key.is_empty()),
            bucket: Some(bucket).filter(|bucket| !bucket.is_empty()),
        })
    }

    /// The host that a request was sent to.
    pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
        let said = headers.get(header::HOST);
        said.and_then(|host| host.to_str().ok())
            .or_else(|| uri.host())
    }
}

/// The bucket in a host name, if it is below one of the domains.
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

pub(super) fn decode(text: &str) -> Result<String, Failure> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        Failure::new(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "the bucket and the key must be UTF-8",
        )
    })?;
    Ok(decoded.into_owned())
}

/// The parameters of a query, each of them once, without those of its signature.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Names, and values if there is a `=`.
    pairs: Vec<(String, Option<String>)>,
}

impl Parameters {
    pub(super) fn parse(query: &str) -> Result<Self, Failure> {
        Self::read(query, |name| {
            !SIGNATURE.iter().any(|it| it.eq_ignore_ascii_case(name))
        })
    }

    /// Including those of the signature.
    pub(super) fn all_of(query: &str) -> Result<Self, Failure> {
        Self::read(query, |_| true)
    }

    fn read(query: &str, counts: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let (mut own, mut seen) = (Self::default(), BTreeSet::new());
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            };
            let name = parameter(name)?;
            if !seen.insert(name.clone()) {
                return Err(Failure::bad(
                    "InvalidArgument",
                    format_args!("the parameter {name:?} must be given once; got it twice"),
                ));
            }
            own.pairs.push((name, value.map(parameter).transpose()?));
        }
        own.pairs.retain(|(name, _)| counts(name));
        Ok(own)
    }

    /// The query for S3: the parsed parameters, encoded in one form.
    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in &self.pairs {
            if !query.is_empty() {
                query.push('&');
            }
            query.extend(utf8_percent_encode(name, QUERY));
            if let Some(value) = value {
                query.push('=');
                query.extend(utf8_percent_encode(value, QUERY));
            }
        }
        query
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Names and values; a parameter without a value has an empty one.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.pairs.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs();
        pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
    }
}

fn parameter(text: &str) -> Result<String, Failure> {
    let blanks = text.replace('+', " ");
    let decoded = percent_decode_str(&blanks).decode_utf8().map_err(|_| {
        Failure::bad(
            "InvalidURI",
            format_args!("the query must be UTF-8; got {text:?}"),
        )
    })?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uri: &str, host: Option<&str>) -> (Option<String>, Option<String>) {
        let domains = ["s3.lan".to_owned()];
        let address = Address::parse(&uri.parse().unwrap(), host, &domains).unwrap();
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
        let bad = Address::parse(&"/b/%FF".parse().unwrap(), None, &[]);
        assert_eq!(bad.unwrap_err().code(), "InvalidURI");
    }

    #[test]
    fn a_signature_is_not_sent_on() {
        let query =
            "X-Amz-Algorithm=A&versionId=3&X-Amz-Signature=0&acl&prefix=a%20b+c&x-id=GetObject";
        let parameters = Parameters::parse(query).unwrap();
        assert_eq!(parameters.query(), "versionId=3&acl&prefix=a%20b%20c");
        assert_eq!(parameters.get("prefix"), Some("a b c"));
        assert!(parameters.has("acl") && !parameters.has("X-Amz-Signature"));
    }

    #[test]
    fn a_query_is_sent_on_as_it_was_read() {
        for (query, sent) in [
            ("", ""),
            ("&&acl", "acl"),
            ("acl=", "acl="),
            ("prefix=a/b;c", "prefix=a%2Fb%3Bc"),
            ("%70refix=%zz", "prefix=%25zz"),
            ("prefix=a=b", "prefix=a%3Db"),
            ("prefix=%C3%BC-._~", "prefix=%C3%BC-._~"),
        ] {
            let sent_on = Parameters::parse(query).unwrap().query();
            assert_eq!(sent_on, sent, "{query}");
            let again = Parameters::parse(&sent_on).unwrap();
            assert_eq!(again, Parameters::parse(query).unwrap(), "{query}");
        }
        for (query, code) in [
            ("prefix=a&prefix=b", "InvalidArgument"),
            ("prefix=a&%70refix=b", "InvalidArgument"),
            ("acl&acl", "InvalidArgument"),
            ("X-Amz-Signature=1&X-Amz-Signature=2", "InvalidArgument"),
            ("prefix=%FF", "InvalidURI"),
        ] {
            assert_eq!(
                Parameters::parse(query).unwrap_err().code(),
                code,
                "{query}"
            );
        }
    }

    #[test]
    fn only_a_bare_slash_is_the_service() {
        for path in ["//", "//b", "//b/k", "///"] {
            let named = Address::parse(&path.parse().unwrap(), None, &[]);
            assert_eq!(named.unwrap_err().code(), "InvalidBucketName", "{path}");
        }
    }
}
