//! What goes wrong around a cache is reported by its conditions, and recovers when its cause is removed, without
//! touching any pod.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::cluster::{BUCKET, Cluster, operator};
use crate::harness::weed::{KEY_ID, SECRET};

/// The condition of that name.
fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    let conditions = status["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|one| one["type"] == name));
    found.unwrap_or(&Value::Null)
}

async fn patch(cluster: &Cluster, name: &str, spec: &Value) {
    let patch = json!({"spec": spec});
    cluster
        .sh(&format!(
            "kubectl patch fcache {name} --type=merge -p '{patch}'"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_image_is_named_and_a_good_one_heals_it() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster.apply("pictures", &json!({"replicas": 2})).await;
    cluster.ready("pictures").await;

    patch(
        &cluster,
        "pictures",
        &json!({"image": "registry.invalid/falcon-cache:none"}),
    )
    .await;
    let status = cluster
        .status("pictures", "names the image", |status| {
            condition(status, "Degraded")["reason"] == "ImagePullFailed"
        })
        .await;
    let message = condition(&status, "Degraded")["message"].as_str().unwrap();
    assert!(
        message.contains("pod pictures-") && message.contains("registry.invalid/falcon-cache:none"),
        "{message}"
    );
    assert_eq!(condition(&status, "Ready")["status"], "False");
    // One pod of the old image is still there and serves.
    assert_eq!(condition(&status, "Available")["status"], "True");

    patch(&cluster, "pictures", &json!({"image": null})).await;
    cluster.ready("pictures").await;
    cluster.ring_of("pictures", 2).await;

    // Also from the very start, when no pod ever ran.
    cluster
        .apply(
            "never",
            &json!({"replicas": 2, "image": "registry.invalid/falcon-cache:none"}),
        )
        .await;
    cluster
        .status("never", "names the image", |status| {
            condition(status, "Ready")["reason"] == "ImagePullFailed"
        })
        .await;
    cluster
        .apply(
            "never",
            &json!({"replicas": 2, "image": "falcon-cache:0.1.0"}),
        )
        .await;
    cluster.ready("never").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_s3_are_distinguished() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster
        .sh("kubectl create secret generic wrong-keys --from-literal=access-key-id=nobody --from-literal=secret-access-key=nothing")
        .await;
    let wrongs = [
        (
            "bucket",
            "OriginBucketNotFound",
            json!({"buckets": ["no-such-bucket"]}),
        ),
        (
            "keys",
            "OriginAccessDenied",
            json!({"credentialsSecretRef": {"name": "wrong-keys"}}),
        ),
        // Nobody listens there.
        (
            "away",
            "OriginUnreachable",
            json!({"endpoint": format!("http://{}:9", crate::harness::cluster::host())}),
        ),
    ];
    for (name, _, origin) in &wrongs {
        cluster
            .apply(name, &json!({"replicas": 1, "origin": origin}))
            .await;
    }
    for (name, reason, _) in &wrongs {
        let status = cluster
            .status(name, &format!("tells {reason}"), |status| {
                condition(status, "OriginReachable")["reason"] == *reason
                    && condition(status, "Ready")["reason"] == *reason
            })
            .await;
        println!(
            "{name}: {}",
            condition(&status, "OriginReachable")["message"]
        );
    }
    for (name, _, _) in &wrongs {
        let origin = json!({
            "buckets": [BUCKET], "endpoint": cluster.s3.endpoint(), "credentialsSecretRef": {"name": "s3-keys"}
        });
        patch(&cluster, name, &json!({"origin": origin})).await;
    }
    for (name, _, _) in &wrongs {
        cluster.ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_in_the_secret_are_taken_without_a_restart() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster
        .sh("kubectl create secret generic keys --from-literal=access-key-id=nobody --from-literal=secret-access-key=nothing")
        .await;
    let origin = json!({"credentialsSecretRef": {"name": "keys"}});
    cluster
        .apply("rotated", &json!({"replicas": 1, "origin": origin}))
        .await;
    cluster
        .status("rotated", "is refused", |status| {
            condition(status, "OriginReachable")["reason"] == "OriginAccessDenied"
        })
        .await;
    let before = cluster.get("pods").await["items"][0]["metadata"]["uid"].clone();
    cluster
        .sh(&format!(
            "kubectl create secret generic keys --from-literal=access-key-id={KEY_ID} --from-literal=secret-access-key={SECRET} \
               --dry-run=client -o yaml | kubectl apply -f -"
        ))
        .await;
    // The kubelet looks after Secrets about once a minute.
    cluster.ready("rotated").await;
    let pods = cluster.get("pods").await;
    assert_eq!(pods["items"][0]["metadata"]["uid"], before);
    assert_eq!(
        pods["items"][0]["status"]["containerStatuses"][0]["restartCount"],
        0
    );
}

/// How soon a cause is to be named after the cache was made.
const NAMED_WITHIN: Duration = Duration::from_secs(10);

/// Makes a cache that can't come to be, and waits until its conditions and `kubectl get` name the cause.
async fn is_named(cluster: &Cluster, name: &str, spec: &Value, reason: &str, word: &str) {
    cluster.apply(name, spec).await;
    let begin = tokio::time::Instant::now();
    let status = cluster
        .status(name, &format!("names {reason}"), |status| {
            condition(status, "Ready")["reason"] == reason
        })
        .await;
    let took = begin.elapsed();
    let degraded = condition(&status, "Degraded");
    println!("{name}: after {took:.1?}: {degraded}");
    assert_eq!(degraded["status"], "True");
    assert!(
        degraded["message"].as_str().unwrap().contains(word),
        "{degraded}"
    );
    let row = cluster.sh(&format!("kubectl get fcache {name}")).await;
    assert!(row.contains(reason), "{row}");
    assert!(took <= NAMED_WITHIN, "{name}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_object_that_pods_need_is_named_and_heals_once_it_exists() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster
        .sh(&format!(
            "kubectl create secret generic half-keys --from-literal=access-key-id={KEY_ID}"
        ))
        .await;
    let keys =
        |name: &str| json!({"replicas": 1, "origin": {"credentialsSecretRef": {"name": name}}});
    let wrongs = [
        ("no-secret", keys("late-keys"), "SecretMissing", "late-keys"),
        (
            "no-entry",
            keys("half-keys"),
            "SecretMissing",
            "secret-access-key",
        ),
        (
            "no-priority",
            json!({"replicas": 1, "pod": {"priorityClassName": "late-class"}}),
            "PriorityClassMissing",
            "late-class",
        ),
        (
            "no-runtime",
            json!({"replicas": 1, "pod": {"overrides": {"spec": {"runtimeClassName": "late-runtime"}}}}),
            "RuntimeClassMissing",
            "late-runtime",
        ),
        (
            "no-account",
            json!({"replicas": 1, "origin": {"serviceAccountName": "late-account"}}),
            "ServiceAccountMissing",
            "late-account",
        ),
    ];
    for (name, spec, reason, word) in &wrongs {
        is_named(&cluster, name, spec, reason, word).await;
    }
    cluster
        .sh(&format!(
            "keys='--from-literal=access-key-id={KEY_ID} --from-literal=secret-access-key={SECRET}'
             kubectl create secret generic late-keys $keys
             kubectl create secret generic half-keys $keys --dry-run=client -o yaml | kubectl apply -f -
             kubectl create priorityclass late-class --value=7
             kubectl create serviceaccount late-account
             echo '{{\"apiVersion\": \"node.k8s.io/v1\", \"kind\": \"RuntimeClass\", \"metadata\": {{\"name\": \"late-runtime\"}}, \"handler\": \"runc\"}}' |
               kubectl apply -f -"
        ))
        .await;
    for (name, ..) in &wrongs {
        cluster.ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_namespace_forbids_is_named_and_heals_once_it_is_allowed() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster.sh("kubectl create quota pods --hard=pods=1").await;
    let two = json!({"replicas": 2});
    is_named(
        &cluster,
        "many",
        &two,
        "QuotaExceeded",
        "exceeded quota: pods",
    )
    .await;
    cluster.sh("kubectl delete quota pods").await;
    cluster.ready("many").await;

    cluster
        .sh("kubectl create quota cpu --hard=limits.cpu=8")
        .await;
    let one = json!({"replicas": 1});
    is_named(&cluster, "unlimited", &one, "QuotaExceeded", "limits.cpu").await;
    patch(
        &cluster,
        "unlimited",
        &json!({"pod": {"resources": {"cpuLimit": "1"}}}),
    )
    .await;
    cluster.ready("unlimited").await;
    cluster.sh("kubectl delete quota cpu").await;

    let label = |level: &str| {
        format!(
            "kubectl label --overwrite namespace {} pod-security.kubernetes.io/enforce={level}",
            cluster.namespace
        )
    };
    cluster.sh(&label("restricted")).await;
    let host = json!({"replicas": 1, "pod": {"overrides": {"spec": {"hostNetwork": true}}}});
    is_named(
        &cluster,
        "host",
        &host,
        "PodSecurityViolation",
        "hostNetwork",
    )
    .await;
    cluster.sh(&label("privileged")).await;
    cluster.ready("host").await;
}
