//! Liveness and readiness. They differ: a node that is not ready must not be restarted for it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::ready::Ready;
use super::state::Api;
use crate::web::failure::Failure;

/// `GET /healthz`
pub(super) async fn healthz() -> Response {
    Json(json!({"status": "alive"})).into_response()
}

/// `GET /readyz`
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Response {
    answer(&api.ready.borrow())
}

fn answer(ready: &Ready) -> Response {
    match ready {
        Ready::Yes => Json(json!({"status": "ready"})).into_response(),
        // No Retry-After: a probe has its own interval, and this is not an overload.
        Ready::No(why) => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "NotReady", why)
            .routine()
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        assert_eq!(answer(&Ready::Yes).status(), 200);
        let response = answer(&Ready::No("leaving the ring".into()));
        assert_eq!(response.status(), 503);
        let failure = response.extensions().get::<Failure>().unwrap();
        assert_eq!(failure.message(), "leaving the ring");
    }
}
