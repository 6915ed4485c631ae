//! The operator in this process, against a real API server, with its writes counted and crashes on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Waker, Poll};
use std::time::Duration;

use falcon_operator::apply::Fence;
use falcon_operator::controller::{Context, Settings, Watched, error_policy, reconcile, watches};
use falcon_operator::metrics::Metrics;
use falcon_operator::plan::Defaults;
use falcon_operator::resources::{CacheRole, CacheRoleKind};
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config, Resource};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::{Layer, Service as TowerService};

/// When the process crashes: before a request is sent, or after its response has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    Before,
    After,
}

/// Counts writes, and never completes the one at which the process is to crash.
#[derive(Debug, Default)]
pub(crate) struct ApiConnection {
    writes: AtomicUsize,
    /// The number of the write, from 1.
    crash: Option<(usize, Crash)>,
    dead: watch::Sender<bool>,
}

impl ApiConnection {
    pub(crate) fn failing_at(at: usize, crash: Crash) -> Self {
        Self {
            crash: Some((at, crash)),
            ..Self::default()
        }
    }

    async fn die(&self) -> ! {
        self.dead.send_replace(true);
        std::future::pending().await
    }
}

/// The connection as a layer of a client.
#[derive(Clone)]
struct CountedService<S> {
    inner: S,
    connection: Arc<ApiConnection>,
}

#[derive(Clone)]
struct CountingLayer(Arc<ApiConnection>);

impl<S> Layer<S> for CountingLayer {
    type Service = CountedService<S>;

    fn layer(&self, inner: S) -> CountedService<S> {
        CountedService {
            inner,
            connection: Arc::clone(&self.0),
        }
    }
}

impl<S, B> TowerService<Request<Body>> for CountedService<S>
where
    S: TowerService<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, waker: &mut Waker<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(waker)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = Arc::clone(&self.connection);
        let number = if request.method() == Method::GET {
            0
        } else {
            connection.writes.fetch_add(1, Ordering::Relaxed) + 1
        };
        let dies = |when| connection.crash == Some((number, when));
        if dies(Crash::Before) {
            return Box::pin(async move { connection.die().await });
        }
        let dies = dies(Crash::After);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if dies {
                drop(answer);
                connection.die().await;
            }
            answer
        })
    }
}

/// One process of the operator, which starts with empty caches.
pub(crate) struct Operator {
    pub(crate) context: Arc<Context>,
    pub(crate) client: Client,
    pub(crate) metrics: Arc<Metrics>,
    connection: Arc<ApiConnection>,
    dead: watch::Receiver<bool>,
    _lease: watch::Sender<Option<Instant>>,
}

impl Operator {
    /// It watches this namespace alone.
    pub(crate) fn start(
        config: &Config,
        namespace: &str,
        resync: Duration,
        connection: ApiConnection,
    ) -> Self {
        Self::installed_as("ops/falcon", config, namespace, resync, connection)
    }

    /// As [`Self::start`], from an installation of this name, whose caches' role is named after it.
    pub(crate) fn installed_as(
        installation: &str,
        config: &Config,
        namespace: &str,
        resync: Duration,
        connection: ApiConnection,
    ) -> Self {
        let connection = Arc::new(connection);
        let client = ClientBuilder::try_from(config.clone())
            .unwrap()
            .with_layer(&CountingLayer(Arc::clone(&connection)))
            .build();
        let settings = Settings {
            namespaces: vec![namespace.to_owned()],
            defaults: Defaults {
                image: "falcon-cache:0.1.0".to_owned(),
            },
            role: CacheRole {
                kind: CacheRoleKind::ClusterRole,
                name: format!("{}-cache", installation.rsplit('/').next().unwrap()),
            },
            concurrency: 8,
            resync,
            process: "test".to_owned(),
            operator: installation.to_owned(),
        };
        let (lease, until) = watch::channel(Some(Instant::now() + Duration::from_hours(1)));
        let metrics = Arc::new(Metrics::default());
        let context = Context::new(
            client.clone(),
            settings,
            Fence::new(until),
            Arc::clone(&metrics),
        );
        Self {
            context: Arc::new(context),
            client,
            metrics,
            dead: connection.dead.subscribe(),
            connection,
            _lease: lease,
        }
    }

