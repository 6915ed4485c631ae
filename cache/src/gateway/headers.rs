//! Which of a request's headers go to S3: those that S3 knows.
//!
//! What is sent on is signed. Headers that proxies, meshes and browsers add stay here: a load balancer before S3 that
//! changes them would break the signature.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::web::failure::Failure;

/// The prefix of S3's own headers.
const OF_S3: &str = "x-amz-";

/// Standard headers that S3 stores, or answers by.
const STANDARD: [HeaderName; 18] = [
    header::ACCESS_CONTROL_REQUEST_HEADERS,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    HeaderName::from_static("content-md5"),
    // Not forwarded as it is: it makes S3 check the head before it gets the body.
    header::EXPECT,
    header::EXPIRES,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::ORIGIN,
    header::RANGE,
];

/// Headers of S3 that belong to the client's signature and encoding, its SDK, or a network before Falcon.
const OF_THE_CLIENT: &[&str] = &[
    "x-amz-cf-id",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-security-token",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// Other vendors' prefixes for conditions, copies and rights. Such headers are refused and not dropped: a write without
/// its condition would be another write.
const OF_OTHERS: &[&str] = &[
    "x-cos-", "x-goog-", "x-minio-", "x-obs-", "x-oss-", "x-rgw-",
];

/// The headers of a request that are sent to S3.
pub(super) fn forwarded(headers: &HeaderMap) -> Result<HeaderMap, Failure> {
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        if OF_OTHERS
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
        {
            return Err(Failure::bad(
                "InvalidRequest",
                format_args!(
                    "the header {name} must be an x-amz- header: those of other vendors are not sent to S3"
                ),
            ));
        }
        let of_s3 = name.as_str().starts_with(OF_S3);
        // A server that reads underscores as dashes must not find a header that was not checked here.
        if name.as_str().contains('_') && !name.as_str().starts_with("x-amz-meta-") {
            continue;
        }
        if !(of_s3 || STANDARD.contains(name)) || OF_THE_CLIENT.contains(&name.as_str()) {
            continue;
        }
        if of_s3 && std::str::from_utf8(value.as_bytes()).is_err() {
            return Err(Failure::bad(
                "InvalidArgument",
                format_args!(
                    "the value of {name} must be UTF-8: S3 wants it signed, and other bytes can't be signed"
                ),
            ));
        }
        if name == header::CONTENT_ENCODING
            && let Some(own) = without_chunks(value)
        {
            if !own.is_empty() {
                sent.append(name, own);
            }
            continue;
        }
        sent.append(name, value.clone());
    }
    Ok(sent)
}

/// The object's own encodings, if the streaming one is among them.
fn without_chunks(value: &HeaderValue) -> Option<HeaderValue> {
    let is_chunks = |it: &str| it.eq_ignore_ascii_case("aws-chunked");
    let named = || value.to_str().unwrap_or_default().split(',').map(str::trim);
    if !named().any(is_chunks) {
        return None;
    }
    let own: Vec<&str> = named().filter(|it| !is_chunks(it)).collect();
    HeaderValue::try_from(own.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(given: &[(&str, &[u8])]) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        forwarded(&headers)
    }

    #[test]
    fn what_belongs_to_the_connection_or_the_signature_stays_here() {
        let sent = sent(&[
            ("authorization", b"AWS4"),
            ("host", b"falcon"),
            ("content-encoding", b"aws-chunked, gzip"),
            ("x-amz-meta-a", b"1"),
            ("content_type", b"a/b"),
            ("x-amz-copy_source", b"a/b"),
            ("if-none-match", b"*"),
            ("x-amz-content-sha256", b"UNSIGNED-PAYLOAD"),
        ]);
        let sent = sent.unwrap();
        assert_eq!(sent.len(), 3);
        assert_eq!(sent["content-encoding"], "gzip");
        assert_eq!(sent["x-amz-meta-a"], "1");
        assert_eq!(sent["if-none-match"], "*");
    }

    #[test]
    fn what_networks_and_browsers_add_stays_here() {
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "forwarded",
            "via",
            "traceparent",
            "tracestate",
            "b3",
            "x-b3-traceid",
            "x-request-id",
            "x-real-ip",
            "x-amzn-trace-id",
            "x-amz-cf-id",
            "cookie",
            "referer",
            "accept-language",
            "x-something-new",
        ] {
            assert_eq!(sent(&[(name, b"1")]).unwrap().len(), 0, "{name}");
        }
    }

    #[test]
    fn a_condition_in_another_vendors_words_is_refused_and_not_lost() {
        for name in [
            "x-oss-forbid-overwrite",
            "x-goog-if-generation-match",
            "x-minio-source-etag",
        ] {
            let refused = sent(&[(name, b"1")]).unwrap_err();
            assert_eq!(refused.code(), "InvalidRequest", "{name}");
        }
    }

    #[test]
    fn values_are_bytes_where_they_need_no_signature() {
        let latin = b"attachment; filename=\"r\xe9sum\xe9.txt\"";
        let sent_on = sent(&[("content-disposition", latin)]).unwrap();
        assert_eq!(sent_on["content-disposition"].as_bytes(), latin);
        let refused = sent(&[("x-amz-meta-name", b"r\xe9sum\xe9")]).unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), refused.code()),
            (400, "InvalidArgument")
        );
        let utf8 = sent(&[("x-amz-meta-name", "résumé".as_bytes())]).unwrap();
        assert_eq!(utf8.len(), 1);
    }
}
