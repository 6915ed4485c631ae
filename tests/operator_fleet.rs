//! Many caches: no writes without changes, quick when all are created at once, and independent of each other.

use std::process::Stdio;
use std::time::Duration;

use falcon_operator::controller::watches;
use falcon_operator::crd::FalconCache;
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::watch;

use crate::harness::kubernetes::ControlPlane;
use crate::harness::namespace::TestNamespace;
use crate::harness::node::binary_of;
use crate::harness::operator::cache;
use crate::harness::{until, until_within};

async fn create(namespace: &TestNamespace, caches: impl IntoIterator<Item = Value>) {
    let api = namespace.api::<FalconCache>();
    stream::iter(caches)
        .for_each_concurrent(16, async |cache| {
            let cache = serde_json::from_value(cache).unwrap();
            api.create(&PostParams::default(), &cache).await.unwrap();
        })
        .await;
}

async fn sets(namespace: &TestNamespace) -> usize {
    let api = namespace.api::<StatefulSet>();
    let list = api.list_metadata(&ListParams::default()).await.unwrap();
    list.items.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_changes_there_are_no_writes() {
    let Some(namespace) = TestNamespace::create("quiet").await else {
        return;
    };
    create(
        &namespace,
        (0..20).map(|number| cache(&format!("cache-{number}"), &json!({"replicas": 1}))),
    )
    .await;
    // Twenty reconciles are those of ten minutes at twice the default rate.
    let operator = namespace.operator(Duration::from_millis(250));
    let (stop, stopped) = watch::channel(false);
    let ended = futures::FutureExt::shared(Box::pin(async move {
        let mut stopped = stopped;
        drop(stopped.wait_for(|stop| *stop).await.map(|stop| *stop));
    }) as futures::future::BoxFuture<'static, ()>);
    let working = tokio::spawn(watches::run(
        std::sync::Arc::clone(&operator.context),
        operator.client.clone(),
        ended,
    ));
    until("all are applied", || async {
        (sets(&namespace).await == 20).then_some(())
    })
    .await;
    // Quiet begins when Kubernetes has made the pods and every status tells of them.
    let api = namespace.api::<FalconCache>();
    until("every status is settled", || async {
        let caches = api.list(&ListParams::default()).await.unwrap();
        let told = |cache: &FalconCache| cache.status.as_ref().is_some_and(|it| it.replicas == 1);
        caches.iter().all(told).then_some(())
    })
    .await;
    let looks = async |wanted: u64| {
        let begin = operator.reconciles();
        until("so many looks", || async {
            (operator.reconciles() >= begin + wanted).then_some(())
        })
        .await;
    };
    // A reconcile that began before may still write the status.
    looks(40).await;
    let before = operator.writes();
    looks(400).await;
    assert_eq!(operator.writes() - before, 0);
    stop.send_replace(true);
    working.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_caches_at_once_are_applied_and_poisoned_ones_stop_none() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let Some(binary) = binary_of("operator") else {
        println!(
            "skipped: falcon-operator is not built beside the tests, or is older than its sources"
        );
        return;
    };
    let namespace = TestNamespace::create_in(cluster, "fleet").await;
    // A field that no pod has is a mistake that only the operator finds.
    let poison = json!({"pod": {"overrides": {"spec": {"hostNetwrk": true}}}});
    create(
        &namespace,
        (0..20).map(|number| cache(&format!("poisoned-{number}"), &poison)),
    )
    .await;
    let mut operator = Command::new(binary)
        .args([
            "run",
            "--watch-namespaces=fleet",
            "--leader-election=false",
            "--admin-port=0",
        ])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let begin = tokio::time::Instant::now();
    create(
        &namespace,
        (0..200).map(|number| cache(&format!("cache-{number}"), &json!({"replicas": 1}))),
    )
    .await;
    let created = begin.elapsed();
    until_within(Duration::from_mins(3), "all are applied", || async {
        (sets(&namespace).await == 200).then_some(())
    })
    .await;
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", operator.id().unwrap())).unwrap();
    let memory = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    println!(
        "200 caches: created in {created:.1?}, all applied after {:.1?}; the operator's memory: {memory}",
        begin.elapsed()
    );
    operator.kill().await.unwrap();
}