    /// Reconciles the cache once; false if the process crashed.
    pub(crate) async fn reconcile(&self, seen: &Watched) -> bool {
        let mut dead = self.dead.clone();
        tokio::select! {
            biased;
            _ = dead.wait_for(|dead| *dead) => false,
            result = reconcile(Arc::new(seen.clone()), Arc::clone(&self.context)) => {
                // A failure is retried by the next reconcile.
                if let Err(error) = result {
                    error_policy(seen, &error, &self.context);
                }
                true
            }
        }
    }

    /// Runs as in a pod, until the returned handle is dropped.
    pub(crate) fn run(&self) -> RunningOperator {
        let stop = futures::future::pending();
        RunningOperator(tokio::spawn(watches::run(
            Arc::clone(&self.context),
            self.client.clone(),
            stop,
        )))
    }

    /// Number of reconciles so far.
    pub(crate) fn reconciles(&self) -> u64 {
        let page = self.metrics.encode().unwrap();
        let lines = page.lines();
        lines
            .filter(|line| line.starts_with("falcon_operator_reconciles_total"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }

    /// Number of writes so far.
    pub(crate) fn writes(&self) -> usize {
        self.connection.writes.load(Ordering::Relaxed)
    }
}

/// A running operator; dropping it stops it.
pub(crate) struct RunningOperator(JoinHandle<()>);

impl Drop for RunningOperator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A cache of this name with this spec; the first bucket of a plain one is added.
pub(crate) fn cache(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"origin": {"buckets": ["bucket"]}});
    super::cluster::merge(&mut whole, spec);
    json!({"apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache", "metadata": {"name": name}, "spec": whole})
}

/// The kinds that the operator creates for every cache.
fn kinds() -> Vec<ApiResource> {
    fn kind<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    vec![
        kind::<ServiceAccount>(),
        kind::<RoleBinding>(),
        kind::<Secret>(),
        kind::<Service>(),
        kind::<NetworkPolicy>(),
        kind::<PodDisruptionBudget>(),
        kind::<StatefulSet>(),
    ]
}

/// All objects of a cache, without what differs between runs: uids, addresses, versions and times.
pub(crate) async fn objects(client: &Client, namespace: &str, name: &str) -> Value {
    let mut all = Vec::new();
    let params = ListParams::default().labels(&format!("app.kubernetes.io/instance={name}"));
    for kind in kinds() {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        for object in api.list(&params).await.unwrap() {
            all.push(plain(json!(object), &kind.kind));
        }
    }
    let text = json!(all).to_string().replace(namespace, "NAMESPACE");
    serde_json::from_str(&text).unwrap()
}

fn plain(mut object: Value, kind: &str) -> Value {
    object["kind"] = kind.into();
    let meta = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        meta.remove(field);
    }
    let managers = meta.remove("managedFields").unwrap_or_default();
    let managers = managers.as_array().into_iter().flatten();
    let mut managers: Vec<String> = managers
        .filter(|entry| entry["subresource"].is_null())
        .map(|entry| format!("{} {}", entry["manager"], entry["operation"]))
        .collect();
    managers.sort();
    meta.insert("managers".to_owned(), json!(managers));
    let owners = meta
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut);
    for owner in owners.into_iter().flatten() {
        owner["uid"] = "UID".into();
    }
    let object = object.as_object_mut().unwrap();
    object.remove("status");
    if object.contains_key("data") && kind == "Secret" {
        object["data"] = "…".into();
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        && spec
            .get("clusterIP")
            .is_some_and(|address| address != "None")
    {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    json!(object)
}
