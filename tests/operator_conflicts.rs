//! Several installations of the operator over the same caches, and several caches over the same name or ring, at a
//! real API server.

use std::time::Duration;

use falcon_operator::crd::FalconCache;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::namespace::{TestNamespace, condition};
use crate::harness::operator::{ApiConnection, Operator, objects};
use crate::harness::until_within;

const WITHIN: Duration = Duration::from_secs(30);
const RESYNC: Duration = Duration::from_secs(5);

async fn becomes(namespace: &TestNamespace, name: &str, kind: &str, reason: &str) {
    let what = format!("{kind} {reason}");
    let is_so = |status: &Value| condition(status, kind)["reason"] == reason;
    namespace.status(name, WITHIN, &what, is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_cache_of_a_name_adopts_orphans_of_the_deleted_one() {
    let Some(namespace) = TestNamespace::create("orphaned").await else {
        return;
    };
    let operator = namespace.operator(RESYNC);
    let _at_work = operator.run();
    namespace
        .create_cache("models", &json!({"replicas": 2}))
        .await;
    becomes(&namespace, "models", "Progressing", "Creating").await;
    let before = until_within(WITHIN, "the StatefulSet is created", || async {
        namespace.stateful_set("models").await
    })
    .await;

    let caches = namespace.api::<FalconCache>();
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
    let orphan = namespace.stateful_set("models").await.unwrap();
    assert_eq!(
        (orphan.uid(), orphan.owner_references().len()),
        (before.uid(), 0)
    );

    namespace
        .create_cache("models", &json!({"replicas": 2}))
        .await;
    let uid = caches.get("models").await.unwrap().uid();
    until_within(WITHIN, "the set is adopted", || async {
        let set = namespace.stateful_set("models").await?;
        let owners = set.owner_references();
        (owners.len() == 1 && Some(&owners[0].uid) == uid.as_ref()).then_some(())
    })
    .await;
    assert_eq!(
        namespace.stateful_set("models").await.unwrap().uid(),
        before.uid()
    );
    becomes(&namespace, "models", "Degraded", "AsExpected").await;
    for object in objects(&namespace.client, &namespace.name, "models")
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
    let Some(namespace) = TestNamespace::create("name-taken").await else {
        return;
    };
    let operator = namespace.operator(RESYNC);
    let _at_work = operator.run();
    let accounts = namespace.api::<ServiceAccount>();
    let theirs = serde_json::from_value(json!({"metadata": {"name": "taken"}})).unwrap();
    accounts
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    namespace
        .create_cache("taken", &json!({"replicas": 1}))
        .await;
    becomes(&namespace, "taken", "Ready", "NameTaken").await;
    // And it heals when that goes.
    accounts
        .delete("taken", &DeleteParams::default())
        .await
        .unwrap();
    becomes(&namespace, "taken", "Ready", "Creating").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_caches_of_one_discovery_id_are_one_ring_and_one_refusal() {
    let Some(namespace) = TestNamespace::create("one-ring").await else {
        return;
    };
    let operator = namespace.operator(RESYNC);
    let spec = json!({"replicas": 1, "discovery": {"id": "ring"}});
    namespace.create_cache("elder", &spec).await;
    let caches = namespace.api::<FalconCache>();
    let elder = caches.get("elder").await.unwrap().creation_timestamp();
    // Creation times are whole seconds.
    until_within(WITHIN, "the next second", || async {
        (Timestamp::now().as_second() > elder.as_ref().unwrap().0.as_second()).then_some(())
    })
    .await;
    namespace.create_cache("younger", &spec).await;
    let _at_work = operator.run();
    becomes(&namespace, "younger", "Ready", "DiscoveryIdTaken").await;
    becomes(&namespace, "elder", "Ready", "Creating").await;
    let services = namespace.api::<Service>();
    assert!(services.get_opt("younger-peers").await.unwrap().is_none());
    assert!(namespace.stateful_set("younger").await.is_none());

    caches
        .delete("elder", &DeleteParams::default())
        .await
        .unwrap();
    becomes(&namespace, "younger", "Ready", "Creating").await;
    assert!(namespace.stateful_set("younger").await.is_some());
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
    let Some(namespace) = TestNamespace::create("conflicts").await else {
        return;
    };
    let leases = namespace.api::<Lease>();
    let renewal = tokio::spawn(async move { renew(&leases).await });
    let installed_as = |installation| {
        let connection = ApiConnection::default();
        Operator::installed_as(
            installation,
            &namespace.config,
            &namespace.name,
            RESYNC,
            connection,
        )
    };
    let first = installed_as("conflicts/first");
    let second = installed_as("conflicts/second");
    let first_at_work = first.run();
    namespace
        .create_cache("models", &json!({"replicas": 1}))
        .await;
    becomes(&namespace, "models", "Ready", "Creating").await;
    let _second_at_work = second.run();
    let bindings = namespace.api::<RoleBinding>();
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
    let caches = namespace.api::<FalconCache>();
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
