//! The blob API: all routes in one table, and what they work with. Handlers live in the files beside; a failure becomes
//! a status in `error`. No route follows a URL that a client gave.

mod admin;
pub(crate) mod aftermath;
pub(crate) mod answer;
pub(crate) mod barrier;
mod blob;
pub(crate) mod body_buffer;
mod conditions;
mod delete;
pub mod error;
pub mod health;
mod hits;
mod list;
mod middleware;
pub mod peer_routes;
mod prewarm;
mod query;
mod range;
pub(crate) mod read;
pub mod request_id;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete as on_delete, get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::watch;

pub use aftermath::Aftermath;
pub use health::Ready;
pub(crate) use hits::Hits;
pub(crate) use middleware::handle;
pub use middleware::{Dialect, Middleware, Op, ResponseContext};

use crate::access::{Access, Caller, Target, Verb};
use crate::invalidate::Invalidator;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::object::ObjectId;
use crate::origin::Origin;
use crate::proxy::Proxy;
use error::Failure;
use query::Query;

/// How a token is shown.
const BEARER: &[u8] = b"Bearer ";

/// What the routes may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// The bucket where a request names none.
    pub bucket: Option<String>,
    /// The buckets that may be named; `None` is any.
    pub buckets: Option<Vec<String>>,
    /// No upload, no delete.
    pub read_only: bool,
    /// An upload is held as it streams through and given to its owners after its barrier: the first read costs S3 no bytes.
    /// One that is too large to be stored, or finds no memory, is uploaded and read back at the first request.
    pub cache_on_write: bool,
    /// Uploads that may run at one time.
    pub uploads: usize,
    /// How long an upload may wait for its slot and its buffer.
    pub upload_wait: Duration,
}

/// The parts of the node that the routes use.
pub struct ApiParts {
    /// Reads.
    pub proxy: Proxy,
    /// Writes and lists.
    pub origin: Origin,
    /// What clients invalidate.
    pub invalidator: Invalidator,
    /// The barrier after each write.
    pub aftermath: Aftermath,
    /// Who is known.
    pub members: Arc<Members>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may do what.
    pub access: Access,
    /// Whether this node may be sent requests.
    pub ready: watch::Receiver<Ready>,
    /// What the routes may do.
    pub settings: ApiSettings,
}

/// The state of all routes.
pub struct Api {
    parts: ApiParts,
    uploads: upload::UploadSlots,
    prewarms: prewarm::JobRegistry,
}

/// One line of [`ROUTES`].
struct Route {
    path: &'static str,
    methods: &'static str,
    says: &'static str,
    handler: fn() -> MethodRouter<Arc<Api>>,
}

/// The routes of the main port. Those of peers are merged by [`router`]; none of them is for clients.
const ROUTES: &[Route] = &[
    Route {
        path: "/get",
        methods: "GET, HEAD",
        says: "the object key=",
        handler: || get(blob::get),
    },
    Route {
        path: "/upload",
        methods: "POST",
        says: "files of a multipart form, under path=",
        handler: || post(upload::post).layer(DefaultBodyLimit::disable()),
    },
    Route {
        path: "/invalidate",
        methods: "POST",
        says: "drops key=, prefix= or all=true at every node",
        handler: || post(admin::invalidate),
    },
    Route {
        path: "/list",
        methods: "GET, HEAD",
        says: "keys in S3 that begin with prefix=",
        handler: || get(list::get),
    },
    Route {
        path: "/delete",
        methods: "DELETE",
        says: "deletes key= or prefix= in S3, then drops it",
        handler: || on_delete(delete::delete),
    },
    Route {
        path: "/prewarm",
        methods: "POST",
        says: "reads prefix=, or the keys in the body, into the ring",
        handler: || post(prewarm::post),
    },
    Route {
        path: "/prewarm/{id}",
        methods: "GET, HEAD, DELETE",
        says: "the state of a prewarm; DELETE ends it",
        handler: || get(prewarm::get).delete(prewarm::delete),
    },
    Route {
        path: "/ring",
        methods: "GET, HEAD",
        says: "the members, and who owns key=",
        handler: || get(admin::ring),
    },
    Route {
        path: "/healthz",
        methods: "GET, HEAD",
        says: "alive",
        handler: || get(health::healthz),
    },
    Route {
        path: "/readyz",
        methods: "GET, HEAD",
        says: "ready for requests, or why not",
        handler: || get(health::readyz),
    },
];

