//! The story that the README tells, on a real cluster: install, apply, read, see, take away.

use serde_json::json;

use crate::harness::cluster::{BUCKET, Cluster, operator, operator_alone, sh, sh_with};
use crate::harness::weed::{KEY_ID, SECRET};
use crate::harness::{http, readme};

/// The key that the README reads, and what is there.
const KEY: &str = "greeting.txt";
const TEXT: &str = "hello from S3";

/// Runs a block of the README in the namespace of the test, as a user does whose context that is.
async fn as_the_readme_says(cluster: &Cluster, begin: &str, then: &str) -> String {
    let script = format!(
        "kubeconfig=$(mktemp); cp $KUBECONFIG $kubeconfig; export KUBECONFIG=$kubeconfig
         kubectl config set-context --current --namespace={} >&2
         {}{then}",
        cluster.namespace,
        readme::block(begin)
    );
    let endpoint = cluster.s3.endpoint();
    let variables = [
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("BUCKET", BUCKET),
        ("S3_ENDPOINT", endpoint.as_str()),
        ("KEY", KEY),
    ];
    sh_with(&variables, &script).await
}

/// In a pod of the cluster: the client with these arguments; headers and body.
async fn in_a_pod(cluster: &Cluster, args: &str) -> String {
    let command = format!("kubectl exec client -- /client get -i {args}");
    cluster.sh(&command).await
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let lines = answer.lines().filter_map(|line| line.split_once(": "));
    let mut named = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    named.next().map_or("", |(_, value)| value.trim())
}

/// What the pods of the cache count under a metric, where its labels hold this text.
async fn counted(cluster: &Cluster, name: &str, metric: &str, labels: &str) -> u64 {
    let mut sum = 0.0;
    for (_, address) in cluster.pods(name).await {
        let page = http::get(&format!("http://{address}:9095/metrics")).await;
        for line in page.text().lines() {
            if line.starts_with(metric) && line.contains(labels) {
                sum += line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
            }
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small counts"
    )]
    let whole = sum as u64;
    whole
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn the_story_of_the_readme_is_true_on_a_cluster() {
    let Some(cluster) = Cluster::empty().await else {
        return;
    };
    let _operator = operator().await;
    cluster.s3.put(BUCKET, KEY, TEXT).await;
    let ns = cluster.namespace.clone();

    let told = as_the_readme_says(&cluster, "kubectl create secret generic s3-keys", "").await;
    assert!(
        told.contains("falconcache.falconcache.io/models condition met"),
        "{told}"
    );
    cluster.ring_of("models", 3).await;
    let told = as_the_readme_says(&cluster, "kubectl port-forward", "kill %1").await;
    assert!(told.contains("HTTP/1.1 200 OK"), "{told}");
    assert!(told.ends_with(TEXT), "{told}");
    assert_eq!(header(&told, "x-falcon-cache"), "origin");

    // From a pod, at the Service and at each node.
    cluster
        .sh(
            "kubectl run client --image=client:latest --image-pull-policy=IfNotPresent
             kubectl wait --for=condition=Ready pod/client --timeout=2m",
        )
        .await;
    let service = format!("http://models.{ns}.svc:8080");
    let warm = in_a_pod(&cluster, &format!("'{service}/get?key={KEY}'")).await;
    assert!(warm.ends_with(TEXT), "{warm}");
    for round in ["peer or memory", "memory"] {
        for (pod, _) in cluster.pods("models").await {
            let url = format!("http://{pod}.models-peers.{ns}.svc:8080/get?key={KEY}");
            let answer = in_a_pod(&cluster, &format!("'{url}'")).await;
            let source = header(&answer, "x-falcon-cache");
            assert!(
                round.contains(source) && answer.ends_with(TEXT),
                "{pod}, {round}: {answer}"
            );
        }
    }
    let read = counted(&cluster, "models", "falcon_origin_bytes_total", "").await;
    assert_eq!(read, TEXT.len() as u64, "S3 was read once, by one node");

    let uploaded = in_a_pod(
        &cluster,
        &format!("-upload new.txt=first '{service}/upload'"),
    )
    .await;
    assert!(uploaded.starts_with("HTTP/1.1 200"), "{uploaded}");
    let every_node_reads = async |key: &str, text: &str| {
        for (pod, address) in cluster.pods("models").await {
            let answer = http::get(&format!("http://{address}:8080/get?key={key}")).await;
            assert_eq!(answer.text(), text, "{pod}");
        }
    };
    every_node_reads("new.txt", "first").await;

    // Behind Falcon's back; then told.
    cluster.s3.put(BUCKET, "new.txt", "second").await;
    every_node_reads("new.txt", "first").await;
    let invalidate = format!("-X POST '{service}/invalidate?key=new.txt'");
    let told = in_a_pod(&cluster, &invalidate).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    for pod in ["models-0", "models-1", "models-2"] {
        assert!(told.contains(pod), "{told}");
    }
    every_node_reads("new.txt", "second").await;

    let hits = async |source: &str| {
        counted(
            &cluster,
            "models",
            "falcon_requests_total{",
            &format!("source=\"{source}\""),
        )
        .await
            - counted(
                &cluster,
                "models",
                "falcon_requests_total{api=\"peer\"",
                &format!("source=\"{source}\""),
            )
            .await
    };
    let (mut hit, mut all) = (0, hits("origin").await);
    for source in ["memory", "peer", "revalidated", "stale"] {
        hit += hits(source).await;
    }
    all += hit;
    let ratio = format!("{}.{}", hit * 100 / all, hit * 1000 / all % 10);
    cluster
        .status(
            "models",
            &format!("tells a hit ratio of {ratio}"),
            |status| status["hitRatio"] == *ratio,
        )
        .await;
    let table = cluster.sh("kubectl get fcache models -o wide").await;
    let (head, row) = table.split_once('\n').unwrap();
    let head: Vec<&str> = head.split_whitespace().collect();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        head,
        [
            "NAME", "READY", "STATUS", "HIT%", "USED", "AGE", "ENDPOINT", "VERSION", "OPERATOR"
        ]
    );
    assert_eq!(row.len(), head.len(), "{table}");
    assert_eq!(
        &row[..4],
        ["models", "3/3", "Ready", ratio.as_str()],
        "{table}"
    );
    assert_eq!(
        &row[6..],
        [service.as_str(), "0.1.0", "falcon-system/falcon-operator"],
        "{table}"
    );

    cluster
        .sh("kubectl delete fcache models --timeout=1m")
        .await;
    nothing_is_left_of(&cluster, "models").await;
}

