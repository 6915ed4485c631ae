//! Rings that grow, shrink, roll and lose pods while the cluster reads: no reader sees a failure.

use serde_json::{Value, json};

use crate::harness::cluster::{BUCKET, Cluster, operator};
use crate::harness::s3::synthetic;

const OBJECTS: u64 = 24;
const OBJECT_BYTES: u64 = 96 * 1024;

/// A cache that gives S3 its time: beside all that runs here it may stand still for seconds, which is no failure of a
/// ring.
fn patient(replicas: u32) -> Value {
    json!({"replicas": replicas, "cache": {"timeout": "20s"}})
}

/// Readers in two pods: one opens a connection for each request, one keeps its connections.
struct Readers<'a> {
    cluster: &'a Cluster,
}

impl<'a> Readers<'a> {
    async fn start(cluster: &'a Cluster, cache: &str) -> Self {
        for number in 0..OBJECTS {
            let bytes = synthetic::bytes(number, 0..OBJECT_BYTES);
            cluster.s3.put(BUCKET, &format!("o{number}"), bytes).await;
        }
        let service = format!("http://{cache}.{}.svc:8080", cluster.namespace);
        let urls: Vec<String> = (0..OBJECTS)
            .map(|number| format!("{service}/get?key=o{number}"))
            .collect();
        for (pod, how) in [("fresh", "-fresh"), ("kept", "-fresh=false")] {
            cluster
                .sh(&format!(
                    "kubectl run {pod} --image=client:latest --image-pull-policy=IfNotPresent --restart=Never -- \
                       load -c 4 -timeout 30s {how} {}
                     kubectl wait --for=condition=Ready pod/{pod} --timeout=2m",
                    urls.join(" ")
                ))
                .await;
        }
        Self { cluster }
    }

    /// Ends the reading; every request was answered with the object.
    async fn end(self) {
        for pod in ["fresh", "kept"] {
            let report = self
                .cluster
                .sh(&format!(
                    "kubectl exec {pod} -- /client end
                     kubectl wait --for=jsonpath='{{.status.containerStatuses[0].state.terminated}}' pod/{pod} --timeout=1m >&2
                     kubectl logs {pod}"
                ))
                .await;
            let report: Value =
                serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"));
            println!("{pod}: {report}");
            assert_eq!(report["failed"], 0, "{pod}: {report:#}");
            assert!(
                report["requests"].as_u64().unwrap() > 500,
                "{pod}: {report:#}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_by_hand_and_by_an_autoscaler_causes_no_failed_reads() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster.apply("elastic", &patient(3)).await;
    cluster.ready("elastic").await;
    cluster.ring_of("elastic", 3).await;
    let readers = Readers::start(&cluster, "elastic").await;

    for count in [5, 2] {
        cluster
            .sh(&format!("kubectl scale fcache elastic --replicas={count}"))
            .await;
        cluster.ring_of("elastic", count).await;
        cluster.ready("elastic").await;
    }
    // Without metrics an autoscaler still keeps to its bounds; the operator follows it, and does not revert it.
    for (least, most, count) in [(4, 6, 4), (1, 3, 3)] {
        cluster
            .sh(&format!(
                "kubectl delete hpa elastic --ignore-not-found
                 kubectl autoscale fcache elastic --min={least} --max={most} --cpu-percent=50"
            ))
            .await;
        cluster.ring_of("elastic", count).await;
        cluster.ready("elastic").await;
    }
    readers.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_of_the_stateful_set_is_respected() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster.apply("taken", &json!({"replicas": 1})).await;
    cluster.ready("taken").await;
    cluster
        .sh("kubectl autoscale statefulset taken --min=2 --max=3 --cpu-percent=50")
        .await;
    cluster.ring_of("taken", 2).await;
    // A change of the spec makes the operator write the set once more, all but the replicas.
    cluster
        .sh("kubectl patch fcache taken --type=merge -p '{\"spec\": {\"pod\": {\"annotations\": {\"changed\": \"yes\"}}}}'")
        .await;
    cluster
        .status("taken", "warns of the autoscaler", |status| {
            let conditions = status["conditions"].as_array();
            let newest = status["observedGeneration"] == 2;
            newest
                && conditions.is_some_and(|conditions| {
                    conditions.iter().any(|condition| {
                        condition["type"] == "ConfigurationWarning"
                            && condition["message"]
                                .as_str()
                                .unwrap()
                                .contains("autoscaler")
                    })
                })
        })
        .await;
    cluster.ring_of("taken", 2).await;
    let set = cluster.get("statefulset taken").await;
    assert_eq!(set["spec"]["replicas"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_another_image_and_a_lost_pod_cause_no_failed_reads() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster
        .sh("ctr images tag --force docker.io/library/falcon-cache:0.1.0 docker.io/library/falcon-cache:next")
        .await;
    cluster.apply("rolling", &patient(3)).await;
    cluster.ready("rolling").await;
    cluster.ring_of("rolling", 3).await;
    let readers = Readers::start(&cluster, "rolling").await;

    cluster
        .sh("kubectl patch fcache rolling --type=merge -p '{\"spec\": {\"image\": \"falcon-cache:next\"}}'")
        .await;
    cluster
        .status("rolling", "runs the next image", |status| {
            let settled = status["conditions"].as_array().is_some_and(|conditions| {
                conditions.iter().any(|condition| {
                    condition["type"] == "Progressing" && condition["reason"] == "Complete"
                })
            });
            settled && status["observedGeneration"] == 2
        })
        .await;
    cluster.ring_of("rolling", 3).await;
    let pods = cluster
        .get("pods -l app.kubernetes.io/instance=rolling")
        .await;
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["spec"]["containers"][0]["image"], "falcon-cache:next");
    }

    cluster.sh("kubectl delete pod rolling-1").await;
    cluster.ring_of("rolling", 3).await;
    cluster.ready("rolling").await;
    readers.end().await;
}