/// The routes of the admin port.
const ADMIN_ROUTES: &[Route] = &[
    Route {
        path: "/metrics",
        methods: "GET, HEAD",
        says: "all counters",
        handler: || get(admin::metrics),
    },
    Route {
        path: "/healthz",
        methods: "GET, HEAD",
        says: "alive",
        handler: || get(health::healthz),
    },
    Route {
        path: "/readyz",
        methods: "GET, HEAD",
        says: "ready for requests, or why not",
        handler: || get(health::readyz),
    },
];

/// The main port: the blob API and the routes of `peers`, which check their callers themselves.
pub fn router(api: &Arc<Api>, peers: Router) -> Router {
    let middleware = Middleware::new(
        "blob",
        Dialect::Blob,
        api.parts.members.name(),
        &api.parts.metrics,
    );
    framed(
        routes(ROUTES).with_state(Arc::clone(api)).merge(peers),
        ROUTES,
        middleware,
    )
}

/// The admin port: metrics and health.
pub fn admin_router(api: &Arc<Api>) -> Router {
    let middleware = Middleware::new(
        "admin",
        Dialect::Blob,
        api.parts.members.name(),
        &api.parts.metrics,
    );
    framed(
        routes(ADMIN_ROUTES).with_state(Arc::clone(api)),
        ADMIN_ROUTES,
        middleware,
    )
}

fn routes(table: &'static [Route]) -> Router<Arc<Api>> {
    table.iter().fold(Router::new(), |router, route| {
        let methods = route.methods;
        let other = move || async move { Failure::method(methods) };
        router.route(route.path, (route.handler)().fallback(other))
    })
}

/// What all answers have in common: an id, the node's name, a body for each failure, a line in the log, their metrics.
fn framed(router: Router, table: &'static [Route], middleware: Middleware) -> Router {
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
        format_args!("there is no such route; there are: {}", known.join("; ")),
    )
}

impl Api {
    /// The state for [`router`] and [`admin_router`].
    pub fn new(parts: ApiParts) -> Arc<Self> {
        Arc::new(Self {
            uploads: upload::UploadSlots::new(parts.settings.uploads),
            prewarms: prewarm::JobRegistry::default(),
            parts,
        })
    }

    /// What the routes work with.
    pub(crate) fn parts(&self) -> &ApiParts {
        &self.parts
    }

    /// Who asks; `401` where nobody is known by what is shown.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let shown = headers.get(header::AUTHORIZATION);
        self.who(shown.map(HeaderValue::as_bytes))
    }

    /// Who shows that as `Authorization`.
    fn who(&self, shown: Option<&[u8]>) -> Result<Caller, Failure> {
        let token = shown.and_then(|shown| {
            let (scheme, token) = shown.split_at_checked(BEARER.len())?;
            scheme.eq_ignore_ascii_case(BEARER).then_some(token)
        });
        self.parts.access.by_token(token).ok_or_else(|| {
            Failure::new(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "this cache wants a token of its access file: Authorization: Bearer TOKEN",
            )
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        })
    }

    /// The bucket that is `named`, else the default, if the caller may do that there.
    fn bucket(&self, who: &Caller, verb: Verb, named: Option<String>) -> Result<String, Failure> {
        let bucket = self.parts.settings.named(named)?;
        permit(who, verb, &bucket, Target::Bucket)?;
        self.parts.settings.serves(&bucket)?;
        Ok(bucket)
    }

    /// The object that `key=` and `bucket=` name, if the caller may do that with it.
    fn object(&self, who: &Caller, verb: Verb, query: &mut Query) -> Result<ObjectId, Failure> {
        let bucket = self.bucket(who, verb, query.take("bucket"))?;
        let key = query.need("key")?;
        permit(who, verb, &bucket, Target::Key(&key))?;
        Ok(ObjectId::new(&bucket, &key)?)
    }

    fn writable(&self) -> Result<(), Failure> {
        if self.parts.settings.read_only {
            return Err(Failure::new(
                StatusCode::FORBIDDEN,
                "ReadOnly",
                "this cache is read-only: write to S3 itself, then invalidate here",
            ));
        }
        Ok(())
    }
}

