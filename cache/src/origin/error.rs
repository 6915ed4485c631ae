//! What can go wrong at the origin, with S3's own code and message where it gave any.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::head::{fields_of_refusal, headers_of};
use crate::object::{ObjectId, Said};

/// Why the origin gave no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// S3 has no such object, bucket or upload.
    #[error("not found at the origin: {message} ({code})")]
    NotFound {
        /// S3's code; `NoSuchKey` where the answer had no body.
        code: String,
        /// S3's words.
        message: String,
        /// What else S3 said.
        said: Option<Arc<Said>>,
    },
    /// S3 refuses these keys, or does not allow them this object.
    #[error("the origin refuses access: {message} ({code})")]
    Denied {
        /// S3's code; `AccessDenied` where the answer had no body.
        code: String,
        /// S3's words.
        message: String,
        /// What else S3 said.
        said: Option<Arc<Said>>,
    },
    /// The object has another version than the one asked for.
    #[error("the object has another version at the origin by now")]
    VersionChanged,
    /// The object ends before the range begins. An empty object has no range at all.
    #[error("the object has no such bytes")]
    RangeNotSatisfiable,
    /// S3 is throttling.
    #[error("the origin is throttling: {message} ({code})")]
    SlowDown {
        /// S3's code.
        code: String,
        /// S3's words.
        message: String,
    },
    /// Nothing came in time.
    #[error(
        "no answer from {endpoint} for {waited:?}: check that it is up, and that --timeout is long enough"
    )]
    Timeout {
        /// The origin.
        endpoint: Arc<str>,
        /// For how long nothing came.
        waited: Duration,
    },
    /// Bytes come, but too slowly.
    #[error("{endpoint} sends too slowly: check whether it, or the network, is overloaded")]
    TooSlow {
        /// The origin.
        endpoint: Arc<str>,
    },
    /// The request did not reach S3.
    #[error("failed to reach {endpoint}: {reason}")]
    Unreachable {
        /// The origin.
        endpoint: Arc<str>,
        /// What is wrong and what helps.
        reason: String,
        /// What failed underneath.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The client's request body broke off on its way to S3.
    #[error("the request's body broke off")]
    Body(#[source] Box<dyn StdError + Send + Sync>),
    /// A write that S3 may have carried out anyway: no answer came, or none that tells.
    #[error("S3 may have carried out the write: {0}. Read the object before you write it again")]
    Unknown(#[source] Box<Error>),
    /// Any other refusal by S3.
    #[error("the origin answered {status}: {message} ({code})")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// S3's code.
        code: String,
        /// S3's words.
        message: String,
        /// What else S3 said.
        said: Option<Arc<Said>>,
    },
    /// The answer contradicts itself or the request, or broke off.
    #[error("the origin's answer is broken: {0}")]
    Broken(String),
}

impl Error {
    /// S3's own code, or Falcon's where S3 gave none.
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound { code, .. }
            | Self::Denied { code, .. }
            | Self::SlowDown { code, .. }
            | Self::Refused { code, .. } => code,
            Self::VersionChanged => "PreconditionFailed",
            Self::RangeNotSatisfiable => "InvalidRange",
            Self::Timeout { .. } | Self::TooSlow { .. } => "OriginTimeout",
            Self::Unreachable { .. } => "OriginUnreachable",
            Self::Broken(_) => "OriginBroken",
            Self::Body(_) => "IncompleteBody",
            Self::Unknown(last) => match &**last {
                // S3's own code says the same.
                Self::SlowDown { code, .. } => code,
                Self::Refused { status, code, .. } if *status >= 500 => code,
                _ => "OutcomeUnknown",
            },
        }
    }

    /// True if the origin is down or in trouble: a stale answer may be served.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::SlowDown { .. }
            | Self::Timeout { .. }
            | Self::TooSlow { .. }
            | Self::Unreachable { .. }
            | Self::Unknown(_) => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// True for the error of a write that S3 may have carried out anyway.
    ///
    /// A body that broke off lacks at least its last byte, but not every S3 checks that.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Body(_) | Self::Broken(_))
    }

    /// True if S3 may still carry it out later. An S3 that throttles has not begun.
    pub fn may_land_later(&self) -> bool {
        let Self::Unknown(last) = self else {
            return false;
        };
        !matches!(
            **last,
            Self::SlowDown { .. } | Self::Refused { status: 503, .. }
        )
    }

    /// What the operator of the node can do about it, if that is known.
    pub fn way_out(&self) -> Option<&'static str> {
        match self {
            Self::Denied { code, .. } => Some(match code.as_str() {
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken" => {
                    "check the keys: the files access-key-id and secret-access-key in --s3-credentials-dir, or the AWS SDK's credential chain"
                }
                _ => "allow these keys s3:ListBucket on the bucket and s3:GetObject on its objects",
            }),
            Self::NotFound { .. } => {
                Some("check --bucket: this --s3-endpoint has no bucket of that name")
            }
            _ => None,
        }
    }

    /// The error of an SDK call.
    pub(super) fn from_sdk<E>(error: SdkError<E, HttpResponse>, endpoint: &Arc<str>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match &error {
            SdkError::ServiceError(refusal) => {
                let status = refusal.raw().status().as_u16();
                let said = refusal.err().meta();
                let mut refused = Self::from_answer(status, said.code(), said.message());
                refused.keep(refusal.raw());
                refused
            }
            SdkError::ResponseError(_) => Self::Broken(words(&error)),
            _ => Self::Unreachable {
                endpoint: Arc::clone(endpoint),
                reason: reason(&error),
                source: Box::new(error),
            },
        }
    }

    /// Keeps what S3 said beside its code and message.
    fn keep(&mut self, answer: &HttpResponse) {
        if let Self::NotFound { said, .. }
        | Self::Denied { said, .. }
        | Self::Refused { said, .. } = self
        {
            let xml = answer.body().bytes().unwrap_or_default();
            let xml = std::str::from_utf8(xml).unwrap_or_default();
            *said = Said::new(fields_of_refusal(&headers_of(answer)), xml).map(Arc::new);
        }
    }

    /// What else S3 said with its refusal.
    pub fn said(&self) -> Option<&Arc<Said>> {
        match self {
            Self::NotFound { said, .. }
            | Self::Denied { said, .. }
            | Self::Refused { said, .. } => said.as_ref(),
            _ => None,
        }
    }

    /// The same error, which names the object if S3 gave no message.
    pub(super) fn about(mut self, object: &ObjectId) -> Self {
        if let Self::NotFound { code, message, .. } = &mut self
            && *message == wordless(404)
        {
            let bucket = object.bucket();
            *message = if code == "NoSuchBucket" {
                format!("no bucket {bucket:?}")
            } else {
                format!("no object {:?} in bucket {bucket:?}", object.key())
            };
        }
        self
    }

    /// True if the origin does not support an option of the request that can be left out.
    pub(super) fn refuses_an_option(&self) -> bool {
        match self {
            Self::Refused { status: 501, .. } => true,
            Self::Refused {
                status: 400,
                code,
                message,
                ..
            } => code == "NotImplemented" || message.to_ascii_lowercase().contains("checksum"),
            _ => false,
        }
    }

    /// The error that an answer means. An answer to HEAD has no body, so neither code nor message.
    pub(super) fn from_answer(status: u16, code: Option<&str>, message: Option<&str>) -> Self {
        // The SDK models HEAD's 404 as `NotFound`; S3 itself has no such code.
        let code = code.filter(|code| !code.is_empty() && *code != "NotFound");
        let code = code.unwrap_or_else(|| implied(status)).to_owned();
        let message = message
            .filter(|words| !words.is_empty())
            .map_or_else(|| wordless(status), ToOwned::to_owned);
        match (status, code.as_str()) {
            (412, _) => Self::VersionChanged,
            (416, _) => Self::RangeNotSatisfiable,
            (429, _)
            | (503, "SlowDown" | "ServiceUnavailable")
            | (_, "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded") => {
                Self::SlowDown { code, message }
            }
            (404, _) => Self::NotFound {
                code,
                message,
                said: None,
            },
            (401 | 403, _) => Self::Denied {
                code,
                message,
                said: None,
            },
            (
                301 | 307 | 400,
                "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed",
            ) => Self::Refused {
                status,
                code,
                message: format!("{message} Check --s3-region."),
                said: None,
            },
            _ => Self::Refused {
                status,
                code,
                message,
                said: None,
            },
        }
    }
}

