//! The objects of a cache, on a real API server with exactly the permissions of the chart.

use serde_json::{Value, json};

use crate::harness::cluster::{Cluster, operator};
use crate::harness::until;

/// Waits until there is such an object, or until there is none.
async fn is_there(cluster: &Cluster, what: &str, wanted: bool) {
    let name = format!("{what} {}", if wanted { "is made" } else { "goes" });
    until(&name, || async {
        let found = cluster
            .sh(&format!("kubectl get {what} --ignore-not-found -o name"))
            .await;
        (found.is_empty() != wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_disabled_is_deleted_and_what_is_enabled_again_is_recreated() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster.apply("switched", &json!({"replicas": 1})).await;
    cluster.ready("switched").await;
    let before = cluster.get("pods").await["items"][0]["metadata"]["uid"].clone();
    let all = [
        "networkpolicy/switched",
        "poddisruptionbudget/switched",
        "podmonitor/switched",
    ];
    for (on, other) in [(true, false), (false, false), (true, true), (true, false)] {
        let kind = if other {
            "ServiceMonitor"
        } else {
            "PodMonitor"
        };
        let spec = json!({
            "networkPolicy": {"enabled": on}, "disruption": {"enabled": on}, "monitoring": {"enabled": on, "kind": kind}
        });
        cluster
            .sh(&format!(
                "kubectl patch fcache switched --type=merge -p '{{\"spec\": {spec}}}'"
            ))
            .await;
        for what in all {
            is_there(
                &cluster,
                what,
                on && !(other && what.starts_with("podmonitor")),
            )
            .await;
        }
        is_there(&cluster, "servicemonitor/switched", other).await;
    }
    let pods = cluster.get("pods").await;
    assert_eq!(
        pods["items"][0]["metadata"]["uid"], before,
        "no pod was touched"
    );

    // The user's service account replaces ours.
    cluster.sh("kubectl create serviceaccount mine").await;
    cluster
        .sh("kubectl patch fcache switched --type=merge -p '{\"spec\": {\"origin\": {\"serviceAccountName\": \"mine\"}}}'")
        .await;
    is_there(&cluster, "serviceaccount/switched", false).await;
    cluster
        .status(
            "switched",
            "has settled",
            settled_at(&cluster, "switched").await,
        )
        .await;
    cluster.ready("switched").await;
}

/// Whether the current generation was observed, and the rollout is complete.
async fn settled_at(cluster: &Cluster, name: &str) -> impl Fn(&Value) -> bool + use<> {
    let cache = cluster.get(&format!("fcache {name}")).await;
    let generation = cache["metadata"]["generation"].clone();
    move |status| {
        let conditions = status["conditions"].as_array();
        status["observedGeneration"] == generation
            && conditions.is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "Progressing" && one["reason"] == "Complete")
            })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_whose_immutable_fields_differ_are_recreated_and_pods_stay() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    let endpoints = json!({"replicas": 2, "discovery": {"api": "Endpoints"}});
    cluster.apply("anew", &endpoints).await;
    cluster.ready("anew").await;
    let uids = async || -> Vec<Value> {
        let pods = cluster.get("pods").await;
        let items = pods["items"].as_array().unwrap().iter();
        items.map(|pod| pod["metadata"]["uid"].clone()).collect()
    };
    let before = uids().await;

    // As an operator of another version may have left them: with other values where no object can be changed.
    cluster
        .sh(r#"
kubectl patch fcache anew --type=merge -p '{"spec": {"paused": true}}'
kubectl wait --for=condition=Paused fcache/anew --timeout=1m
edit() { # KIND NAME PYTHON: the object once more, changed
  kubectl get "$1" "$2" -o json >object.json
  python3 -c "
import json, sys
o = json.load(open('object.json'))
for field in ('uid', 'resourceVersion', 'managedFields', 'creationTimestamp', 'generation'): o['metadata'].pop(field, None)
o.pop('status', None)
$3
json.dump(o, open('object.json', 'w'))"
  kubectl delete "$1" "$2" --cascade=orphan
  kubectl create -f object.json
}
cd "$(mktemp -d)"
edit statefulset anew "o['spec']['podManagementPolicy'] = 'OrderedReady'"
edit rolebinding anew "o['roleRef']['name'] = 'view'"
edit service anew-peers "o['spec'] = {'ports': o['spec']['ports'], 'selector': o['spec']['selector']}"
kubectl patch fcache anew --type=merge -p '{"spec": {"paused": false}}'
"#)
        .await;
    cluster
        .status("anew", "has settled", settled_at(&cluster, "anew").await)
        .await;
    until("all three are as they should be", || async {
        let set = cluster.get("statefulset anew").await;
        let binding = cluster.get("rolebinding anew").await;
        let service = cluster.get("service anew-peers").await;
        (set["spec"]["podManagementPolicy"] == "Parallel"
            && binding["roleRef"]["name"] == "falcon-cache"
            && service["spec"]["clusterIP"] == "None")
            .then_some(())
    })
    .await;
    cluster.ready("anew").await;
    assert_eq!(uids().await, before);
    cluster.ring_of("anew", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_someone_else_are_not_touched() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster
        .sh("kubectl create service clusterip theirs --tcp=80")
        .await;
    cluster.apply("theirs", &json!({"replicas": 1})).await;
    let status = cluster
        .status("theirs", "names what is taken", |status| {
            let conditions = status["conditions"].as_array();
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "Ready" && one["reason"] == "NameTaken")
            })
        })
        .await;
    let message = status["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("Service theirs"), "{message}");
    let service = cluster.get("service theirs").await;
    assert!(service["metadata"]["ownerReferences"].is_null());

    cluster.sh("kubectl delete service theirs").await;
    cluster.ready("theirs").await;
}
