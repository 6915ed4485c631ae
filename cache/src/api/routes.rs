//! All routes of the blob API and of the admin port, as tables. No route follows a URL that a client gives.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete as on_delete, get, post};
use http::StatusCode;

use super::state::Api;
use super::{admin, blob, delete, health, list, peer_routes, prewarm, upload};
use crate::metrics::READ;
use crate::server::PlainRequest;
use crate::web::dialect::Dialect;
use crate::web::failure::Failure;
use crate::web::hits::Hits;
use crate::web::middleware::{Labels, Middleware, handle};

/// One row of [`ROUTES`].
struct Route {
    path: &'static str,
    methods: &'static str,
    /// What metrics call it.
    op: &'static str,
    says: &'static str,
    handler: fn() -> MethodRouter<Arc<Api>>,
}

/// The routes of the main port. [`router`] merges those of peers, which are not for clients.
const ROUTES: &[Route] = &[
    Route {
        path: "/get",
        methods: "GET, HEAD",
        op: READ,
        says: "the object key=",
        handler: || get(blob::get),
    },
    Route {
        path: "/upload",
        methods: "POST",
        op: "upload",
        says: "files of a multipart form, under path=",
        handler: || post(upload::post).layer(DefaultBodyLimit::disable()),
    },
    Route {
        path: "/invalidate",
        methods: "POST",
        op: "invalidate",
        says: "drops key=, prefix= or all=true at every node",
        handler: || post(admin::invalidate),
    },
    Route {
        path: "/list",
        methods: "GET, HEAD",
        op: "list",
        says: "keys in S3 that begin with prefix=",
        handler: || get(list::get),
    },
    Route {
        path: "/delete",
        methods: "DELETE",
        op: "delete",
        says: "deletes key= or prefix= in S3, then drops it",
        handler: || on_delete(delete::delete),
    },
    Route {
        path: "/prewarm",
        methods: "POST",
        op: "prewarm",
        says: "reads prefix=, or the keys in the body, into the ring",
        handler: || post(prewarm::post),
    },
    Route {
        path: "/prewarm/{id}",
        methods: "GET, HEAD, DELETE",
        op: "prewarm",
        says: "the state of a prewarm; DELETE ends it",
        handler: || get(prewarm::get).delete(prewarm::delete),
    },
    Route {
        path: "/ring",
        methods: "GET, HEAD",
        op: "ring",
        says: "the members, and who owns key=",
        handler: || get(admin::ring),
    },
    Route {
        path: "/healthz",
        methods: "GET, HEAD",
        op: "health",
        says: "alive",
        handler: || get(health::healthz),
    },
    Route {
        path: "/readyz",
        methods: "GET, HEAD",
        op: "health",
        says: "ready for requests, or why not",
        handler: || get(health::readyz),
    },
];

/// The routes of the admin port.
const ADMIN_ROUTES: &[Route] = &[
    Route {
        path: "/metrics",
        methods: "GET, HEAD",
        op: "metrics",
        says: "all counters",
        handler: || get(admin::metrics),
    },
    Route {
        path: "/healthz",
        methods: "GET, HEAD",
        op: "health",
        says: "alive",
        handler: || get(health::healthz),
    },
    Route {
        path: "/readyz",
        methods: "GET, HEAD",
        op: "health",
        says: "ready for requests, or why not",
        handler: || get(health::readyz),
    },
];

/// The main port: the blob API and the routes of `peers`, which authenticate their callers themselves.
pub fn router(api: &Arc<Api>, peers: Router) -> Router {
    let router = routes(ROUTES).with_state(Arc::clone(api)).merge(peers);
    with_middleware(router, ROUTES, blob_middleware(api))
}

/// The admin port: metrics and health.
pub fn admin_router(api: &Arc<Api>) -> Router {
    let middleware = api.services.middleware("admin", Dialect::Blob);
    let middleware = middleware.with_labels(|path| labels("admin", ADMIN_ROUTES, path));
    let router = routes(ADMIN_ROUTES).with_state(Arc::clone(api));
    with_middleware(router, ADMIN_ROUTES, middleware)
}

