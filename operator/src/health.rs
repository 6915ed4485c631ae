//! The operator's admin port: `/metrics`, `/healthz`, `/readyz`.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// State of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It waits for something that it needs.
    Waiting(String),
    /// Another process is the leader; this one stands by.
    StandingBy,
    /// It is the leader.
    Leading,
}

#[derive(Debug, Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    stage: watch::Receiver<Stage>,
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    stage: watch::Receiver<Stage>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, routes(metrics, stage))
        .with_graceful_shutdown(stop)
        .await
}

fn routes(metrics: Arc<Metrics>, stage: watch::Receiver<Stage>) -> Router {
    Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Shared { metrics, stage })
}

async fn page(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.metrics.encode() {
        Ok(page) => (
            StatusCode::OK,
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            page,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.stage.borrow().clone() {
        Stage::Leading => (StatusCode::OK, "leading\n".to_owned()),
        // A standby is ready: it can take over at once, and a rollout of the operator must not wait for it to become
        // the leader.
        Stage::StandingBy => (StatusCode::OK, "standing by\n".to_owned()),
        Stage::Waiting(what) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {what}\n"),
        ),
    }
}
