//! `FalconCache`: what a user asks for and what the operator reports back.
//!
//! Types and schema only. The doc comments are what `kubectl explain` prints, so they are written for the user, with
//! default, unit and example. Nothing is decided here: what the values mean is in `plan`.

pub mod cache;
pub mod network;
pub mod origin;
pub mod pod;
pub mod schema;
pub mod status;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResource;
use kube::core::CustomResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::crd::cache::{Cache, Discovery, Disruption, Logging, Rollout};
use crate::crd::network::{Monitoring, NetworkPolicy, S3, Service};
use crate::crd::origin::Origin;
use crate::crd::pod::{ImagePullPolicy, ImagePullSecret, Pod};
use crate::crd::status::FalconCacheStatus;

/// Desired state of the cache. Only `origin.buckets` is required.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "falconcache.io",
    version = "v1alpha1",
    kind = "FalconCache",
    plural = "falconcaches",
    shortname = "fcache",
    category = "falcon",
    namespaced,
    derive = "PartialEq",
    status = "FalconCacheStatus",
    doc = "A ring of cache pods between this cluster and S3: applications read objects through it, and each object is read from S3 once.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.ready", "description": "Ready pods / desired pods"}"#,
    printcolumn = r#"{"name": "Status", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason", "description": "Reason of the Ready condition"}"#,
    printcolumn = r#"{"name": "Hit%", "type": "string", "jsonPath": ".status.hitRatio", "description": "Percentage of reads served without S3"}"#,
    printcolumn = r#"{"name": "Used", "type": "string", "jsonPath": ".status.used", "description": "Cache memory used / total"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Time since creation"}"#,
    printcolumn = r#"{"name": "Endpoint", "type": "string", "jsonPath": ".status.endpoint", "description": "URL of the blob API", "priority": 1}"#,
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.version", "description": "Version of the cache image", "priority": 1}"#,
    printcolumn = r#"{"name": "Operator", "type": "string", "jsonPath": ".status.operator", "description": "Operator that manages the cache", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct FalconCacheSpec {
    /// Number of cache pods. Default 3. 0 stops the cache and keeps its Kubernetes objects. An autoscaler may set it
    /// through the scale subresource (`scaleTargetRef: {apiVersion: falconcache.io/v1alpha1, kind: FalconCache, name:
    /// NAME}`); the operator never writes it.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 500))]
    pub replicas: i32,

    /// The S3 service that the cache reads from. Required.
    pub origin: Origin,

    /// Size of the cache and freshness of its objects.
    #[serde(default)]
    pub cache: Cache,

    /// How the pods discover each other.
    #[serde(default)]
    pub discovery: Discovery,

    /// The Service for applications. It has the name of the cache.
    #[serde(default)]
    pub service: Service,

    /// The S3 gateway: an S3-compatible endpoint for SDKs and the AWS CLI.
    #[serde(default)]
    pub s3: S3,

    /// Image of the cache. Default: the one of the operator's version. Example:
    /// `ghcr.io/falconcache/falcon-cache:0.1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// Pull policy: `Always`, `IfNotPresent` or `Never`. Default: that of Kubernetes (`Always` for `:latest`, otherwise
    /// `IfNotPresent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets with registry credentials. Example: `[{name: registry}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<ImagePullSecret>,

    /// Metadata, scheduling and resources of the pods.
    #[serde(default)]
    pub pod: Pod,

    /// How a change is rolled out to the pods.
    #[serde(default)]
    pub rollout: Rollout,

    /// The PodDisruptionBudget.
    #[serde(default)]
    pub disruption: Disruption,

    /// The NetworkPolicy.
    #[serde(default)]
    pub network_policy: NetworkPolicy,

    /// PodMonitor or ServiceMonitor for the Prometheus Operator, created only if its API is available.
    #[serde(default)]
    pub monitoring: Monitoring,

    /// Logging of the pods.
    #[serde(default)]
    pub logging: Logging,

    /// Stops the operator from changing anything of this cache. The pods keep serving, and the condition `Paused` is
    /// true. Default false.
    #[serde(default)]
    pub paused: bool,
}

fn three() -> i32 {
    3
}

/// The CustomResourceDefinition as it is installed.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = FalconCache::crd();
    for version in &mut definition.spec.versions {
        let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|validation| validation.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        let mut value = json!(schema);
        value["x-kubernetes-validations"] = json!([{
            "rule": "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$')",
            "message": "the name becomes the name of a Service and of pods: at most 50 lower case letters, digits and hyphens, beginning with a letter"
        }]);
        forbid_null(&mut value);
        *schema = serde_json::from_value(value).unwrap_or_else(|_| schema.clone());
    }
    definition
}

/// Optional means absent, not null: the validation rules don't treat null as absent.
fn forbid_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| !(name == "nullable" && value.is_boolean()));
            if let Some(Value::Array(choices)) = map.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            map.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        _ => {}
    }
}

/// The definition as YAML: the content of `crds/falconcaches.yaml`.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    // The detour over `Value` keeps the order of keys that the API server prints.
    let body = serde_yaml::to_string(&serde_yaml::to_value(definition())?)?;
    Ok(format!(
        "# Written by `falcon-operator crd`. Not edited by hand.\n{body}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definition_is_the_one_that_this_code_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/falconcaches.yaml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == yaml().unwrap(),
            "crds/falconcaches.yaml is stale: cargo run -p falcon-operator -- crd > crds/falconcaches.yaml"
        );
    }

    /// Client-side `kubectl apply` keeps the whole object in an annotation of at most 262,144 bytes.
    #[test]
    fn the_definition_fits_into_client_side_apply() {
        let json = serde_json::to_string(&definition()).unwrap().len();
        assert!(
            json < 200_000 && yaml().unwrap().len() < 200_000,
            "{json} bytes of JSON, {} of YAML",
            yaml().unwrap().len()
        );
    }

    #[test]
    fn no_unsigned_and_no_floating_numbers_are_in_the_schema() {
        let text = yaml().unwrap();
        for bad in [
            "format: uint",
            "format: double",
            "format: float",
            "type: number",
        ] {
            assert!(!text.contains(bad), "{bad}");
        }
    }

    #[test]
    fn every_field_of_the_spec_says_what_it_is() {
        let value = serde_json::to_value(definition()).unwrap();
        let spec = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            ["properties"];
        let mut open: Vec<(String, &Value)> = spec
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), v))
            .collect();
        while let Some((path, field)) = open.pop() {
            assert!(
                field["description"].is_string(),
                "spec.{path} has no description"
            );
            // Types that Kubernetes owns are taken over without their prose.
            if field["description"].as_str().unwrap().contains("As in ") {
                continue;
            }
            for (name, child) in field["properties"].as_object().into_iter().flatten() {
                open.push((format!("{path}.{name}"), child));
            }
        }
    }

    #[test]
    fn ten_lines_are_enough() {
        let cache: FalconCache = serde_yaml::from_str(
            "apiVersion: falconcache.io/v1alpha1\nkind: FalconCache\nmetadata: {name: media}\nspec:\n  origin:\n    buckets: [media]\n",
        )
        .unwrap();
        assert_eq!(cache.spec.replicas, 3);
        assert_eq!(cache.spec.cache.memory, "1Gi");
    }
}
