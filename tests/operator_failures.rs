//! What keeps pods from existing or serving, at a real API server without nodes: it is reported within seconds, and cleared when its cause is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use falcon_operator::crd::FalconCache;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::kubernetes::ControlPlane;
use crate::harness::operator::{ApiConnection, Operator, cache};
use crate::harness::until_within;

/// The promise, on a machine that others keep busy.
const WITHIN: Duration = Duration::from_secs(20);
/// The StatefulSet's controller is made to retry at least once a minute.
const HEALED_WITHIN: Duration = Duration::from_secs(90);
const RESYNC: Duration = Duration::from_mins(1);

struct Place<'a> {
    client: Client,
    namespace: &'a str,
}

impl Place<'_> {
    async fn apply(&self, object: &Value) {
        let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(group, version, kind));
        let clusterwide = ["PriorityClass", "RuntimeClass", "Namespace", "Node"];
        let api: Api<DynamicObject> = if clusterwide.contains(&kind.kind.as_str()) {
            Api::all_with(self.client.clone(), &kind)
        } else {
            Api::namespaced_with(self.client.clone(), self.namespace, &kind)
        };
        let how = PatchParams::apply("test").force();
        api.patch(text(object, "/metadata/name"), &how, &Patch::Apply(object))
            .await
            .unwrap();
    }

    /// The status of a cache when it is as wanted.
    async fn status(
        &self,
        name: &str,
        within: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let api: Api<FalconCache> = Api::namespaced(self.client.clone(), self.namespace);
        let what = format!("{name}: {what}");
        until_within(within, &what, || async {
            let cache = api.get(name).await.unwrap();
            let status = json!(cache.status);
            if !wanted(&status) {
                println!("{name}: {}", condition(&status, "Ready"));
            }
            wanted(&status).then_some(status)
        })
        .await
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap()
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array();
    all.and_then(|all| all.iter().find(|one| one["type"] == kind))
        .unwrap_or(&Value::Null)
}

fn quota(hard: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": hard}})
}

/// The namespace of the cache that asks for the host's network, with this standard.
fn enforced(level: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "refused-standard", "labels": {"pod-security.kubernetes.io/enforce": level}}})
}

/// A class that pods refer to.
fn class(kind: &str, group: &str, more: (&str, Value)) -> Value {
    let mut object =
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": LATE}});
    object[more.0] = more.1;
    object
}

/// Name of what is there too late.
const LATE: &str = "late-comer";

/// The cache's name, the reason and a word of the message, what is there before, the spec, and what heals it.
type Cause = (
    &'static str,
    &'static str,
    &'static str,
    Option<Value>,
    Value,
    Value,
);

