//! Validation of specs by the API server: each rule with its message, each field documented, and no accepted spec
//! breaks the operator.

use std::collections::BTreeMap;
use std::time::Duration;

use falcon_operator::controller::Watched;
use falcon_operator::crd::FalconCache;
use futures::StreamExt;
use futures::stream;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::kubernetes::ControlPlane;
use crate::harness::namespace::TestNamespace;
use crate::harness::operator::{Operator, cache, objects};
use crate::harness::until;

/// The definition's schema.
fn schema() -> Value {
    let definition: Value =
        serde_yaml::from_str(include_str!("../crds/falconcaches.yaml")).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls with each part of a schema and its path.
fn walk(path: &str, part: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(path, part);
    for (name, field) in part["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, see);
    }
    for (of, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if part[of].is_object() {
            walk(&format!("{path}{mark}"), &part[of], see);
        }
    }
}

fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<FalconCache>(&());
    Api::namespaced_with(client.clone(), namespace, &kind)
}

fn object(cache: Value) -> DynamicObject {
    serde_json::from_value(cache).unwrap()
}

/// For each rule of the schema: a spec that breaks it.
#[expect(clippy::too_many_lines, reason = "a table")]
fn broken() -> Vec<(&'static str, Value)> {
    let name = "a-name-that-is-much-too-long-for-what-is-made-of-it";
    let wrap = |spec: Value| cache("broken", &spec);
    vec![
        (
            "the name becomes the name of a Service",
            cache(name, &json!({})),
        ),
        (
            "memory must be at least 64Mi",
            wrap(json!({"cache": {"memory": "32Mi"}})),
        ),
        (
            "blockSize must be a power of two",
            wrap(json!({"cache": {"blockSize": "100Ki"}})),
        ),
        (
            "memory must hold at least 16 blocks",
            wrap(json!({"cache": {"memory": "128Mi", "blockSize": "16Mi"}})),
        ),
        (
            "readOnly and cacheOnWrite exclude each other",
            wrap(json!({"cache": {"readOnly": true, "cacheOnWrite": true}})),
        ),
        (
            "a domain has lower case letters",
            wrap(json!({"s3": {"domains": ["S3.example.com"]}})),
        ),
        (
            ".cache.blockSize: a size is a whole number",
            wrap(json!({"cache": {"blockSize": "1.5"}})),
        ),
        (
            ".cache.maxBlobSize: a size is a whole number",
            wrap(json!({"cache": {"maxBlobSize": "big"}})),
        ),
        (
            ".cache.memory: a size is a whole number",
            wrap(json!({"cache": {"memory": "-1Gi"}})),
        ),
        (
            ".cache.negativeTtl: a duration is a number",
            wrap(json!({"cache": {"negativeTtl": "soon"}})),
        ),
        (
            ".cache.staleIfError: a number of whole minutes",
            wrap(json!({"cache": {"staleIfError": "90s"}})),
        ),
        (
            ".cache.timeout: a duration is a number",
            wrap(json!({"cache": {"timeout": "5"}})),
        ),
        (
            ".cache.ttl: a number of whole minutes",
            wrap(json!({"cache": {"ttl": "1s"}})),
        ),
        (
            ".discovery.id: an id has letters",
            wrap(json!({"discovery": {"id": "-x"}})),
        ),
        (
            ".disruption.maxUnavailable: a number of pods",
            wrap(json!({"disruption": {"maxUnavailable": 0}})),
        ),
        (
            ".monitoring.interval: a number of whole seconds",
            wrap(json!({"monitoring": {"interval": "1ms"}})),
        ),
        (
            "serviceAccountAnnotations are for the account",
            wrap(
                json!({"origin": {"serviceAccountName": "mine", "serviceAccountAnnotations": {"a": "b"}}}),
            ),
        ),
        (
            "a bucket name has 3 to 63",
            wrap(json!({"origin": {"buckets": ["Bucket"]}})),
        ),
        (
            "each bucket must be named only once",
            wrap(json!({"origin": {"buckets": ["one", "one"]}})),
        ),
        (
            "caBundleRef needs either configMapName or secretName",
            wrap(json!({"origin": {"caBundleRef": {}}})),
        ),
        (
            "the endpoint must be http:// or https://",
            wrap(json!({"origin": {"endpoint": "s3.example"}})),
        ),
        (
            "a region has letters, digits and hyphens",
            wrap(json!({"origin": {"region": "eu central"}})),
        ),
        (
            "the labels app.kubernetes.io/... and falcon-discovery-id are reserved for the operator",
            wrap(json!({"pod": {"labels": {"falcon-discovery-id": "x"}}})),
        ),
        (
            ".rollout.drainTimeout: a number of whole seconds",
            wrap(json!({"rollout": {"drainTimeout": "1d"}})),
        ),
        (
            ".rollout.maxUnavailable: a number of pods",
            wrap(json!({"rollout": {"maxUnavailable": "0%"}})),
        ),
        (
            "auth: Keys requires accessSecretRef",
            wrap(json!({"s3": {"enabled": true, "auth": "Keys"}})),
        ),
        (
            "accessSecretRef requires auth: Keys",
            wrap(json!({"s3": {"enabled": true, "accessSecretRef": {"name": "keys"}}})),
        ),
        (
            "port and s3Port must differ",
            wrap(json!({"service": {"port": 9000}})),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_of_the_schema_has_its_message() {
    let Some(namespace) = TestNamespace::create("rules").await else {
        return;
    };
    let api = api(&namespace.client, &namespace.name);
    let mut said = Vec::new();
    for (words, cache) in broken() {
        let refused = api.create(&PostParams::default(), &object(cache)).await;
        let message = refused.expect_err(words).to_string();
        let (path, words) = words
            .strip_prefix('.')
            .and_then(|rest| rest.split_once(": "))
            .unwrap_or(("", words));
        assert!(
            message.contains(words) && message.contains(path),
            "{path} {words}: {message}"
        );
        said.push(message);
    }
    // And the one that needs a before and an after.
    api.create(&PostParams::default(), &object(cache("moved", &json!({}))))
        .await
        .unwrap();
    let moved = json!({"spec": {"discovery": {"id": "elsewhere"}}});
    let refused = api
        .patch("moved", &PatchParams::default(), &Patch::Merge(moved))
        .await;
    said.push(refused.unwrap_err().to_string());

    let (mut rules, mut unsaid) = (0, Vec::new());
    walk("spec", &schema(), &mut |path, part| {
        for rule in part["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let message = rule["message"].as_str().unwrap();
            rules += 1;
            if !said.iter().any(|said| said.contains(message)) {
                unsaid.push(format!("{path}: {message}"));
            }
        }
    });
    assert_eq!(unsaid, Vec::<String>::new());
    assert_eq!(rules, said.len());
}

/// One beyond each bound of a number, by its path.
fn numbers_beyond_their_bounds() -> Vec<(String, i64)> {
    let mut beyond = Vec::new();
    walk(
        "spec",
        &schema()["properties"]["spec"],
        &mut |path, part| {
            for (bound, step) in [("minimum", -1), ("maximum", 1)] {
                if let Some(limit) = part[bound].as_f64() {
                    let limit: i64 = format!("{limit:.0}").parse().unwrap();
                    beyond.push((path.to_owned(), limit + step));
                }
            }
        },
    );
    beyond
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_beyond_their_bounds_are_refused() {
    let Some(namespace) = TestNamespace::create("bounds").await else {
        return;
    };
    let api = api(&namespace.client, &namespace.name);
    let numbers = numbers_beyond_their_bounds();
    assert!(
        numbers
            .iter()
            .any(|(path, _)| path == "spec.cache.partsInFlight")
    );
    for (path, number) in numbers {
        let fields = path.strip_prefix("spec.").unwrap().rsplit('.');
        let spec = fields.fold(json!(number), |value, field| json!({ field: value }));
        let refused = api
            .create(&PostParams::default(), &object(cache("beyond", &spec)))
            .await;
        let message = refused.expect_err(&path).to_string();
        assert!(message.contains(&path), "{path} {number}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_every_field() {
    let Some(cluster) = ControlPlane::shared().await else {
        return;
    };
    let (mut bare, mut elsewhere) = (Vec::new(), Vec::new());
    let spec = &schema()["properties"]["spec"];
    walk("spec", spec, &mut |path, part| {
        let text = part["description"].as_str().unwrap_or_default();
        // Kubernetes documents the parts of its own objects: with their descriptions the CRD would be ten times as
        // large.
        if text.contains("As in `") {
            elsewhere.push(path.to_owned());
        }
        let is_field = !path.ends_with("[]") && !path.ends_with("{}");
        let is_ours = !elsewhere.iter().any(|theirs| path.starts_with(theirs));
        if is_field && is_ours && text.is_empty() {
            bare.push(path.to_owned());
        }
    });
    assert_eq!(bare, Vec::<String>::new());
    let script = format!(
        ". {}/cluster/environment.bash; kubectl explain falconcache.spec --recursive; kubectl explain fcache.spec.cache.memory",
        env!("CARGO_MANIFEST_DIR")
    );
    let told = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .env("KUBECONFIG", cluster.kubeconfig())
        .output()
        .await
        .unwrap();
    assert!(
        told.status.success(),
        "{}",
        String::from_utf8_lossy(&told.stderr)
    );
    let told = String::from_utf8(told.stdout).unwrap();
    for line in [
        "GROUP:      falconcache.io",
        "memory\t<string>",
        "buckets\t<[]string> -required-",
        "Default `1Gi`",
    ] {
        assert!(told.contains(line), "no {line:?} in {told}");
    }
}

/// Pseudo-random numbers with a fixed seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }

    /// A value of the type in the schema, with an unusual meaning.
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if let Some(words) = schema["enum"].as_array() {
            return self.pick(words).clone();
        }
        if schema["x-kubernetes-int-or-string"] == true {
            return self
                .pick(&[
                    json!(0),
                    json!(1),
                    json!(7),
                    json!("100%"),
                    json!("10%"),
                    json!("half"),
                    json!("250m"),
                ])
                .clone();
        }
        match schema["type"].as_str() {
            Some("boolean") => json!(self.roll(2) == 1),
            Some("integer") => {
                json!(self.pick(&[-1, 0, 1, 2, 3, 80, 9095, 65_535, 65_536, i32::MAX]))
            }
            Some("string") => {
                let long = "x".repeat(64);
                let words = [
                    "",
                    "a",
                    "0",
                    "1Gi",
                    "64Mi",
                    "1Ki",
                    "16Mi",
                    "999999Gi",
                    "10s",
                    "1h",
                    "0s",
                    "720h",
                    "A_b",
                    "-",
                    "a.b",
                    "$(POD_NAME)",
                    "ünïcode",
                    "a b",
                    "https://s3.example",
                    "http://10.0.0.1:9000",
                    "registry/falcon-cache@sha256:00",
                    "falcon-cache",
                    long.as_str(),
                ];
                json!(self.pick(&words))
            }
            Some("array") => {
                let count = self.roll(3);
                json!(
                    (0..count)
                        .map(|_| self.value(&schema["items"], depth + 1))
                        .collect::<Vec<_>>()
                )
            }
            Some("object") if schema["properties"].is_object() => {
                let mut fields = serde_json::Map::new();
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                for (name, field) in schema["properties"].as_object().unwrap() {
                    if required.contains(&json!(name)) || (depth < 6 && self.roll(4) == 0) {
                        fields.insert(name.clone(), self.value(field, depth + 1));
                    }
                }
                json!(fields)
            }
            Some("object") if schema["additionalProperties"].is_object() => {
                let key = *self.pick(&["a", "example.com/b", "app", "A b"]);
                json!({ key: self.value(&schema["additionalProperties"], depth + 1) })
            }
            _ => self
                .pick(&[
                    json!({}),
                    json!({"spec": {"hostNetwork": true}}),
                    json!({"spec": {"containers": [{"name": "cache", "args": []}]}}),
                    json!({"spec": {"containers": [{"name": "sidecar"}]}}),
                    json!({"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}}),
                    json!({"spec": 5}),
                    json!({"odd": [1, "two"]}),
                ])
                .clone(),
        }
    }
}

/// What became of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Refused,
    Applied,
    ToldByACondition,
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_random_specs_are_rejected_applied_or_reported() {
    let Some(namespace) = TestNamespace::create("odd").await else {
        return;
    };
    let client = &namespace.client;
    let operator = namespace.operator(Duration::from_mins(1));
    let fields = schema()["properties"]["spec"]["properties"].clone();
    let names: Vec<&String> = fields.as_object().unwrap().keys().collect();
    let mut dice = Dice(1);
    // A good spec, of which one to three fields are thrown anew; replicas stay few, for the sake of the test's machine.
    let specs = (0..500).map(|number| {
        let mut spec = serde_json::Map::new();
        for _ in 0..=dice.roll(3) {
            let name = *dice.pick(&names);
            if name != "replicas" {
                spec.insert(name.clone(), dice.value(&fields[name], 0));
            }
        }
        (format!("odd-{number}"), Value::Object(spec))
    });
    let fates: Vec<Fate> = stream::iter(specs.collect::<Vec<_>>())
        .map(|(name, spec)| fate(client, &operator, name, spec))
        .buffer_unordered(8)
        .collect()
        .await;
    let mut counts = BTreeMap::new();
    for fate in fates {
        *counts.entry(fate).or_insert(0) += 1;
    }
    println!("{counts:?}");
    assert_eq!(counts.len(), 3, "each of the three is met: {counts:?}");
}

/// Reconciles until nothing more is written; returns the cache's condition `Degraded`.
async fn settled(client: &Client, operator: &Operator, name: &str) -> Value {
    let caches: Api<Watched> = Api::namespaced(client.clone(), "odd");
    let caches_as_they_are = api(client, "odd");
    until(&format!("{name} settles"), || async {
        let seen = caches.get(name).await.unwrap();
        let lived = operator.reconcile(&seen).await;
        assert!(lived);
        let cache = caches_as_they_are.get(name).await.unwrap();
        let status = &cache.data["status"];
        // Whether the newest generation was observed; Kubernetes takes its own time.
        (status["observedGeneration"] == json!(cache.metadata.generation)).then(|| {
            let conditions = status["conditions"].as_array().unwrap();
            let degraded = conditions.iter().find(|one| one["type"] == "Degraded");
            degraded.unwrap().clone()
        })
    })
    .await
}

async fn fate(client: &Client, operator: &Operator, name: String, spec: Value) -> Fate {
    let api = api(client, "odd");
    let mut odd = cache(&name, &spec);
    odd["spec"]["replicas"] = json!(0);
    match api.create(&PostParams::default(), &object(odd)).await {
        Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => {
            return Fate::Refused;
        }
        other => other.unwrap_or_else(|error| panic!("{name}: {error}: {spec}")),
    };
    let degraded = settled(client, operator, &name).await;
    let fate = if degraded["status"] == "True" {
        assert!(
            !degraded["message"].as_str().unwrap().is_empty(),
            "{name}: {spec}"
        );
        Fate::ToldByACondition
    } else {
        Fate::Applied
    };
    // Back to a valid spec, except for what is immutable.
    let mut good = cache(&name, &json!({"replicas": 0}));
    if spec["discovery"]["id"].is_string() {
        good["spec"]["discovery"]["id"] = spec["discovery"]["id"].clone();
    }
    let live = api.get(&name).await.unwrap();
    good["metadata"]["resourceVersion"] = json!(live.metadata.resource_version);
    api.replace(&name, &PostParams::default(), &object(good))
        .await
        .unwrap();
    let degraded = settled(client, operator, &name).await;
    if degraded["reason"] == "DiscoveryIdTaken" {
        // Another random spec used this id first, and the id is immutable.
        return Fate::ToldByACondition;
    }
    assert_eq!(
        degraded["status"], "False",
        "{name} heals: {spec}: {degraded}"
    );
    let made = objects(client, "odd", &name).await;
    assert_eq!(made.as_array().unwrap().len(), 8, "{name}: {made:#}");
    fate
}
