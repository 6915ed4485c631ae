//! The source of CopyObject and UploadPartCopy: parsed once from its header, and written again from what was parsed.

use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::address::{QUERY, decode};
use crate::web::failure::Failure;

pub(super) const COPY_SOURCE: &str = "x-amz-copy-source";

const PATH: &AsciiSet = &QUERY.remove(b'/');

/// An object, or a version of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CopySource {
    pub(super) bucket: String,
    pub(super) key: String,
    version: Option<String>,
}

impl CopySource {
    /// The source that the headers name, if they name one.
    pub(super) fn parse(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let said = headers.get(COPY_SOURCE);
        said.map(Self::read).transpose()
    }

    fn read(said: &HeaderValue) -> Result<Self, Failure> {
        let unfit = || {
            Failure::bad(
                "InvalidArgument",
                format_args!(
                    "{COPY_SOURCE} must be BUCKET/KEY or BUCKET/KEY?versionId=ID, encoded as in a URL; got {said:?}"
                ),
            )
        };
        let text = std::str::from_utf8(said.as_bytes()).map_err(|_| unfit())?;
        let (path, version) = match text.split_once('?') {
            None => (text, None),
            Some((path, query)) => {
                let id = query.strip_prefix("versionId=");
                let id = id.filter(|id| !id.is_empty() && !id.contains(['&', ';', '=', '?']));
                (path, Some(decode(id.ok_or_else(unfit)?)?))
            }
        };
        // Both forms are in use: everything is encoded, including the slash between bucket and key, or everything but
        // the slashes.
        let path = decode(path)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path.split_once('/').ok_or_else(unfit)?;
        if bucket.is_empty() || key.is_empty() {
            return Err(unfit());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version,
        })
    }

    /// The header for S3.
    pub(super) fn header(&self) -> HeaderValue {
        let mut text = utf8_percent_encode(&self.bucket, PATH).to_string();
        text.push('/');
        text.extend(utf8_percent_encode(&self.key, PATH));
        if let Some(version) = &self.version {
            text.push_str("?versionId=");
            text.extend(utf8_percent_encode(version, QUERY));
        }
        HeaderValue::try_from(text).expect("what is encoded is ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_sent_as_it_was_read() {
        for (said, bucket, key, sent) in [
            ("b/k", "b", "k", "b/k"),
            ("/b/k", "b", "k", "b/k"),
            ("b%2Fa%2Fk", "b", "a/k", "b/a/k"),
            ("b//k", "b", "/k", "b//k"),
            ("b/a+b%20c%2Bd", "b", "a+b c+d", "b/a%2Bb%20c%2Bd"),
            ("b/%C3%BC%3F", "b", "ü?", "b/%C3%BC%3F"),
            ("b/ü", "b", "ü", "b/%C3%BC"),
            ("b/a%zz", "b", "a%zz", "b/a%25zz"),
            ("b/k?versionId=a%2Fb", "b", "k", "b/k?versionId=a%2Fb"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                COPY_SOURCE,
                HeaderValue::from_bytes(said.as_bytes()).unwrap(),
            );
            let source = CopySource::parse(&headers).unwrap().unwrap();
            assert_eq!(
                (source.bucket.as_str(), source.key.as_str()),
                (bucket, key),
                "{said}"
            );
            assert_eq!(source.header(), sent, "{said}");
        }
        assert_eq!(CopySource::parse(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_source_that_names_more_than_one_object_is_refused() {
        for said in [
            "",
            "b",
            "b/",
            "/b",
            "//b/k",
            "b/k?",
            "b/k?versionId=",
            "b/k?x=1",
            "b/k?versionId=1&versionId=2",
            "b/k?versionId=1?versionId=2",
            "b/k?versionId=1&x=2",
            "b/%FF",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COPY_SOURCE, said.parse().unwrap());
            assert!(CopySource::parse(&headers).is_err(), "{said}");
        }
    }
}
