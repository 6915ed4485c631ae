//! Requests that are refused because two servers in a row could read them differently, or because they make S3 do more
//! than the operation says.

use http::{HeaderMap, Method, StatusCode, header};

use super::address::Parameters;
use super::operation::Operation;
use crate::web::failure::Failure;

/// The prefix of S3's own headers.
const OWN: &str = "x-amz-";

/// The prefix of the client's metadata, which may have any name.
const METADATA: &str = "x-amz-meta-";

/// S3's headers that are lists.
const LISTS: &[&str] = &[
    "x-amz-object-attributes",
    "x-amz-optional-object-attributes",
    "x-amz-trailer",
];

/// Prefixes of headers that make some S3 do more than what is checked here: unpack the uploaded archive, delete all
/// keys with a prefix, take the bytes from elsewhere, or treat the request as another one.
const BEYOND: &[&str] = &[
    "seaweed-",
    "x-amz-meta-minio-snowball-",
    "x-amz-meta-snowball-",
    "x-amz-rename-source",
    "x-amz-snowball-",
    "x-bz-",
    "x-copy-from",
    "x-cos-",
    "x-emc-",
    "x-goog-",
    "x-http-method",
    "x-ibm-",
    "x-method-override",
    "x-minio-",
    "x-object-manifest",
    "x-obs-",
    "x-original-url",
    "x-oss-",
    "x-rewrite-url",
    "x-rgw-",
    "x-seaweedfs-",
    "x-static-large-object",
    "x-swift-",
];

/// Refuses a request by its method and headers alone, before anything else is looked at.
pub(super) fn request(method: &Method, headers: &HeaderMap) -> Result<(), Failure> {
    if *method == Method::POST && is_form(headers) {
        return Err(not_done(
            "a form with a policy is proof for an upload by form, which this gateway does not take: use PutObject",
        ));
    }
    for name in headers.keys() {
        let name = name.as_str();
        if beyond(name) {
            return Err(not_done(format_args!(
                "the header {name} asks for more than this gateway can judge: leave it out, or ask S3 itself"
            )));
        }
        if name.contains('_')
            && !name.starts_with(METADATA)
            && name.replace('_', "-").starts_with(OWN)
        {
            return Err(Failure::bad(
                "InvalidArgument",
                format_args!("the header {name} must be written with dashes"),
            ));
        }
        let single = name.starts_with(OWN) && !name.starts_with(METADATA) && !LISTS.contains(&name);
        if single && headers.get_all(name).iter().nth(1).is_some() {
            return Err(Failure::bad(
                "InvalidArgument",
                format_args!("the header {name} must be given once; got several"),
            ));
        }
    }
    Ok(())
}

/// True for headers that ask for more than what is checked here, and for parameters that stand for them.
fn beyond(name: &str) -> bool {
    BEYOND.iter().any(|start| name.starts_with(start))
}

/// True for a browser's form, whose signature is in its fields: the verifier would read it into memory before it knows
/// the caller. Some S3 look for the media type anywhere in the header.
fn is_form(headers: &HeaderMap) -> bool {
    let types = headers.get_all(header::CONTENT_TYPE);
    types.iter().any(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        value
            .windows(b"multipart/form-data".len())
            .any(|it| it == b"multipart/form-data")
    })
}

/// What the parameters in a request's query mean for its handling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit<'a> {
    /// All are known: the operation is handled as usual.
    Usual,
    /// One of S3's headers is in the query: S3 has to be asked.
    AskS3,
    /// This one is unknown, and may change what is asked for.
    Unknown(&'a str),
}

/// Checks the parameters of an operation.
pub(super) fn parameters<'a>(
    operation: &Operation,
    parameters: &'a Parameters,
) -> Result<Fit<'a>, Failure> {
    let mut fit = Fit::Usual;
    for (name, value) in parameters.pairs() {
        if name == operation.mark() {
            let (empty, valued) = (value.is_empty(), name == "uploadId");
            if empty == valued {
                let must = if valued {
                    "have a value"
                } else {
                    "have no value"
                };
                return Err(Failure::bad(
                    "InvalidArgument",
                    format_args!("the parameter {name} must {must}; got {value:?}"),
                ));
            }
        } else if let Some(header) = as_header(name) {
            if beyond(&header) || header.ends_with("-source") {
                return Err(not_done(format_args!(
                    "the parameter {name} asks for more than this gateway can judge: say it as a header"
                )));
            }
            if !operation.ignores(&header) && fit == Fit::Usual {
                fit = Fit::AskS3;
            }
        } else if !operation.takes(name) {
            fit = Fit::Unknown(name);
        }
    }
    // Without its number, some S3 take a part for the whole object.
    let number = parameters.get("partNumber").unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if operation.name == "UploadPart" && !is_number {
        return Err(Failure::bad(
            "InvalidArgument",
            format_args!("partNumber must be a number from 1 to 10000; got {number:?}"),
        ));
    }
    Ok(fit)
}

