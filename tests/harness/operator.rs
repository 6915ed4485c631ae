//! The operator in this process, at a real API server, with its writes counted and its life in a test's hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Waker, Poll};
use std::time::Duration;

use falcon_operator::apply::Fence;
use falcon_operator::controller::{Context, Settings, Watched, reconcile, try_again, watches};
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

/// When the process dies: as a request is about to leave it, or as its answer is about to arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Death {
    Before,
    After,
}

/// Counts writes, and holds for ever the one at which the process is to die.
#[derive(Debug, Default)]
pub(crate) struct Line {
    writes: AtomicUsize,
    /// The number of the write, from 1.
    death: Option<(usize, Death)>,
    dead: watch::Sender<bool>,
}

impl Line {
    pub(crate) fn that_breaks(at: usize, death: Death) -> Self {
        Self {
            death: Some((at, death)),
            ..Self::default()
        }
    }

    async fn die(&self) -> ! {
        self.dead.send_replace(true);
        std::future::pending().await
    }
}

/// The line as a layer of a client.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    line: Arc<Line>,
}

#[derive(Clone)]
struct Counting(Arc<Line>);

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            line: Arc::clone(&self.0),
        }
    }
}

impl<S, B> TowerService<Request<Body>> for Counted<S>
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
        let line = Arc::clone(&self.line);
        let number = if request.method() == Method::GET {
            0
        } else {
            line.writes.fetch_add(1, Ordering::Relaxed) + 1
        };
        let dies = |when| line.death == Some((number, when));
        if dies(Death::Before) {
            return Box::pin(async move { line.die().await });
        }
        let dies = dies(Death::After);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if dies {
                drop(answer);
                line.die().await;
            }
            answer
        })
    }
}

/// One life of the operator: it remembers nothing of an earlier one.
pub(crate) struct Operator {
    pub(crate) context: Arc<Context>,
    pub(crate) client: Client,
    pub(crate) metrics: Arc<Metrics>,
    line: Arc<Line>,
    dead: watch::Receiver<bool>,
    _lease: watch::Sender<Option<Instant>>,
}

impl Operator {
    /// It works in this namespace alone.
    pub(crate) fn start(config: &Config, namespace: &str, resync: Duration, line: Line) -> Self {
        Self::installed_as("ops/falcon", config, namespace, resync, line)
    }

    /// As [`Self::start`], from an installation of this name, whose caches' role is named after it.
    pub(crate) fn installed_as(
        installation: &str,
        config: &Config,
        namespace: &str,
        resync: Duration,
        line: Line,
    ) -> Self {
        let line = Arc::new(line);
        let client = ClientBuilder::try_from(config.clone())
            .unwrap()
            .with_layer(&Counting(Arc::clone(&line)))
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
            me: "test".to_owned(),
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
            dead: line.dead.subscribe(),
            line,
            _lease: lease,
        }
    }

    /// Looks at the cache once, as it is now; false where the process died of it.
    pub(crate) async fn look(&self, seen: &Watched) -> bool {
        let mut dead = self.dead.clone();
        tokio::select! {
            biased;
            _ = dead.wait_for(|dead| *dead) => false,
            looked = reconcile(Arc::new(seen.clone()), Arc::clone(&self.context)) => {
                // What fails is tried again by the next look.
                if let Err(error) = looked {
                    try_again(seen, &error, &self.context);
                }
                true
            }
        }
    }

    /// Works as in a pod, until what is returned is dropped.
    pub(crate) fn work(&self) -> AtWork {
        let stop = futures::future::pending();
        AtWork(tokio::spawn(watches::run(
            Arc::clone(&self.context),
            self.client.clone(),
            stop,
        )))
    }

    /// Looks at caches so far.
    pub(crate) fn looks(&self) -> u64 {
        let page = self.metrics.page().unwrap();
        let lines = page.lines();
        lines
            .filter(|line| line.starts_with("falcon_operator_reconciles_total"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }

    /// So many writes so far.
    pub(crate) fn writes(&self) -> usize {
        self.line.writes.load(Ordering::Relaxed)
    }
}

/// An operator that works; dropped, it is dead.
pub(crate) struct AtWork(JoinHandle<()>);

impl Drop for AtWork {
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

/// The kinds that the operator makes for every cache.
fn kinds() -> Vec<ApiResource> {
    fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    vec![
        of::<ServiceAccount>(),
        of::<RoleBinding>(),
        of::<Secret>(),
        of::<Service>(),
        of::<NetworkPolicy>(),
        of::<PodDisruptionBudget>(),
        of::<StatefulSet>(),
    ]
}

/// All that there is of a cache, without what differs from life to life: identities, addresses, versions and times.
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