/// The fast path of `/get`.
pub(crate) fn hits(api: &Arc<Api>) -> Hits {
    let own = Arc::clone(api);
    let locate = move |request: &PlainRequest<'_>| blob::locate(&own, request);
    Hits::new(api.services.proxy.clone(), blob_middleware(api), locate)
}

fn blob_middleware(api: &Api) -> Middleware {
    let middleware = api.services.middleware("blob", Dialect::Blob);
    middleware
        .with_labels(|path| peer_routes::labels(path).or_else(|| labels("blob", ROUTES, path)))
}

/// What metrics call a request of this path: its first segment identifies the route.
fn labels(api: &'static str, table: &[Route], path: &str) -> Option<Labels> {
    let word = path.split('/').nth(1);
    let route = table
        .iter()
        .find(|route| route.path.split('/').nth(1) == word)?;
    Some(Labels { api, op: route.op })
}

fn routes(table: &'static [Route]) -> Router<Arc<Api>> {
    table.iter().fold(Router::new(), |router, route| {
        let methods = route.methods;
        let other = move || async move { Failure::method(methods) };
        router.route(route.path, (route.handler)().fallback(other))
    })
}

/// Adds what all answers have in common: an id, the node's name, a body for each failure, a log entry, metrics.
fn with_middleware(router: Router, table: &'static [Route], middleware: Middleware) -> Router {
    router
        .fallback(move || async move { unknown_route(table) })
        .layer(from_fn_with_state(Arc::new(middleware), handle))
}

fn unknown_route(table: &[Route]) -> Failure {
    let known: Vec<String> = table
        .iter()
        .map(|route| format!("{} {} ({})", route.methods, route.path, route.says))
        .collect();
    Failure::new(
        StatusCode::NOT_FOUND,
        "NoSuchRoute",
        format_args!("unknown route; the routes are: {}", known.join("; ")),
    )
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::{HeaderMap, Request, header};
    use tower::ServiceExt;

    use super::*;
    use crate::metrics::Metrics;

    async fn asked(method: &str, path: &str) -> (StatusCode, HeaderMap, String) {
        let metrics = Arc::new(Metrics::new());
        // A row of the table with a handler that needs no state.
        let other = || async { Failure::method("GET, HEAD") };
        let row = Router::new().route("/healthz", get(health::healthz).fallback(other));
        let router = with_middleware(
            row,
            ROUTES,
            Middleware::new("blob", Dialect::Blob, "node-1", &metrics),
        );
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-request-id", "r1")
            .body(Body::empty())
            .unwrap();
        let (head, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (
            head.status,
            head.headers,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[tokio::test]
    async fn an_unknown_route_names_those_that_exist() {
        let (status, headers, body) = asked("GET", "/gett?key=a").await;
        assert_eq!(status, 404);
        assert_eq!(headers["x-request-id"], "r1");
        assert_eq!(headers["x-falcon-node"], "node-1");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["code"], "NoSuchRoute");
        assert_eq!(json["request_id"], "r1");
        for route in ROUTES {
            assert!(json["message"].as_str().unwrap().contains(route.path));
        }
    }

    #[tokio::test]
    async fn a_wrong_method_names_the_right_ones() {
        let (status, headers, body) = asked("POST", "/healthz").await;
        assert_eq!(status, 405);
        assert_eq!(headers[header::ALLOW], "GET, HEAD");
        assert!(body.contains("MethodNotAllowed"), "{body}");
    }

    #[tokio::test]
    async fn a_failed_head_has_no_body() {
        let (status, headers, body) = asked("HEAD", "/nowhere").await;
        assert_eq!((status.as_u16(), body.as_str()), (404, ""));
        assert_eq!(headers["x-request-id"], "r1");
    }

    #[test]
    fn every_path_stands_in_the_table_once() {
        for table in [ROUTES, ADMIN_ROUTES] {
            let mut paths: Vec<&str> = table.iter().map(|route| route.path).collect();
            paths.sort_unstable();
            paths.dedup();
            assert_eq!(paths.len(), table.len());
        }
    }
}