/// Refuses what the caller may not do. It is the same answer whether or not anything is there.
pub(crate) fn permit(
    who: &Caller,
    verb: Verb,
    bucket: &str,
    target: Target<'_>,
) -> Result<(), Failure> {
    if who.may(verb, bucket, target) {
        return Ok(());
    }
    Err(denied(bucket))
}

/// `403`, and no word of what is there.
pub(crate) fn denied(bucket: &str) -> Failure {
    let failure = Failure::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
    if bucket.is_empty() {
        return failure;
    }
    failure.about(bucket, None)
}

impl ApiSettings {
    /// The bucket that a request means.
    fn named(&self, named: Option<String>) -> Result<String, Failure> {
        match named {
            Some(named) if named.is_empty() => {
                Err(Failure::bad("MissingBucket", "bucket= is empty"))
            }
            Some(named) => Ok(named),
            None => self.bucket.clone().ok_or_else(|| {
                Failure::bad(
                    "MissingBucket",
                    "bucket= is needed: this cache has no default",
                )
            }),
        }
    }

    /// True when that bucket may be named.
    pub fn allows(&self, bucket: &str) -> bool {
        let allowed = self.buckets.as_ref();
        allowed.is_none_or(|allowed| allowed.iter().any(|name| name == bucket))
    }

    fn serves(&self, bucket: &str) -> Result<(), Failure> {
        if self.allows(bucket) {
            return Ok(());
        }
        let failure = Failure::new(
            StatusCode::FORBIDDEN,
            "BucketNotAllowed",
            "this cache does not serve that bucket",
        );
        Err(failure.about(bucket, None))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::{Request, header};
    use tower::ServiceExt;

    use super::*;

    fn settings(default: Option<&str>, allowed: Option<&[&str]>) -> ApiSettings {
        ApiSettings {
            bucket: default.map(str::to_owned),
            buckets: allowed.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            read_only: false,
            cache_on_write: false,
            uploads: 1,
            upload_wait: Duration::ZERO,
        }
    }

    #[test]
    fn only_allowed_buckets_can_be_named() {
        let named = |settings: ApiSettings, name: Option<&str>| {
            settings
                .named(name.map(str::to_owned))
                .and_then(|bucket| settings.serves(&bucket).map(|()| bucket))
                .map_err(|failure| failure.code().to_owned())
        };
        let (only_a, a_and_b): (&[&str], &[&str]) = (&["a"], &["a", "b"]);
        for (settings, name, bucket) in [
            (settings(Some("a"), Some(only_a)), None, "a"),
            (settings(Some("a"), Some(only_a)), Some("a"), "a"),
            (settings(Some("a"), Some(a_and_b)), Some("b"), "b"),
            (settings(None, None), Some("x"), "x"),
        ] {
            assert_eq!(named(settings, name).as_deref(), Ok(bucket));
        }
        for (settings, name, code) in [
            (
                settings(Some("a"), Some(only_a)),
                Some("b"),
                "BucketNotAllowed",
            ),
            (settings(None, Some(only_a)), Some("b"), "BucketNotAllowed"),
            (settings(None, Some(a_and_b)), None, "MissingBucket"),
            (settings(None, None), Some(""), "MissingBucket"),
        ] {
            assert_eq!(named(settings, name), Err(code.to_owned()));
        }
    }

    async fn asked(method: &str, path: &str) -> (StatusCode, HeaderMap, String) {
        let metrics = Arc::new(Metrics::new());
        // A row of the table with a handler that needs no state.
        let other = || async { Failure::method("GET, HEAD") };
        let row = Router::new().route("/healthz", get(health::healthz).fallback(other));
        let router = framed(
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
