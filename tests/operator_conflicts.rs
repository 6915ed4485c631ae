//! Several installations of the operator over the same caches, and several caches over the same name or ring, at a real API server.

use std::time::Duration;

use falcon_operator::crd::FalconCache;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::harness::kubernetes::ControlPlane;
use crate::harness::operator::{ApiConnection, Operator, cache, objects};
use crate::harness::until_within;

const WITHIN: Duration = Duration::from_secs(30);
const RESYNC: Duration = Duration::from_secs(5);

async fn create(client: &Client, namespace: &str, name: &str, spec: &Value) {
    let api: Api<FalconCache> = Api::namespaced(client.clone(), namespace);
    let cache = serde_json::from_value(cache(name, spec)).unwrap();
    api.create(&PostParams::default(), &cache).await.unwrap();
}

async fn reason(client: &Client, namespace: &str, name: &str, kind: &str) -> Option<String> {
    let api: Api<FalconCache> = Api::namespaced(client.clone(), namespace);
    let conditions = api.get(name).await.unwrap().status?.conditions;
    let found = conditions
        .into_iter()
        .find(|condition| condition.type_ == kind);
    found.map(|condition| condition.reason)
}

async fn becomes(client: &Client, namespace: &str, name: &str, kind: &str, wanted: &str) {
    until_within(WITHIN, &format!("{name}: {kind} {wanted}"), || async {
        (reason(client, namespace, name, kind).await.as_deref() == Some(wanted)).then_some(())
    })
    .await;
}