/// The header that a presigned URL has in its query.
fn as_header(name: &str) -> Option<String> {
    let start = name.get(..OWN.len())?;
    start
        .eq_ignore_ascii_case(OWN)
        .then(|| name.to_ascii_lowercase())
}

pub(super) fn not_done(why: impl std::fmt::Display) -> Failure {
    Failure::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", why)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::super::address::Address;
    use super::*;

    fn code(method: &Method, given: &[(&str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, HeaderValue::try_from(*value).unwrap());
        }
        let checked = request(method, &headers);
        checked.err().map(|failure| failure.code().to_owned())
    }

    #[test]
    fn a_header_that_is_said_twice_or_does_more_is_refused() {
        type Given<'a> = &'a [(&'a str, &'a str)];
        let (once, dashes, more) = (None, Some("InvalidArgument"), Some("NotImplemented"));
        let cases: [(Given<'_>, Option<&str>); 11] = [
            (&[("x-amz-copy-source", "b/k")], once),
            (
                &[("x-amz-copy-source", "b/k"), ("x-amz-copy-source", "b/l")],
                dashes,
            ),
            (
                &[("x-amz-acl", "private"), ("x-amz-acl", "private")],
                dashes,
            ),
            (&[("x_amz_copy_source", "b/k")], dashes),
            (&[("x-amz-copy_source", "b/k")], dashes),
            (
                &[
                    ("x-amz-meta-a_b", "1"),
                    ("x-amz-meta-a_b", "2"),
                    ("x_request_id", "1"),
                ],
                once,
            ),
            (
                &[
                    ("x-amz-object-attributes", "ETag"),
                    ("x-amz-object-attributes", "Checksum"),
                ],
                once,
            ),
            (&[("x-amz-meta-snowball-auto-extract", "true")], more),
            (&[("x-minio-force-delete", "true")], more),
            (&[("x-oss-copy-source", "/b/k")], more),
            (&[("x-http-method-override", "DELETE")], more),
        ];
        for (given, want) in cases {
            assert_eq!(code(&Method::PUT, given).as_deref(), want, "{given:?}");
        }
        let form = [("content-type", "Multipart/Form-Data; boundary=b")];
        assert_eq!(code(&Method::POST, &form).as_deref(), more);
        assert_eq!(
            code(&Method::POST, &[("content-type", "a; multipart/form-data")]).as_deref(),
            more
        );
        assert_eq!(code(&Method::PUT, &form), None);
    }

    #[test]
    fn parameters_that_may_change_the_answer_are_told_from_harmless_ones() {
        for (method, target, want) in [
            ("GET", "/b/k", "usual"),
            (
                "GET",
                "/b/k?x-id=GetObject&response-content-type=a&versionId=1&partNumber=1",
                "usual",
            ),
            (
                "GET",
                "/b/k?x-amz-checksum-mode=ENABLED&X-Amz-Signature=1",
                "usual",
            ),
            ("GET", "/b/k?x-amz-expected-bucket-owner=1", "S3"),
            ("GET", "/b/k?annotation", "annotation"),
            ("GET", "/b/k?x-oss-process=image/resize", "x-oss-process"),
            ("HEAD", "/b/k?Acl", "Acl"),
            (
                "GET",
                "/b?list-type=2&prefix=a&max-keys=1&encoding-type=url",
                "usual",
            ),
            ("GET", "/b?list-type=2&Prefix=a", "Prefix"),
            ("PUT", "/b/k?x-amz-meta-a=1&x-amz-acl=private", "usual"),
            ("PUT", "/b/k?X-Amz-Copy-Source=b/l", "NotImplemented"),
            (
                "PUT",
                "/b/k?x-amz-meta-snowball-auto-extract=true",
                "NotImplemented",
            ),
            ("PUT", "/b/k?append", "append"),
            ("PUT", "/b/k?partNumber=1", "partNumber"),
            ("PUT", "/b/k?partNumber=1&uploadId=u", "usual"),
            ("PUT", "/b/k?partNumber=&uploadId=u", "InvalidArgument"),
            ("PUT", "/b/k?uploadId=u", "InvalidArgument"),
            ("PUT", "/b/k?uploadId=&partNumber=1", "InvalidArgument"),
            ("PUT", "/b/k?acl=1", "InvalidArgument"),
            ("POST", "/b?delete=", "usual"),
            ("POST", "/b?delete&prefix=a", "prefix"),
        ] {
            let uri: http::Uri = target.parse().unwrap();
            let address = Address::parse(&uri, None, &[]).unwrap();
            let given = Parameters::parse(uri.query().unwrap_or_default()).unwrap();
            let operation = Operation::find(&method.parse().unwrap(), &address, &given).unwrap();
            let fit = match parameters(operation, &given) {
                Ok(Fit::Usual) => "usual".to_owned(),
                Ok(Fit::AskS3) => "S3".to_owned(),
                Ok(Fit::Unknown(name)) => name.to_owned(),
                Err(failure) => failure.code().to_owned(),
            };
            assert_eq!(fit, want, "{method} {target}");
        }
    }
}
