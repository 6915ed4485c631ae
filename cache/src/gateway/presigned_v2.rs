//! What is accepted of signature version 2: presigned URLs that read an object, which boto3 and others still create by
//! default. The verifier accepts more: headers without a date or a body, URLs that are good for decades, parameters
//! that the signature does not cover. All of that is refused here first.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method, StatusCode, header};

use super::address::Parameters;
use crate::web::failure::Failure;

/// As long as for a URL of version 4.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// The signature's own parameters.
const SIGNATURE: [&str; 3] = ["AWSAccessKeyId", "Expires", "Signature"];

/// The parameters that a read of an object may have besides: the signature covers each.
const COVERED: [&str; 8] = [
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "versionId",
];

/// Refuses requests with a signature of version 2, except URLs that read an object and are good for a week at most.
pub(super) fn check(
    method: &Method,
    parameters: &Parameters,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<(), Failure> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    if shown.any(|value| value.as_bytes().starts_with(b"AWS ")) {
        return Err(unsupported());
    }
    if !SIGNATURE.iter().any(|name| parameters.has(name)) {
        return Ok(());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(unsupported());
    }
    for (name, _) in parameters.pairs() {
        let known = SIGNATURE.iter().chain(&COVERED).any(|it| *it == name);
        if !known {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                format_args!(
                    "a signature of version 2 does not cover the parameter {name:?} of this request: sign with AWS4-HMAC-SHA256"
                ),
            ));
        }
    }
    let expires = parameters.get("Expires").and_then(|it| it.parse().ok());
    let latest = now + LONGEST;
    if expires.is_none_or(|seconds| UNIX_EPOCH + Duration::from_secs(seconds) > latest) {
        return Err(Failure::bad(
            "AuthorizationQueryParametersError",
            "Expires must be a time in seconds since 1970, at most a week (604800 seconds) from now",
        ));
    }
    Ok(())
}

/// In S3's words.
fn unsupported() -> Failure {
    Failure::bad(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(method: &Method, query: &str, authorization: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let parameters = Parameters::all_of(query).unwrap();
        let checked = check(method, &parameters, &headers, now);
        checked.err().map(|failure| failure.code().to_owned())
    }

    #[test]
    fn version_2_signs_only_urls_that_read_and_expire_within_a_week() {
        let url = |rest: &str| format!("AWSAccessKeyId=a&Signature=s%3D&Expires=1604800{rest}");
        assert_eq!(code(&Method::GET, &url(""), None), None);
        let response = "&versionId=3&response-content-type=text/plain";
        assert_eq!(code(&Method::HEAD, &url(response), None), None);
        let denied = Some("AccessDenied".to_owned());
        for rest in ["&acl", "&tagging", "&x-id=GetObject"] {
            assert_eq!(code(&Method::GET, &url(rest), None), denied, "{rest}");
        }
        let invalid = Some("InvalidRequest".to_owned());
        assert_eq!(code(&Method::PUT, &url(""), None), invalid);
        assert_eq!(code(&Method::GET, "", Some("AWS a:s=")), invalid);
        let ever = "AWSAccessKeyId=a&Signature=s&Expires=1604801";
        let late = Some("AuthorizationQueryParametersError".to_owned());
        assert_eq!(code(&Method::GET, ever, None), late);
        assert_eq!(
            code(&Method::GET, "AWSAccessKeyId=a&Signature=s", None),
            late
        );
    }

    #[test]
    fn signatures_of_version_4_and_no_signature_are_not_its_business() {
        let shown = Some("AWS4-HMAC-SHA256 Credential=a");
        assert_eq!(code(&Method::PUT, "acl", shown), None);
        assert_eq!(
            code(&Method::GET, "X-Amz-Signature=0&X-Amz-Expires=9", None),
            None
        );
    }
}
