//! The operator as installed by the chart: its flags, and its permissions, which are limited to the watched namespaces.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::kubernetes::ControlPlane;
use crate::harness::node::binary_of;
use crate::harness::until;

/// A shell script with kubectl and helm at hand; what it printed.
async fn sh(kubeconfig: &Path, script: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c"])
        .arg(format!(". {folder}/environment.bash; {script}"))
        .env("KUBECONFIG", kubeconfig)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn with_listed_namespaces_the_operator_needs_no_cluster_permission() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let Some(binary) = binary_of("operator") else {
        println!(
            "skipped: falcon-operator is not built beside the tests, or is older than its sources"
        );
        return;
    };
    let admin = cluster.kubeconfig();
    sh(
        admin,
        "kubectl create namespace blue; kubectl create namespace blue-system
         helm template falcon charts/falcon --namespace blue-system --set watchNamespaces={blue},crds.enabled=false --skip-tests |
           kubectl apply -f -",
    )
    .await;
    let cluster_wide = sh(
        admin,
        "kubectl get clusterroles,clusterrolebindings -l app.kubernetes.io/part-of=falcon -o name",
    )
    .await;
    assert_eq!(cluster_wide, "");
    let deployment = sh(
        admin,
        "kubectl get deployment falcon-operator --namespace blue-system -o json",
    )
    .await;
    let deployment: Value = serde_json::from_str(&deployment).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let args = container["args"].as_array().unwrap().iter();
    let args = args.map(|arg| match arg.as_str().unwrap() {
        "--admin-port=9095" => "--admin-port=0",
        other => other,
    });

    // As its service account, in its namespace: what a pod would be given.
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("kubeconfig");
    std::fs::copy(admin, &own).unwrap();
    sh(
        &own,
        "kubectl config set-context --current --namespace=blue-system
         sed -i 's/^    client-certificate-data/    as: system:serviceaccount:blue-system:falcon-operator\\n&/' \"$KUBECONFIG\"",
    )
    .await;
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let _operator = Command::new(binary)
        .args(args)
        .env("KUBECONFIG", &own)
        .env("POD_NAME", "falcon-operator-0")
        .stderr(Stdio::from(log))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    sh(
        admin,
        r#"kubectl apply -f - <<'EOF'
{"apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache", "metadata": {"name": "media", "namespace": "blue"},
 "spec": {"origin": {"buckets": ["bucket"]}}}
EOF"#,
    )
    .await;
    let told = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    until("the set is made", || async {
        assert!(!told().contains("error:"), "{}", told());
        let found = sh(
            admin,
            "kubectl get statefulset media --namespace blue --ignore-not-found -o name",
        )
        .await;
        (!found.is_empty()).then_some(())
    })
    .await;
    let role = sh(admin, "kubectl get rolebinding media --namespace blue -o jsonpath='{.roleRef.kind}/{.roleRef.name}'").await;
    assert_eq!(role, "Role/falcon-cache", "{}", told());
    until("it is reported", || async {
        let generation = sh(
            admin,
            "kubectl get fcache media --namespace blue -o jsonpath='{.status.observedGeneration}'",
        )
        .await;
        (generation == "1").then_some(())
    })
    .await;
    assert!(!told().contains("forbidden"), "{}", told());
}