/// Waits until no object is there that carries the cache's name, its pods' last breath included.
async fn nothing_is_left_of(cluster: &Cluster, name: &str) {
    let wait = format!(
        "for _ in $(seq 240); do
           left=$(kubectl get all,serviceaccounts,rolebindings,secrets,networkpolicies,poddisruptionbudgets,endpointslices,controllerrevisions \
             -l app.kubernetes.io/instance={name} -o name)
           [ -n \"$left\" ] || exit 0; sleep 0.5
         done
         echo \"$left\"; exit 1"
    );
    cluster.sh(&wait).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_run_on_without_their_operator_and_the_next_one_manages_them() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let mut operator = operator_alone().await;
    cluster.s3.put(BUCKET, KEY, TEXT).await;
    cluster.apply("orphan", &json!({"replicas": 2})).await;
    cluster.ready("orphan").await;
    let before = cluster.pods_as_made().await;

    sh("helm uninstall falcon --namespace falcon-system --wait").await;
    *operator = false;
    cluster.ring_of("orphan", 2).await;
    for (pod, address) in cluster.pods("orphan").await {
        let answer = http::get(&format!("http://{address}:8080/get?key={KEY}")).await;
        assert_eq!(answer.text(), TEXT, "{pod}");
    }
    drop(operator);

    let _operator = operator_alone().await;
    // It reconciles every cache: a change is applied, and nothing else is touched.
    cluster
        .sh("kubectl patch fcache orphan --type=merge -p '{\"spec\": {\"service\": {\"annotations\": {\"seen\": \"yes\"}}}}'")
        .await;
    cluster
        .status("orphan", "is seen by the next operator", |status| {
            status["observedGeneration"] == 2
        })
        .await;
    assert_eq!(cluster.pods_as_made().await, before);

    // The chart once more over itself, and its own test.
    sh(
        "helm upgrade falcon charts/falcon --namespace falcon-system --reuse-values --wait \
          --set test.image=client:latest --set-json 'test.command=[\"/client\", \"get\"]'
        helm test falcon --namespace falcon-system --timeout 1m",
    )
    .await;
}