/// The message where S3 gave none.
fn wordless(status: u16) -> String {
    format!("S3 gave no reason (HTTP {status})")
}

pub(super) fn implied(status: u16) -> &'static str {
    match status {
        401 | 403 => "AccessDenied",
        404 => "NoSuchKey",
        429 => "SlowDown",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        301 => "PermanentRedirect",
        400 => "BadRequest",
        _ => "UnexpectedStatus",
    }
}

/// True if other keys may help: S3 says so, or refused without a message, as it does for HEAD.
pub(super) fn refuses_keys<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let SdkError::ServiceError(refusal) = error else {
        return false;
    };
    let status = refusal.raw().status().as_u16();
    match refusal.err().meta().code() {
        Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => {
            true
        }
        None | Some("" | "Forbidden") => matches!(status, 400 | 401 | 403),
        Some(_) => false,
    }
}

/// What is wrong and what helps, from the innermost cause that is known here.
fn reason(error: &(dyn StdError + 'static)) -> String {
    let cause = words(error);
    let keys = chain(error).any(<dyn StdError>::is::<CredentialsError>);
    let io = chain(error).find_map(|e| e.downcast_ref::<io::Error>());
    if keys || cause.contains("credentials") {
        return format!(
            "no keys to sign with: {cause}; mount a Secret with access-key-id and secret-access-key, \
             or give the service account a role"
        );
    }
    if cause.contains("dns error") || cause.contains("failed to lookup address") {
        return format!("its name does not resolve: {cause}; check the host name in --s3-endpoint");
    }
    if cause.contains("certificate") {
        return format!(
            "its certificate is not trusted: {cause}; add its authority to the image, or set SSL_CERT_FILE"
        );
    }
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("nothing listens there: {cause}; check the port in --s3-endpoint")
        }
        Some(io::ErrorKind::TimedOut) => {
            format!(
                "no connection in time: {cause}; check network policies and firewalls on the way"
            )
        }
        _ => format!("the connection failed: {cause}; check --s3-endpoint and the network"),
    }
}

