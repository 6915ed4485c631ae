//! What is watched: caches whole, what they own by its metadata only, and nothing that does not carry our label.

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

use crate::controller::{Context, Watched, reconcile, try_again};
use crate::observe::pulse;
use crate::resources::meta::{INSTANCE, MANAGED_BY, OPERATOR};

/// A watch that has been silent for this long is dead: the default of five minutes is too long to miss a change.
const SILENCE_SECONDS: u32 = 60;
/// Events of one moment are one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// For one look.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks for the definition.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Reconciles caches until `stop`, then finishes what runs.
pub async fn run(
    context: Arc<Context>,
    client: Client,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let namespaces = context.settings.namespaces.clone();
    let (heard, news) = watch::channel(());
    let mut controllers: Vec<BoxStream<'static, ()>> = Vec::new();
    if namespaces.is_empty() {
        controllers.push(one(
            &context,
            &Scope {
                client,
                namespace: None,
            },
            news,
            stop,
        ));
    } else {
        for namespace in namespaces {
            let scope = Scope {
                client: client.clone(),
                namespace: Some(namespace),
            };
            controllers.push(one(&context, &scope, news.clone(), stop.clone()));
        }
    }
    let work = stream::select_all(controllers).for_each(std::future::ready);
    tokio::select! {
        () = work => {}
        () = listen(&context, &heard) => {}
    }
}

/// Asks the pods again and again whether they answer, and calls for a look at the caches when others do than before.
async fn listen(context: &Context, heard: &watch::Sender<()>) {
    loop {
        sleep(pulse::EVERY).await;
        if context.observer.listen().await {
            heard.send_replace(());
        }
    }
}

/// Returns when caches can be listed, and says meanwhile why not.
pub async fn wait_for_definition(client: &Client, namespaces: &[String], say: impl Fn(&str)) {
    let api: Api<Watched> = match namespaces.first() {
        None => Api::all(client.clone()),
        Some(namespace) => Api::namespaced(client.clone(), namespace),
    };
    loop {
        match timeout(PATIENCE, api.list(&ListParams::default().limit(1))).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
                say("the CustomResourceDefinition falconcaches.falconcache.io");
            }
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
                say(&format!(
                    "the right to list FalconCaches: {}",
                    status.message
                ));
            }
            Ok(Err(error)) => say(&format!("the API server: {error}")),
            Err(_) => say("the API server: it does not answer"),
        }
        sleep(LOOK_AGAIN).await;
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

fn one(
    context: &Arc<Context>,
    scope: &Scope,
    news: watch::Receiver<()>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> BoxStream<'static, ()> {
    let caches = watcher::Config::default().timeout(SILENCE_SECONDS);
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
    let news = stream::unfold(news, |mut news| async move {
        news.changed().await.ok()?;
        Some(((), news))
    });
    controller
        .reconcile_all_on(news)
        .graceful_shutdown_on(stop)
        .run(
            reconcile,
            |seen, error, context| try_again(&seen, error, &context),
            Arc::clone(context),
        )
        .map(move |result| {
            metrics.caches(known.len());
            match result {
                // Told by `try_again`, or no failure at all: an object that is gone.
                Ok(_)
                | Err(
                    controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_),
                ) => {}
                Err(error) => tracing::warn!(%error, "a watch is interrupted"),
            }
        })
        .boxed()
}

/// Found by label and not by owner: a pod is owned by its set, and what a stranger made of our object should wake us too.
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
        .timeout(SILENCE_SECONDS)
        .labels(&format!("{MANAGED_BY}={OPERATOR}"));
    controller.watches(scope.api::<PartialObjectMeta<K>>(), ours, |object| {
        let name = object.labels().get(INSTANCE)?;
        let namespace = object.namespace()?;
        Some(ObjectRef::<Watched>::new(name).within(&namespace))
    })
}