async fn set(client: &Client, namespace: &str, name: &str) -> Option<StatefulSet> {
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_cache_of_a_name_adopts_orphans_of_the_deleted_one() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let namespace = "orphaned";
    cluster.namespace(namespace).await;
    let client = cluster.client().await;
    let operator = Operator::start(
        &cluster.config().await,
        namespace,
        RESYNC,
        ApiConnection::default(),
    );
    let _at_work = operator.run();
    create(&client, namespace, "models", &json!({"replicas": 2})).await;
    becomes(&client, namespace, "models", "Progressing", "Creating").await;
    until_within(WITHIN, "the set is made", || async {
        set(&client, namespace, "models").await
    })
    .await;
    let before = set(&client, namespace, "models").await.unwrap();

    let caches: Api<FalconCache> = Api::namespaced(client.clone(), namespace);
    caches
        .delete("models", &DeleteParams::orphan())
        .await
        .unwrap();
    // The garbage collector of Kubernetes learns of new kinds every half minute.
    until_within(Duration::from_mins(2), "the cache goes", || async {
        caches
            .get_opt("models")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    let orphan = set(&client, namespace, "models").await.unwrap();
    assert_eq!(
        (orphan.uid(), orphan.owner_references().len()),
        (before.uid(), 0)
    );

    create(&client, namespace, "models", &json!({"replicas": 2})).await;
    let uid = caches.get("models").await.unwrap().uid();
    until_within(WITHIN, "the set is adopted", || async {
        let set = set(&client, namespace, "models").await?;
        let owners = set.owner_references();
        (owners.len() == 1 && Some(&owners[0].uid) == uid.as_ref()).then_some(())
    })
    .await;
    assert_eq!(
        set(&client, namespace, "models").await.unwrap().uid(),
        before.uid()
    );
    becomes(&client, namespace, "models", "Degraded", "AsExpected").await;
    for object in objects(&client, namespace, "models")
        .await
        .as_array()
        .unwrap()
    {
        let owned = object["metadata"]["ownerReferences"].is_array();
        assert!(owned || object["kind"] == "Secret", "{object}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_someone_elses_object_is_not_taken_until_it_is_free() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let namespace = "name-taken";
    cluster.namespace(namespace).await;
    let client = cluster.client().await;
    let operator = Operator::start(
        &cluster.config().await,
        namespace,
        RESYNC,
        ApiConnection::default(),
    );
    let _at_work = operator.run();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let theirs = serde_json::from_value(json!({"metadata": {"name": "taken"}})).unwrap();
    accounts
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    create(&client, namespace, "taken", &json!({"replicas": 1})).await;
    becomes(&client, namespace, "taken", "Ready", "NameTaken").await;
    // And it heals when that goes.
    accounts
        .delete("taken", &DeleteParams::default())
        .await
        .unwrap();
    becomes(&client, namespace, "taken", "Ready", "Creating").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_caches_of_one_discovery_id_are_one_ring_and_one_refusal() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let namespace = "one-ring";
    cluster.namespace(namespace).await;
    let client = cluster.client().await;
    let operator = Operator::start(
        &cluster.config().await,
        namespace,
        RESYNC,
        ApiConnection::default(),
    );
    let spec = json!({"replicas": 1, "discovery": {"id": "ring"}});
    create(&client, namespace, "elder", &spec).await;
    let caches: Api<FalconCache> = Api::namespaced(client.clone(), namespace);
    let elder = caches.get("elder").await.unwrap().creation_timestamp();
    // Creation times are whole seconds.
    until_within(WITHIN, "the next second", || async {
        (Timestamp::now().as_second() > elder.as_ref().unwrap().0.as_second()).then_some(())
    })
    .await;
    create(&client, namespace, "younger", &spec).await;
    let _at_work = operator.run();
    becomes(&client, namespace, "younger", "Ready", "DiscoveryIdTaken").await;
    becomes(&client, namespace, "elder", "Ready", "Creating").await;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    assert!(services.get_opt("younger-peers").await.unwrap().is_none());
    assert!(set(&client, namespace, "younger").await.is_none());

    caches
        .delete("elder", &DeleteParams::default())
        .await
        .unwrap();
    becomes(&client, namespace, "younger", "Ready", "Creating").await;
    assert!(set(&client, namespace, "younger").await.is_some());
}

/// Renews a Lease as a leader does.
async fn renew(leases: &Api<Lease>) {
    loop {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "first"},
                           "spec": {"holderIdentity": "first-0", "renewTime": MicroTime(Timestamp::now())}});
        let how = PatchParams::apply("first").force();
        leases
            .patch("first", &how, &Patch::Apply(lease))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_do_not_fight_and_the_second_takes_over_from_the_first() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let namespace = "conflicts";
    cluster.namespace(namespace).await;
    let client = cluster.client().await;
    let config = cluster.config().await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let renewal = tokio::spawn(async move { renew(&leases).await });
    let first = Operator::installed_as(
        "conflicts/first",
        &config,
        namespace,
        RESYNC,
        ApiConnection::default(),
    );
    let second = Operator::installed_as(
        "conflicts/second",
        &config,
        namespace,
        RESYNC,
        ApiConnection::default(),
    );
    let first_at_work = first.run();
    create(&client, namespace, "models", &json!({"replicas": 1})).await;
    becomes(&client, namespace, "models", "Ready", "Creating").await;
    let _second_at_work = second.run();
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let before = bindings.get("models").await.unwrap();
    assert_eq!(before.role_ref.name, "first-cache");
    // Several reconciles of both.
    until_within(
        WITHIN + WITHIN,
        "both have reconciled several times",
        || async { (first.reconciles() >= 4 && second.reconciles() >= 4).then_some(()) },
    )
    .await;
    let after = bindings.get("models").await.unwrap();
    assert_eq!(before.uid(), after.uid(), "the binding was recreated");
    assert!(
        second.writes() <= 1,
        "{} writes of the second, beyond its event",
        second.writes()
    );
    let caches: Api<FalconCache> = Api::namespaced(client.clone(), namespace);
    let operator = async || caches.get("models").await.unwrap().status.unwrap().operator;
    assert_eq!(operator().await.as_deref(), Some("conflicts/first"));

    // The first is uninstalled.
    drop(first_at_work);
    renewal.abort();
    until_within(Duration::from_mins(3), "the second takes over", || async {
        (operator().await.as_deref() == Some("conflicts/second")).then_some(())
    })
    .await;
    until_within(WITHIN, "the binding is the second's", || async {
        let binding = bindings.get_opt("models").await.unwrap()?;
        (binding.role_ref.name == "second-cache").then_some(())
    })
    .await;
}
