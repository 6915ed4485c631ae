//! Access to a cache beside its blob API, on a real cluster: the S3 gateway, and the sidecar of the README in an
//! application's pod.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};

use crate::harness::cluster::{BUCKET, Cluster, PATIENCE, merge, operator};
use crate::harness::node::metric;
use crate::harness::sdk::client;
use crate::harness::{http, readme, until, until_within};

/// The entry of the access file under which the test does everything.
const KEEPER: &str = "- {name: keeper, accessKeyId: KEEPER, secretAccessKey: keeper-secret, token: keeper-token, buckets: ['*'], prefixes: ['*'], verbs: [read, write]}\n";

/// The object's text, or the code of the refusal.
async fn get(s3: &Client, key: &str) -> Result<String, String> {
    match s3.get_object().bucket(BUCKET).key(key).send().await {
        Ok(output) => {
            let bytes = output.body.collect().await.unwrap().into_bytes();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) => Err(error
            .code()
            .map_or_else(|| format!("{error:?}"), str::to_owned)),
    }
}

async fn put(s3: &Client, key: &str, text: &'static str) -> Result<(), String> {
    let put = s3.put_object().bucket(BUCKET).key(key);
    let sent = put.body(ByteStream::from_static(text.as_bytes())).send();
    let sent = sent.await.map(drop);
    sent.map_err(|error| error.code().unwrap_or_default().to_owned())
}

/// Writes the Secret `gateway` with this access file.
async fn let_in(cluster: &Cluster, access: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gateway"},
        "stringData": {"access.yaml": access}
    });
    cluster
        .sh(&format!("kubectl apply -f - <<'EOF'\n{secret}\nEOF"))
        .await;
}

/// At S3 gateways and at pods: cached or not, unauthorised clients get nothing.
async fn strangers_get_nothing(gateways: &[String], pods: &[(String, String)]) {
    for gateway in gateways {
        for (id, secret, code) in [
            ("KEEPER", "wrong", "SignatureDoesNotMatch"),
            ("TRAINERS", "a-long-secret", "InvalidAccessKeyId"),
        ] {
            let stranger = client(gateway, id, secret);
            assert_eq!(get(&stranger, "models/llm").await, Err(code.into()));
            assert_eq!(put(&stranger, "models/llm", "x").await, Err(code.into()));
        }
    }
    for (pod, address) in pods {
        let url = format!("http://{address}:8080/get?key=models/llm");
        for headers in [&[][..], &[("authorization", "Bearer another-one")]] {
            assert_eq!(http::get_with(&url, headers).await.status, 401, "{pod}");
        }
    }
}

/// Adds the README's entry to the access file: from then on it may read at each pod what the README says, and no more.
async fn the_trainers_of_the_readme_are_let_in(
    cluster: &Cluster,
    gateways: &[String],
    pods: &[(String, String)],
) {
    let trainers = readme::yaml("# access.yaml").replace("[B]", &format!("[{BUCKET}]"));
    let_in(cluster, &format!("{KEEPER}{trainers}")).await;
    // The kubelet looks after Secrets about once a minute, and after a pod that changes at once.
    cluster
        .sh("kubectl annotate pods -l app.kubernetes.io/instance=gateway looked=after")
        .await;
    for (gateway, (pod, address)) in gateways.iter().zip(pods) {
        let trainers = client(gateway, "TRAINERS", "a-long-secret");
        let read = until_within(PATIENCE, "the new principal is let in", || async {
            get(&trainers, "models/llm").await.ok()
        });
        assert_eq!(read.await, "second", "{pod}");
        let denied = Err("AccessDenied".to_owned());
        assert_eq!(get(&trainers, "elsewhere").await.map(drop), denied, "{pod}");
        assert_eq!(put(&trainers, "models/llm", "x").await, denied, "{pod}");
        let url = format!("http://{address}:8080/get?key=models/llm");
        let bearer = [("authorization", "Bearer another-one")];
        assert_eq!(http::get_with(&url, &bearer).await.text(), "second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_work_at_every_pod_and_principals_need_no_restart() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    let_in(&cluster, KEEPER).await;
    let guarded = json!({"enabled": true, "auth": "Keys", "accessSecretRef": {"name": "gateway"}});
    cluster
        .apply("gateway", &json!({"replicas": 2, "s3": guarded}))
        .await;
    cluster.ready("gateway").await;
    cluster
        .status("gateway", "counts both pods", |status| {
            status["ringMembers"] == 2
        })
        .await;
    let before = cluster.pods_as_made().await;
    let pods = cluster.pods("gateway").await;

    let service = cluster.get("service gateway").await;
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    let ports: Vec<_> = ports.map(|port| (&port["name"], &port["port"])).collect();
    assert_eq!(
        ports,
        [(&json!("http"), &json!(8080)), (&json!("s3"), &json!(9000))]
    );

    let keeper = |address: &str| client(address, "KEEPER", "keeper-secret");
    let everywhere = format!("http://gateway.{}.svc:9000", cluster.namespace);
    let gateways: Vec<String> = pods
        .iter()
        .map(|(_, address)| format!("http://{address}:9000"))
        .collect();
    let first = keeper(&gateways[0]);
    for (writer, text) in [(&first, "first"), (&keeper(&everywhere), "second")] {
        put(writer, "models/llm", text).await.unwrap();
        for gateway in &gateways {
            assert_eq!(
                get(&keeper(gateway), "models/llm").await.as_deref(),
                Ok(text),
                "{gateway}"
            );
        }
        for (pod, address) in &pods {
            let url = format!("http://{address}:8080/get?key=models/llm");
            let bearer = [("authorization", "Bearer keeper-token")];
            assert_eq!(http::get_with(&url, &bearer).await.text(), text, "{pod}");
        }
    }

    strangers_get_nothing(&gateways, &pods).await;
    strangers_get_nothing(&[everywhere], &[]).await;
    // The operator has no key, and needs none for the metrics.
    cluster
        .status("gateway", "has its pods' metrics", |status| {
            status["ringMembers"] == 2 && status["hitRatio"].is_string()
        })
        .await;

    the_trainers_of_the_readme_are_let_in(&cluster, &gateways, &pods).await;
    assert_eq!(get(&first, "models/llm").await.as_deref(), Ok("second"));
    assert_eq!(cluster.pods_as_made().await, before, "no pod was touched");
    cluster.ready("gateway").await;
}

/// What an application reads all the time, from the first moment of its pod to the last.
const READ: &str = "weights";

/// A pod of an application, with the lines of the README in it.
async fn pod_with_a_sidecar(cluster: &Cluster) {
    let lines = readme::yaml("restartPolicy: Always")
        .replace("my-bucket", BUCKET)
        .replace("http://my-s3:9000", &cluster.s3.endpoint());
    let mut pod: Value = serde_yaml::from_str(&lines).unwrap();
    let url = format!("http://localhost:8080/get?key={READ}");
    let application = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trainer"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "application", "image": "client:latest", "imagePullPolicy": "IfNotPresent",
                "args": ["load", "-c", "1", url]
            }]
        }
    });
    merge(&mut pod, &application);
    cluster
        .sh(&format!(
            "kubectl create serviceaccount train
             NAMESPACE={}
             {}
             kubectl apply -f - <<'EOF'\n{pod}\nEOF
             kubectl wait --for=condition=Ready pod/trainer --timeout=2m || {{
               kubectl describe pod trainer; kubectl logs trainer -c falcon; exit 1
             }}",
            cluster.namespace,
            readme::block("kubectl create rolebinding")
        ))
        .await;
}

