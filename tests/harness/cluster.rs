//! The Kubernetes around this process, with real pods: `tests/cluster/up` starts it and runs the tests in it.
//!
//! Each test has a namespace of its own. The operator is there for all of them, installed as the README says.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::readme;
use super::until_within;
use super::weed::{KEY_ID, SECRET, Weed};

/// Timeout for pods to be created or deleted.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
/// The bucket of every test; it has an S3 of its own.
pub(crate) const BUCKET: &str = "bucket";

/// Whether the operator is installed. A test that uninstalls or changes it needs exclusive access.
static OPERATOR: RwLock<bool> = RwLock::const_new(false);
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// A namespace, and an S3 that its pods reach.
pub(crate) struct Cluster {
    pub(crate) namespace: String,
    pub(crate) s3: Weed,
}

impl Cluster {
    /// As [`Self::empty`], with the Secret `s3-keys`.
    pub(crate) async fn here() -> Option<Self> {
        let cluster = Self::empty().await?;
        cluster
            .sh(&format!("kubectl create secret generic s3-keys --from-literal=access-key-id={KEY_ID} --from-literal=secret-access-key={SECRET}"))
            .await;
        Some(cluster)
    }

    /// A new namespace, and an S3 with one bucket. `None`, with a message, in a cluster without pods.
    pub(crate) async fn empty() -> Option<Self> {
        if variable("FALCON_CLUSTER").as_deref() != Some("pods") {
            println!(
                "skipped: no cluster with pods here; tests/cluster/up -- COMMAND gives COMMAND one"
            );
            return None;
        }
        let s3 = Weed::start_at(&host()).await?;
        s3.create_bucket(BUCKET).await;
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let cluster = Self {
            namespace: format!("test-{number}"),
            s3,
        };
        sh(&format!("kubectl create namespace {}", cluster.namespace)).await;
        Some(cluster)
    }

    /// A shell script, with this namespace for `kubectl`; what it printed.
    pub(crate) async fn sh(&self, script: &str) -> String {
        sh(&format!(
            "kubectl() {{ command kubectl --namespace {} \"$@\"; }}\n{script}",
            self.namespace
        ))
        .await
    }

    /// Objects as JSON: `fcache models`, or `pods`.
    pub(crate) async fn get(&self, what: &str) -> Value {
        let text = self.sh(&format!("kubectl get {what} -o json")).await;
        serde_json::from_str(&text).unwrap()
    }

    /// Applies a cache in front of this S3, with the Secret's keys, and `more` merged over its spec.
    pub(crate) async fn apply(&self, name: &str, more: &Value) {
        let mut spec = json!({
            "origin": {"buckets": [BUCKET], "endpoint": self.s3.endpoint(), "credentialsSecretRef": {"name": "s3-keys"}},
            "cache": {"memory": "64Mi"},
            "rollout": {"drainTimeout": "10s"},
        });
        merge(&mut spec, more);
        let cache = json!({
            "apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache",
            "metadata": {"name": name}, "spec": spec
        });
        self.sh(&format!("kubectl apply -f - <<'EOF'\n{cache}\nEOF"))
            .await;
    }

    /// Waits until the cache's status is as wanted; fails with the last status.
    pub(crate) async fn status(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let wait = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.get(&format!("fcache {name}")).await["status"].take();
                if wanted(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        assert!(wait.await.is_ok(), "in vain: {name} {what}: {last:#}");
        last
    }

    /// Waits as a user does.
    pub(crate) async fn ready(&self, name: &str) {
        self.sh(&format!(
            "kubectl wait --for=condition=Ready fcache/{name} --timeout=3m || {{ kubectl get fcache {name} -o yaml; kubectl get pods; exit 1; }}"
        ))
        .await;
    }

    /// Name and address of each pod of the cache that is not terminating.
    pub(crate) async fn pods(&self, name: &str) -> Vec<(String, String)> {
        let pods = self
            .get(&format!("pods -l app.kubernetes.io/instance={name}"))
            .await;
        let living = pods["items"].as_array().unwrap().iter().filter(|pod| {
            pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["podIP"].is_string()
        });
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        living
            .map(|pod| {
                (
                    text(&pod["metadata"]["name"]),
                    text(&pod["status"]["podIP"]),
                )
            })
            .collect()
    }

    /// The uids and restart counts of all pods: they differ for a recreated or restarted pod.
    pub(crate) async fn pods_as_made(&self) -> Vec<Value> {
        let pods = self.get("pods").await;
        let made = |pod: &Value| {
            let starts = &pod["status"]["containerStatuses"][0]["restartCount"];
            json!([pod["metadata"]["uid"], starts])
        };
        pods["items"].as_array().unwrap().iter().map(made).collect()
    }

    /// Waits until each of so many pods sees a ring of just these, all serving.
    pub(crate) async fn ring_of(&self, name: &str, count: usize) {
        let what = format!("a ring of {count} as each of them sees it");
        until_within(PATIENCE, &what, || async {
            let pods = self.pods(name).await;
            if pods.len() != count {
                return None;
            }
            let mut names: Vec<&str> = pods.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            for (_, address) in &pods {
                let url = format!("http://{address}:8080/ring");
                let ring = super::http::try_get(&url).await.ok()?.json();
                let mut serving: Vec<&str> = ring["members"]
                    .as_array()?
                    .iter()
                    .filter(|member| member["state"] == "serving")
                    .filter_map(|member| member["name"].as_str())
                    .collect();
                serving.sort_unstable();
                if serving != names {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

impl Drop for Cluster {
    /// The next test needs the CPU that these pods have asked for.
    fn drop(&mut self) {
        let delete = ["delete", "namespace", &self.namespace, "--wait=false"];
        let deleted = std::process::Command::new("kubectl")
            .args(delete)
            .stdout(Stdio::null())
            .status();
        match deleted {
            Ok(status) if status.success() => {}
            failed => println!("namespace {} stays: {failed:?}", self.namespace),
        }
    }
}

/// Where pods reach what this process listens on.
pub(crate) fn host() -> String {
    variable("FALCON_CLUSTER_HOST").expect("tests/cluster/up sets it")
}

/// An environment variable that `tests/cluster/up` sets.
#[expect(
    clippy::disallowed_methods,
    reason = "`tests/cluster/up` has no other way to pass it"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Shared access to the operator, which is installed as in the README.
pub(crate) async fn operator() -> RwLockReadGuard<'static, bool> {
    let operator = OPERATOR.read().await;
    if *operator {
        return operator;
    }
    drop(operator);
    operator_alone().await.downgrade()
}

/// As [`operator`], with exclusive access for a test that uninstalls or changes it, and restores it at the end.
pub(crate) async fn operator_alone() -> RwLockWriteGuard<'static, bool> {
    let mut operator = OPERATOR.write().await;
    if !*operator {
        sh("kubectl apply --filename tests/cluster/monitors.yaml").await;
        sh(readme::block("helm install")).await;
        *operator = true;
    }
    operator
}

/// A shell script at the root of the repository; what it printed. The test fails with both outputs if it fails.
pub(crate) async fn sh(script: &str) -> String {
    sh_with(&[], script).await
}

/// As [`sh`], with these variables.
pub(crate) async fn sh_with(variables: &[(&str, &str)], script: &str) -> String {
    let mut shell = Command::new("bash")
        .args(["-euo", "pipefail", "-s"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    // Whole, so that no command of the script can take the rest of it for its own input.
    stdin
        .write_all(format!("{{\n{script}\nexit\n}}\n").as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let output = shell.wait_with_output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{script}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
