//! What a peer is answered when its request is not served.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::peer::{Refusal, RefusalKind};
use crate::proxy;
use crate::web::failure::Failure;

/// For a request that shows another token than this node's, or none.
pub(super) fn unauthorized() -> Response {
    let failure = Failure::new(
        StatusCode::FORBIDDEN,
        "PeerTokenMismatch",
        "this route is for nodes of the same cache, which share one --peer-token-file",
    );
    refused(RefusalKind::Unauthorized, &failure)
}

/// For a request that names no object, or one of a bucket that is not served.
pub(super) fn incomplete() -> Response {
    bad_request(
        "the request must name an object of a bucket that this cache serves, and bytes of a version where it names one",
    )
}

/// For a request that can't be understood.
pub(super) fn bad_request(message: &str) -> Response {
    let failure = Failure::bad("InvalidRequest", message);
    refused(RefusalKind::BadRequest, &failure)
}

/// For a request whose body could not be read.
pub(super) fn of_body(failure: &Failure) -> Response {
    let kind = match failure.status() {
        StatusCode::SERVICE_UNAVAILABLE => RefusalKind::Busy,
        _ => RefusalKind::BadRequest,
    };
    refused(kind, failure)
}

/// For a read that failed.
pub(super) fn from_error(error: &proxy::Error) -> Response {
    let kind = match error {
        proxy::Error::Absent { .. } => RefusalKind::Absent,
        proxy::Error::VersionChanged | proxy::Error::Unsatisfiable { .. } => RefusalKind::Version,
        proxy::Error::Origin(_) | proxy::Error::Relayed(_) => RefusalKind::Origin,
        proxy::Error::NoMemory | proxy::Error::Abandoned(_) | proxy::Error::Timeout { .. } => {
            RefusalKind::Busy
        }
    };
    refused(kind, &Failure::from(error))
}

fn refused(kind: RefusalKind, failure: &Failure) -> Response {
    let refusal = Refusal {
        kind,
        status: failure.status().as_u16(),
        code: failure.code().to_owned(),
        message: failure.message().to_owned(),
        said: failure.said().cloned(),
    };
    (failure.status(), Json(refusal)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn kind_of(response: Response) -> (u16, RefusalKind) {
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let refusal: Refusal = serde_json::from_slice(&body).unwrap();
        assert_eq!(refusal.status, status);
        (status, refusal.kind)
    }

    #[tokio::test]
    async fn each_refusal_says_whose_fault_it_is() {
        let (too_long, no_memory) = (
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "EntityTooLarge", ""),
            Failure::later("NoMemory", ""),
        );
        for (response, status, kind) in [
            (unauthorized(), 403, RefusalKind::Unauthorized),
            (incomplete(), 400, RefusalKind::BadRequest),
            (of_body(&too_long), 413, RefusalKind::BadRequest),
            (of_body(&no_memory), 503, RefusalKind::Busy),
            (
                from_error(&proxy::Error::VersionChanged),
                503,
                RefusalKind::Version,
            ),
        ] {
            assert_eq!(kind_of(response).await, (status, kind));
        }
    }
}
