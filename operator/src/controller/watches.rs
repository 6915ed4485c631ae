//! Watches: FalconCaches in full, the objects that they own by metadata only, and only those with our label.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, ListParams, PartialObjectMeta};
use kube::client::Client;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::controller::{Context, Watched, error_policy, reconcile};
use crate::observe::reachability;
use crate::resources::meta::{INSTANCE, MANAGED_BY, OPERATOR};

/// A watch is renewed after this: with the default of five minutes a dead connection would miss changes for too long.
const WATCH_TIMEOUT_SECONDS: u32 = 60;
/// Events within this are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Timeout of one request.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two checks for the CRD.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Reconciles caches until `stop`, then finishes the running reconciles.
pub async fn run(
    context: Arc<Context>,
    client: Client,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let namespaces = context.settings.namespaces.clone();
    let (notify, reachability_changes) = watch::channel(());
    let mut controllers: Vec<BoxStream<'static, ()>> = Vec::new();
    if namespaces.is_empty() {
        controllers.push(start_controller(
            &context,
            &Scope {
                client,
                namespace: None,
            },
            reachability_changes,
            stop,
        ));
    } else {
        for namespace in namespaces {
            let scope = Scope {
                client: client.clone(),
                namespace: Some(namespace),
            };
            controllers.push(start_controller(
                &context,
                &scope,
                reachability_changes.clone(),
                stop.clone(),
            ));
        }
    }
    let work = stream::select_all(controllers).for_each(std::future::ready);
    tokio::select! {
        () = work => {}
        () = probe_pods(&context, &notify) => {}
    }
}

/// Probes the pods periodically, and triggers a reconcile of all caches when other pods are reachable than before.
async fn probe_pods(context: &Context, notify: &watch::Sender<()>) {
    loop {
        sleep(reachability::PROBE_INTERVAL).await;
        if context.observer.probe_pods().await {
            notify.send_replace(());
        }
    }
}

/// Returns when FalconCaches can be listed, and reports meanwhile why not.
pub async fn wait_for_definition(client: &Client, namespaces: &[String], say: impl Fn(&str)) {
    let api: Api<Watched> = match namespaces.first() {
        None => Api::all(client.clone()),
        Some(namespace) => Api::namespaced(client.clone(), namespace),
    };
    loop {
        match timeout(LIST_TIMEOUT, api.list(&ListParams::default().limit(1))).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
                say("the CustomResourceDefinition falconcaches.falconcache.io");
            }
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                say(&format!(
                    "permission to list FalconCaches: {}",
                    status.message
                ));
            }
            Ok(Err(error)) => say(&format!("the API server: {error}")),
            Err(_) => say("the API server: it does not respond"),
        }
        sleep(CHECK_INTERVAL).await;
    }
}

struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        match &self.namespace {
            None => Api::all(self.client.clone()),
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
        }
    }
}

fn start_controller(
    context: &Arc<Context>,
    scope: &Scope,
    reachability_changes: watch::Receiver<()>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> BoxStream<'static, ()> {
    let caches = watcher::Config::default().timeout(WATCH_TIMEOUT_SECONDS);
    let controller = Controller::new(scope.api::<Watched>(), caches)
        .with_config(controller::Config::default().debounce(DEBOUNCE));
    let known = controller.store();
    let controller = owned::<StatefulSet>(controller, scope);
    let controller = owned::<Pod>(controller, scope);
    let controller = owned::<Service>(controller, scope);
    let controller = owned::<ServiceAccount>(controller, scope);
    let controller = owned::<RoleBinding>(controller, scope);
    let controller = owned::<NetworkPolicy>(controller, scope);
    let controller = owned::<PodDisruptionBudget>(controller, scope);
    let metrics = Arc::clone(&context.metrics);
    let reachability_changes = stream::unfold(
        reachability_changes,
        |mut reachability_changes| async move {
            reachability_changes.changed().await.ok()?;
            Some(((), reachability_changes))
        },
    );
    controller
        .reconcile_all_on(reachability_changes)
        .graceful_shutdown_on(stop)
        .run(
            reconcile,
            |seen, error, context| error_policy(&seen, error, &context),
            Arc::clone(context),
        )
        .map(move |result| {
            metrics.set_caches(known.len());
            match result {
                // Logged by `error_policy`, or no failure at all: a deleted object.
                Ok(_)
                | Err(
                    controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_),
                ) => {}
                Err(error) => tracing::warn!(%error, "a watch failed; restarting it"),
            }
        })
        .boxed()
}

/// Found by label and not by owner: a pod is owned by its StatefulSet, and changed owners of our objects should trigger
/// a reconcile, too.
fn owned<K>(controller: Controller<Watched>, scope: &Scope) -> Controller<Watched>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let ours = watcher::Config::default()
        .timeout(WATCH_TIMEOUT_SECONDS)
        .labels(&format!("{MANAGED_BY}={OPERATOR}"));
    controller.watches(scope.api::<PartialObjectMeta<K>>(), ours, |object| {
        let name = object.labels().get(INSTANCE)?;
        let namespace = object.namespace()?;
        Some(ObjectRef::<Watched>::new(name).within(&namespace))
    })
}
