//! What keeps pods from existing or serving, at a real API server without nodes: it is reported within seconds, and
//! cleared when its cause is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::kubernetes::ControlPlane;
use crate::harness::namespace::{TestNamespace, condition};
use crate::harness::until_within;

/// The promise, on a machine that others keep busy.
const WITHIN: Duration = Duration::from_secs(20);
/// The StatefulSet's controller is made to retry at least once a minute.
const HEALED_WITHIN: Duration = Duration::from_secs(90);
const RESYNC: Duration = Duration::from_mins(1);

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap()
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
    let mut running = Vec::new();
    let mut cures = Vec::new();
    for (name, reason, words, before, mut spec, cure) in causes() {
        let namespace = TestNamespace::create_in(cluster, &format!("refused-{name}")).await;
        if let Some(before) = before {
            namespace.apply(&before).await;
        }
        let operator = namespace.operator(RESYNC);
        let at_work = operator.run();
        running.push((operator, at_work));
        spec["replicas"] = json!(2);
        namespace.create_cache(name, &spec).await;
        let begin = tokio::time::Instant::now();
        let status = namespace
            .status(name, WITHIN, reason, |status| {
                condition(status, "Ready")["reason"] == reason
            })
            .await;
        let degraded = condition(&status, "Degraded");
        println!("{name}: after {:.1?}: {degraded}", begin.elapsed());
        assert_eq!(degraded["status"], "True");
        assert!(text(degraded, "/message").contains(words), "{degraded}");
        cures.push((namespace, name, cure));
    }
    for (namespace, _, cure) in &cures {
        namespace.apply(cure).await;
    }
    for (namespace, name, _) in &cures {
        namespace
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
async fn run_pod(namespace: &TestNamespace, name: &str, ip: &str) {
    let pods = namespace.api::<Pod>();
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
    let Some(namespace) = TestNamespace::create("dead-node").await else {
        return;
    };
    namespace
        .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-that-dies"}}))
        .await;
    let operator = namespace.operator(RESYNC);
    let _at_work = operator.run();
    namespace
        .create_cache("models", &json!({"replicas": 3}))
        .await;
    let mut admins = Vec::new();
    for (pod, ip) in [
        ("models-0", "127.9.9.1"),
        ("models-1", "127.9.9.2"),
        ("models-2", "127.9.9.3"),
    ] {
        admins.push(Admin::at(ip).await);
        run_pod(&namespace, pod, ip).await;
    }
    let ready =
        |status: &Value| status["ready"] == "3/3" && condition(status, "Ready")["status"] == "True";
    namespace
        .status("models", WITHIN, "all answer", ready)
        .await;
    // Until each of them has responded once.
    let sets = namespace.api::<StatefulSet>();
    until_within(WITHIN, "the pods are asked", || async {
        let asked = |admin: &Admin| admin.asked.load(Ordering::Relaxed) > 0;
        admins.iter().all(asked).then_some(())
    })
    .await;

    // The node is gone: its pod no longer responds, and no condition says so.
    drop(admins.pop());
    let begin = tokio::time::Instant::now();
    let status = namespace
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
    namespace
        .status("models", WITHIN, "it is back", ready)
        .await;

    // It is deleted, and no kubelet confirms that it terminated.
    let pods = namespace.api::<Pod>();
    pods.delete("models-2", &DeleteParams::default().grace_period(1))
        .await
        .unwrap();
    namespace
        .status("models", WITHIN, "it does not count", |status| {
            status["ready"] == "2/3" && condition(status, "Ready")["status"] == "False"
        })
        .await;
    let status = namespace
        .status("models", WITHIN + WITHIN, "what to do is said", |status| {
            condition(status, "Degraded")["reason"] == "DeletionNotConfirmed"
        })
        .await;
    assert!(text(condition(&status, "Degraded"), "/message").contains("node-that-dies"));
}