/// The client in the application's container with these arguments.
async fn in_the_pod(cluster: &Cluster, args: &str) -> String {
    let command = format!("kubectl exec trainer -c application -- /client {args}");
    cluster.sh(&command).await
}

/// The application ends, then its sidecar; neither was ever in trouble.
async fn application_and_sidecar_end_in_peace(cluster: &Cluster) {
    in_the_pod(cluster, "end").await;
    let report = cluster
        .sh(
            "kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/trainer --timeout=1m >&2
             kubectl logs trainer -c application",
        )
        .await;
    let report: Value = serde_json::from_str(&report).unwrap();
    println!("{report}");
    assert_eq!(report["failed"], 0, "{report:#}");
    let pod = cluster.get("pod trainer").await;
    let sidecar = &pod["status"]["initContainerStatuses"][0];
    assert_eq!(sidecar["restartCount"], 0, "{sidecar:#}");
    assert_eq!(sidecar["state"]["terminated"]["exitCode"], 0, "{sidecar:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_of_the_readme_serves_its_pod_and_sees_each_overwrite() {
    let Some(cluster) = Cluster::here().await else {
        return;
    };
    let _operator = operator().await;
    cluster.s3.put(BUCKET, READ, "first").await;
    cluster.apply("models", &json!({"replicas": 2})).await;
    cluster.ready("models").await;
    cluster.ring_of("models", 2).await;
    pod_with_a_sidecar(&cluster).await;

    let local = "http://localhost:8080";
    until("the sidecar holds what is read", || async {
        let answer = in_the_pod(&cluster, &format!("get -i '{local}/get?key={READ}'")).await;
        assert!(answer.ends_with("\n\nfirst"), "{answer}");
        let answer = answer.to_ascii_lowercase();
        answer.contains("\nx-falcon-cache: memory").then_some(())
    })
    .await;
    let service = format!("http://models.{}.svc:8080", cluster.namespace);
    for round in 0..8 {
        let text = format!("overwritten {round}");
        let told = http::upload(&format!("{service}/upload"), READ, text.as_bytes()).await;
        assert_eq!(told.status, 200, "{}", told.text());
        let read = in_the_pod(&cluster, &format!("get '{local}/get?key={READ}'")).await;
        assert_eq!(read, text);
    }
    in_the_pod(
        &cluster,
        &format!("get -upload {READ}=trained '{local}/upload'"),
    )
    .await;
    for (pod, address) in cluster.pods("models").await {
        let answer = http::get(&format!("http://{address}:8080/get?key={READ}")).await;
        assert_eq!(answer.text(), "trained", "{pod}");
    }

    // It sees the ring, and nobody in the ring or outside of its pod sees it.
    let seen = in_the_pod(&cluster, &format!("get '{local}/ring'")).await;
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["sidecar"], true, "{seen}");
    let members = seen["members"].as_array().unwrap().iter();
    let mut members: Vec<_> = members
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    members.sort_unstable();
    assert_eq!(members, ["models-0", "models-1"]);
    cluster.ring_of("models", 2).await;
    cluster
        .status("models", "counts its own pods alone", |status| {
            status["ready"] == "2/2" && status["ringMembers"] == 2
        })
        .await;
    let pod = cluster.get("pod trainer").await;
    let address = pod["status"]["podIP"].as_str().unwrap();
    assert!(
        http::try_get(&format!("http://{address}:8080/healthz"))
            .await
            .is_err()
    );
    let admin = format!("http://{address}:9095");
    assert_eq!(http::get(&format!("{admin}/readyz")).await.status, 200);
    assert!(metric(&admin, "falcon_peer_bytes_total").await > 0.0);

    application_and_sidecar_end_in_peace(&cluster).await;
}
