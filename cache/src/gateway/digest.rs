//! The digests that a client sends with a body: verified here, and computed again when another body is sent on.

use aws_smithy_types::base64;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};

use crate::web::failure::Failure;

const CONTENT_MD5: &str = "content-md5";
const ALGORITHM: &str = "x-amz-sdk-checksum-algorithm";
const FAMILY: &str = "x-amz-checksum-";

/// A digest header.
type Digest = fn(&[u8]) -> Vec<u8>;

static DIGESTS: [(&str, Digest); 6] = [
    (CONTENT_MD5, digest_of::<Md5>),
    ("x-amz-checksum-crc32", digest_of::<Crc32>),
    ("x-amz-checksum-crc32c", digest_of::<Crc32c>),
    ("x-amz-checksum-crc64nvme", digest_of::<Crc64Nvme>),
    ("x-amz-checksum-sha1", digest_of::<Sha1>),
    ("x-amz-checksum-sha256", digest_of::<Sha256>),
];

fn digest_of<C: Checksum>(bytes: &[u8]) -> Vec<u8> {
    C::checksum(bytes).as_ref().to_vec()
}

/// Refuses a body that does not have the digests in its headers.
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
    for (name, digest) in &DIGESTS {
        for said in headers.get_all(*name) {
            let said = said
                .to_str()
                .ok()
                .and_then(|text| base64::decode(text).ok());
            let own = digest(body);
            let Some(said) = said.filter(|said| said.len() == own.len()) else {
                return Err(Failure::bad(
                    "InvalidDigest",
                    format_args!("{name} must be the digest of the body in base64"),
                ));
            };
            if said != own {
                return Err(Failure::bad(
                    "BadDigest",
                    format_args!(
                        "{name} must be the digest of the body, which is {}",
                        base64::encode(&own)
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Computes the headers' digests again, for `body`. If there are none that are known here, adds an MD5: S3 accepts no
/// list without a digest.
pub(super) fn renew(headers: &mut HeaderMap, body: &[u8]) {
    let said = |name: &str| headers.contains_key(name);
    let mut renewed: Vec<_> = DIGESTS.iter().filter(|(name, _)| said(name)).collect();
    let is_digest = |name: &&HeaderName| name.as_str().starts_with(FAMILY) || *name == CONTENT_MD5;
    let old: Vec<HeaderName> = headers.keys().filter(is_digest).cloned().collect();
    for name in old {
        headers.remove(name);
    }
    if renewed.iter().all(|(name, _)| *name == CONTENT_MD5) {
        headers.remove(ALGORITHM);
    }
    if renewed.is_empty() {
        renewed.push(&DIGESTS[0]);
    }
    for (name, digest) in renewed {
        let value = HeaderValue::try_from(base64::encode(digest(body)));
        let value = value.expect("base64 can stand in a header");
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let given = given.iter().copied();
        given
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn a_body_that_is_not_what_its_digest_says_is_refused() {
        for (name, value, refusal) in [
            ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==", Ok(())),
            ("x-amz-checksum-crc32", "NhCmhg==", Ok(())),
            ("x-amz-checksum-crc32c", "mnG7TA==", Ok(())),
            (
                "x-amz-checksum-sha1",
                "qvTGHdzF6KLavt4PO0gs2a6pQ00=",
                Ok(()),
            ),
            ("content-md5", "XUFAKrxLKna5cZ2REBfFkQ==", Err("BadDigest")),
            ("content-md5", "hello", Err("InvalidDigest")),
            ("x-amz-checksum-crc32", "AAAA", Err("InvalidDigest")),
            ("x-amz-checksum-crc32", "AAAAAA==", Err("BadDigest")),
            ("x-amz-checksum-sha512", "not looked at", Ok(())),
        ] {
            let checked = check(&headers(&[(name, value)]), b"hello");
            let code = checked.map_err(|failure| failure.code().to_owned());
            assert_eq!(code, refusal.map_err(str::to_owned), "{name}: {value}");
        }
    }

    #[test]
    fn another_body_has_digests_of_its_own_of_the_kinds_that_were_sent() {
        let renewed = |given: &[(&'static str, &'static str)]| {
            let mut headers = headers(given);
            renew(&mut headers, b"hello");
            let mut names: Vec<String> = headers.keys().map(ToString::to_string).collect();
            names.sort();
            assert!(check(&headers, b"hello").is_ok());
            names
        };
        assert_eq!(renewed(&[]), ["content-md5"]);
        assert_eq!(renewed(&[("content-md5", "old")]), ["content-md5"]);
        assert_eq!(
            renewed(&[("x-amz-checksum-crc32", "old"), (ALGORITHM, "CRC32")]),
            ["x-amz-checksum-crc32", ALGORITHM]
        );
        assert_eq!(
            renewed(&[("x-amz-checksum-sha512", "old"), (ALGORITHM, "SHA512")]),
            ["content-md5"]
        );
    }
}