/// What keeps pods from being created.
fn causes() -> Vec<Cause> {
    vec![
        (
            "pods",
            "QuotaExceeded",
            "exceeded quota: quota",
            Some(quota(&json!({"pods": "1"}))),
            json!({}),
            quota(&json!({"pods": "9"})),
        ),
        (
            "cpu",
            "QuotaExceeded",
            "limits.cpu",
            Some(quota(&json!({"limits.cpu": "8"}))),
            json!({}),
            quota(&json!({"pods": "9"})),
        ),
        (
            "priority",
            "PriorityClassMissing",
            "late-comer",
            None,
            json!({"pod": {"priorityClassName": LATE}}),
            class("PriorityClass", "scheduling.k8s.io", ("value", json!(7))),
        ),
        (
            "runtime",
            "RuntimeClassMissing",
            "late-comer",
            None,
            json!({"pod": {"overrides": {"spec": {"runtimeClassName": LATE}}}}),
            class("RuntimeClass", "node.k8s.io", ("handler", json!("runc"))),
        ),
        (
            "account",
            "ServiceAccountMissing",
            "late-comer",
            None,
            json!({"origin": {"serviceAccountName": LATE}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": LATE}}),
        ),
        (
            "standard",
            "PodSecurityViolation",
            "hostNetwork",
            Some(enforced("restricted")),
            json!({"pod": {"overrides": {"spec": {"hostNetwork": true}}}}),
            enforced("privileged"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_pods_from_being_created_is_reported_and_recovers() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let config = cluster.config().await;
    let mut operators = Vec::new();
    for (name, _, _, before, spec, _) in causes() {
        let namespace = format!("refused-{name}");
        cluster.namespace(&namespace).await;
        let place = Place {
            client: cluster.client().await,
            namespace: &namespace,
        };
        if let Some(before) = before {
            place.apply(&before).await;
        }
        let operator = Operator::start(&config, &namespace, RESYNC, ApiConnection::default());
        let at_work = operator.run();
        operators.push((operator, at_work));
        let mut spec = spec;
        spec["replicas"] = json!(2);
        let api: Api<FalconCache> = Api::namespaced(place.client.clone(), &namespace);
        let cache = serde_json::from_value(cache(name, &spec)).unwrap();
        api.create(&PostParams::default(), &cache).await.unwrap();
        let begin = tokio::time::Instant::now();
        let why = causes().into_iter().find(|cause| cause.0 == name).unwrap();
        let status = place
            .status(name, WITHIN, why.1, |status| {
                condition(status, "Ready")["reason"] == why.1
            })
            .await;
        let degraded = condition(&status, "Degraded");
        println!("{name}: after {:.1?}: {degraded}", begin.elapsed());
        assert_eq!(degraded["status"], "True");
        assert!(text(degraded, "/message").contains(why.2), "{degraded}");
    }
    for (name, _, _, _, _, cure) in causes() {
        let namespace = format!("refused-{name}");
        let place = Place {
            client: cluster.client().await,
            namespace: &namespace,
        };
        place.apply(&cure).await;
    }
    for (name, ..) in causes() {
        let namespace = format!("refused-{name}");
        let place = Place {
            client: cluster.client().await,
            namespace: &namespace,
        };
        place
            .status(name, HEALED_WITHIN, "its pods exist", |status| {
                status["replicas"] == 2 && condition(status, "Degraded")["status"] == "False"
            })
            .await;
    }
}

/// A pod's admin port, which responds until this is dropped.
struct Admin {
    answering: JoinHandle<()>,
    /// Probes so far.
    asked: Arc<AtomicUsize>,
}

impl Admin {
    async fn at(ip: &str) -> Self {
        let listener = TcpListener::bind((ip, 9095)).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answering = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let page = "falcon_origin_requests_total{op=\"get\",code=\"ok\"} 1\n";
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                    page.len()
                );
                // A client that has gone is none of the pod's worries.
                if socket.read(&mut request).await.is_ok() {
                    drop(socket.write_all(answer.as_bytes()).await);
                }
                if request.starts_with(b"GET /healthz") {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { answering, asked }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

/// A pod as the kubelet of this node would report it.
async fn run_pod(place: &Place<'_>, name: &str, ip: &str) {
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), place.namespace);
    until_within(WITHIN, "the set makes its pods", || async {
        pods.get_opt(name).await.unwrap()
    })
    .await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "node-that-dies"}});
    pods.create_subresource::<Value, Value>("binding", name, &PostParams::default(), &binding)
        .await
        .unwrap();
    let status = json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True"}]
    }});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn pods_of_a_dead_node_are_not_counted_whatever_their_condition_says() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    cluster.namespace("dead-node").await;
    let place = Place {
        client: cluster.client().await,
        namespace: "dead-node",
    };
    place
        .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-that-dies"}}))
        .await;
    let operator = Operator::start(
        &cluster.config().await,
        "dead-node",
        RESYNC,
        ApiConnection::default(),
    );
    let _at_work = operator.run();
    let caches: Api<FalconCache> = Api::namespaced(place.client.clone(), "dead-node");
    let spec = json!({"replicas": 3});
    let cache = serde_json::from_value(cache("models", &spec)).unwrap();
    caches.create(&PostParams::default(), &cache).await.unwrap();
    let mut admins = Vec::new();
    for (pod, ip) in [
        ("models-0", "127.9.9.1"),
        ("models-1", "127.9.9.2"),
        ("models-2", "127.9.9.3"),
    ] {
        admins.push(Admin::at(ip).await);
        run_pod(&place, pod, ip).await;
    }
    let ready =
        |status: &Value| status["ready"] == "3/3" && condition(status, "Ready")["status"] == "True";
    place.status("models", WITHIN, "all answer", ready).await;
    // Until each of them has responded once.
    let sets: Api<StatefulSet> = Api::namespaced(place.client.clone(), "dead-node");
    until_within(WITHIN, "the pods are asked", || async {
        let asked = |admin: &Admin| admin.asked.load(Ordering::Relaxed) > 0;
        admins.iter().all(asked).then_some(())
    })
    .await;

    // The node is gone: its pod no longer responds, and no condition says so.
    drop(admins.pop());
    let begin = tokio::time::Instant::now();
    let status = place
        .status("models", WITHIN, "one does not answer", |status| {
            status["ready"] == "2/3"
        })
        .await;
    println!(
        "after {:.1?}: {}",
        begin.elapsed(),
        condition(&status, "Ready")
    );
    assert_eq!(condition(&status, "Ready")["reason"], "NotResponding");
    let message = text(condition(&status, "Ready"), "/message");
    assert!(
        message.contains("models-2") && message.contains("node-that-dies"),
        "{message}"
    );
    let set = sets.get("models").await.unwrap();
    assert_eq!(
        set.status.unwrap().ready_replicas,
        Some(3),
        "Kubernetes does not know"
    );
    admins.push(Admin::at("127.9.9.3").await);
    place.status("models", WITHIN, "it is back", ready).await;

    // It is deleted, and no kubelet confirms that it terminated.
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), "dead-node");
    pods.delete("models-2", &DeleteParams::default().grace_period(1))
        .await
        .unwrap();
    place
        .status("models", WITHIN, "it does not count", |status| {
            status["ready"] == "2/3" && condition(status, "Ready")["status"] == "False"
        })
        .await;
    let status = place
        .status("models", WITHIN + WITHIN, "what to do is said", |status| {
            condition(status, "Degraded")["reason"] == "DeletionNotConfirmed"
        })
        .await;
    assert!(text(condition(&status, "Degraded"), "/message").contains("node-that-dies"));
}