/// The causes from the outside in, each one once, joined by colons.
fn words(error: &(dyn StdError + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in chain(error) {
        let words = cause.to_string();
        if !said.iter().any(|s| s.contains(&words)) {
            said.push(words);
        }
    }
    said.join(": ")
}

/// The causes from the outside in. An I/O error hides its own: its `source` is the one below it.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| match e.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => e.source(),
    })
}

/// The first cause of that type.
pub(super) fn find<'a, E: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_body_gets_the_code_that_s3_would_have_named() {
        assert_eq!(Error::from_answer(404, None, None).code(), "NoSuchKey");
        assert_eq!(
            Error::from_answer(404, Some("NotFound"), None).code(),
            "NoSuchKey"
        );
        assert_eq!(Error::from_answer(403, None, None).code(), "AccessDenied");
    }

    #[test]
    fn s3s_own_code_and_words_are_kept() {
        let error = Error::from_answer(404, Some("NoSuchBucket"), Some("no bucket here"));
        assert!(matches!(
            &error,
            Error::NotFound { code, message, .. } if code == "NoSuchBucket" && message == "no bucket here"
        ));
    }

    #[test]
    fn an_absent_object_without_words_is_called_by_its_name() {
        let object = ObjectId::new("b", "a \"k\"").unwrap();
        let words = |code| match Error::from_answer(404, code, None).about(&object) {
            Error::NotFound { message, .. } => message,
            other => panic!("{other}"),
        };
        assert_eq!(words(None), "no object \"a \\\"k\\\"\" in bucket \"b\"");
        assert_eq!(words(Some("NoSuchBucket")), "no bucket \"b\"");
    }

    #[test]
    fn only_an_origin_in_trouble_is_an_outage() {
        for (status, code, outage) in [
            (500, "InternalError", true),
            (503, "SlowDown", true),
            (502, "", true),
            (429, "TooManyRequests", true),
            (403, "AccessDenied", false),
            (404, "NoSuchKey", false),
            (412, "PreconditionFailed", false),
            (416, "InvalidRange", false),
            (400, "BadDigest", false),
        ] {
            assert_eq!(
                Error::from_answer(status, Some(code), None).is_outage(),
                outage,
                "{status} {code}"
            );
        }
    }

    #[test]
    fn an_unknown_outcome_has_a_code_of_its_own_unless_s3_said_one() {
        let unknown = |last| Error::Unknown(Box::new(last));
        let last = |status, code| Error::from_answer(status, Some(code), None);
        assert_eq!(unknown(last(500, "InternalError")).code(), "InternalError");
        assert_eq!(unknown(last(503, "SlowDown")).code(), "SlowDown");
        // It was the second try that was refused.
        assert_eq!(
            unknown(last(412, "PreconditionFailed")).code(),
            "OutcomeUnknown"
        );
        assert_eq!(unknown(last(404, "NoSuchUpload")).code(), "OutcomeUnknown");
        assert!(unknown(last(404, "NoSuchUpload")).may_have_happened());
        assert!(!last(404, "NoSuchUpload").may_have_happened());
    }

    #[test]
    fn a_refused_connection_says_so_and_what_to_check() {
        let error = io::Error::new(io::ErrorKind::ConnectionRefused, "tcp connect error");
        assert!(reason(&error).contains("nothing listens there"));
        assert!(reason(&error).contains("port"));
    }
}
