//! The one table of errors and statuses. S3's own code is kept; the message names the cause.

use std::error::Error as StdError;

use http::header::CONTENT_RANGE;
use http::{HeaderValue, StatusCode};

use super::failure::{BodyRefused, Failure};
use crate::object::InvalidName;
use crate::server::BodyStalled;
use crate::{origin, proxy};

impl From<InvalidName> for Failure {
    fn from(error: InvalidName) -> Self {
        let code = match error {
            InvalidName::EmptyBucket => "MissingBucket",
            InvalidName::EmptyKey => "MissingKey",
            InvalidName::KeyTooLong(_) => "KeyTooLongError",
        };
        Self::bad(code, error)
    }
}

impl From<&origin::Error> for Failure {
    fn from(error: &origin::Error) -> Self {
        use origin::Error as E;
        let status = match error {
            E::NotFound { .. } => StatusCode::NOT_FOUND,
            E::Denied { .. } => StatusCode::FORBIDDEN,
            E::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            E::VersionChanged | E::SlowDown { .. } | E::Refused { status: 503, .. } => {
                return Self::later(error.code(), error);
            }
            E::Timeout { .. } | E::TooSlow { .. } => StatusCode::GATEWAY_TIMEOUT,
            E::Unreachable { .. } | E::Broken(_) => StatusCode::BAD_GATEWAY,
            E::Unknown(last) => match &**last {
                E::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
                E::SlowDown { .. } | E::Refused { status: 503, .. } => {
                    return Self::later(error.code(), error);
                }
                _ => StatusCode::BAD_GATEWAY,
            },
            E::Body(_) => return of_body(error, StatusCode::BAD_REQUEST),
            // A failure inside S3 is a bad gateway; a refusal is passed on.
            E::Refused { status, .. } => match StatusCode::from_u16(*status) {
                Ok(status) if status.is_client_error() => status,
                _ => StatusCode::BAD_GATEWAY,
            },
        };
        Self::new(status, error.code(), error).saying(error.said())
    }
}

impl From<origin::Error> for Failure {
    fn from(error: origin::Error) -> Self {
        Self::from(&error)
    }
}

impl From<proxy::Error> for Failure {
    fn from(error: proxy::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&proxy::Error> for Failure {
    fn from(error: &proxy::Error) -> Self {
        use proxy::Error as E;
        match error {
            E::Absent { code, message, .. } => {
                Self::new(StatusCode::NOT_FOUND, code, message).saying(error.said())
            }
            E::Unsatisfiable { head } => unsatisfiable(head.size),
            E::Origin(error) => Self::from(error.as_ref()),
            E::VersionChanged => Self::later("VersionChanged", error),
            E::NoMemory => Self::later("NoMemory", error),
            E::Abandoned(_) => Self::later("ReadAbandoned", error),
            E::Relayed(relayed) if relayed.status == 503 => {
                Self::later(&relayed.code, &relayed.message)
            }
            E::Relayed(relayed) => {
                let status = StatusCode::from_u16(relayed.status);
                let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
                Self::new(status, &relayed.code, &relayed.message).saying(error.said())
            }
            E::Timeout { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", error),
        }
    }
}

/// `416` for an object of `size` bytes.
fn unsatisfiable(size: u64) -> Failure {
    let value =
        HeaderValue::try_from(format!("bytes */{size}")).expect("digits are a header's value");
    Failure::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "InvalidRange",
        format_args!("the range lies outside the object, which has {size} bytes"),
    )
    .with(CONTENT_RANGE, value)
}

/// The failure of a request whose body could not be read: `408` when the body stopped, what a verifier said of it, else
/// `otherwise`.
pub(crate) fn of_body(error: &(dyn StdError + 'static), otherwise: StatusCode) -> Failure {
    let mut cause = Some(error);
    let mut deepest = error;
    while let Some(error) = cause {
        if let Some(stalled) = error.downcast_ref::<BodyStalled>() {
            return Failure::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", stalled);
        }
        if let Some(BodyRefused(failure)) = error.downcast_ref::<BodyRefused>() {
            return failure.clone();
        }
        deepest = error;
        cause = error.source();
    }
    let code = match otherwise {
        StatusCode::PAYLOAD_TOO_LARGE => "EntityTooLarge",
        _ => "MalformedBody",
    };
    Failure::new(otherwise, code, deepest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse;
    use http::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn a_refusal_of_s3_keeps_its_code_and_a_fault_of_s3_is_not_ours() {
        for (theirs, ours) in [
            (400, 400),
            (409, 409),
            (500, 502),
            (501, 502),
            (503, 503),
            (304, 502),
            (99, 502),
        ] {
            let failure = Failure::from(origin::Error::Refused {
                status: theirs,
                code: "Theirs".into(),
                message: "said so".into(),
                said: None,
            });
            assert_eq!(
                (failure.status().as_u16(), failure.code()),
                (ours, "Theirs")
            );
        }
    }

    #[test]
    fn an_unsatisfiable_range_names_the_size() {
        let response = unsatisfiable(12).into_response();
        assert_eq!(response.status(), 416);
        assert_eq!(response.headers()[CONTENT_RANGE], "bytes */12");
    }

    #[test]
    fn a_body_that_stopped_is_408_however_deep_the_cause_lies() {
        let deep = std::io::Error::other(axum::Error::new(BodyStalled(Duration::from_secs(30))));
        let status = |error| of_body(error, StatusCode::BAD_REQUEST).status().as_u16();
        assert_eq!(status(&deep), 408);
        let other = std::io::Error::other("boundary missing");
        assert_eq!(status(&other), 400);
    }

    #[test]
    fn falcons_own_refusals_say_when_to_come_back() {
        for (error, code) in [
            (proxy::Error::VersionChanged, "VersionChanged"),
            (proxy::Error::NoMemory, "NoMemory"),
        ] {
            let failure = Failure::from(error);
            assert_eq!((failure.status().as_u16(), failure.code()), (503, code));
            let response = failure.into_response();
            assert_eq!(response.headers()[RETRY_AFTER], "1");
        }
    }
}
