//! A namespace of a test's own at the shared control plane, for operators that run in this process.

use std::time::Duration;

use falcon_operator::crd::FalconCache;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, Config, Resource};
use serde_json::{Value, json};

use super::kubernetes::ControlPlane;
use super::operator::{ApiConnection, Operator, cache};
use super::until_within;

/// Kinds that belong to no namespace.
const CLUSTER_WIDE: [&str; 4] = ["PriorityClass", "RuntimeClass", "Namespace", "Node"];

/// A namespace and a client with every right, whose requests are not counted.
pub(crate) struct TestNamespace {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) name: String,
}

impl TestNamespace {
    /// Creates it. `None` where this machine has no control plane.
    pub(crate) async fn create(name: &str) -> Option<Self> {
        Some(Self::create_in(ControlPlane::shared().await?, name).await)
    }

    /// Creates it in this control plane.
    pub(crate) async fn create_in(cluster: &ControlPlane, name: &str) -> Self {
        cluster.namespace(name).await;
        Self {
            config: cluster.config().await,
            client: cluster.client().await,
            name: name.to_owned(),
        }
    }

    /// A new process of the operator, which watches this namespace alone.
    pub(crate) fn operator(&self, resync: Duration) -> Operator {
        self.operator_over(resync, ApiConnection::default())
    }

    /// As [`Self::operator`], with this connection to the API server.
    pub(crate) fn operator_over(&self, resync: Duration, connection: ApiConnection) -> Operator {
        Operator::start(&self.config, &self.name, resync, connection)
    }

    /// The objects of one kind.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates a FalconCache.
    pub(crate) async fn create_cache(&self, name: &str, spec: &Value) {
        let cache: FalconCache = serde_json::from_value(cache(name, spec)).unwrap();
        let api = self.api::<FalconCache>();
        api.create(&PostParams::default(), &cache).await.unwrap();
    }

    /// Applies an object of any kind, also of those that belong to no namespace.
    pub(crate) async fn apply(&self, object: &Value) {
        let text = |path| object.pointer(path).and_then(Value::as_str).unwrap();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = if CLUSTER_WIDE.contains(&kind) {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.name, &resource)
        };
        let how = PatchParams::apply("test").force();
        api.patch(text("/metadata/name"), &how, &Patch::Apply(object))
            .await
            .unwrap();
    }

    /// The StatefulSet of a cache.
    pub(crate) async fn stateful_set(&self, name: &str) -> Option<StatefulSet> {
        self.api().get_opt(name).await.unwrap()
    }

    /// The status of a cache, once it is as wanted.
    pub(crate) async fn status(
        &self,
        name: &str,
        within: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let api = self.api::<FalconCache>();
        until_within(within, &format!("{name}: {what}"), || async {
            let status = json!(api.get(name).await.unwrap().status);
            if !wanted(&status) {
                println!("{name}: {}", condition(&status, "Ready"));
            }
            wanted(&status).then_some(status)
        })
        .await
    }
}

/// The condition of this type; null if there is none.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array();
    all.and_then(|all| all.iter().find(|one| one["type"] == kind))
        .unwrap_or(&Value::Null)
}
