//! `spec.origin`: the S3 service that the cache reads from, and the pods' credentials for it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The S3 service that the cache reads from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.serviceAccountName) && has(self.serviceAccountAnnotations) && size(self.serviceAccountAnnotations) > 0)",
     "message": "serviceAccountAnnotations are for the account that the operator creates: with serviceAccountName, annotate that account instead"}
]))]
pub struct Origin {
    /// Buckets that may be read through the cache, at least one. The first is the default for requests that name no
    /// bucket. Example: `[media, models]`.
    #[schemars(length(min = 1, max = 50), inner(length(max = 63)))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self.all(b, b.matches('^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$'))",
         "message": "a bucket name has 3 to 63 lower case letters, digits, dots and hyphens, and begins and ends with a letter or digit"},
        {"rule": "self.all(b, self.exists_one(c, c == b))",
         "message": "each bucket must be named only once"}
    ]))]
    pub buckets: Vec<String>,

    /// URL of an S3-compatible service. Default: Amazon S3 in the region. Example: `http://minio.storage.svc:9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self.matches('^https?://[^/?#@ ]+/?$')",
         "message": "the endpoint must be http:// or https://, a host and optionally a port, without a path"}
    ]))]
    pub endpoint: Option<String>,

    /// Region of the buckets. Default: what the SDK finds in the environment, otherwise `us-east-1`. Example:
    /// `eu-central-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self.matches('^[A-Za-z0-9-]+$')",
         "message": "a region has letters, digits and hyphens, such as eu-central-1"}
    ]))]
    pub region: Option<String>,

    /// Use path-style addressing (`endpoint/bucket/key`) instead of `bucket.endpoint/key`. Most S3-compatible services
    /// need it. Default: true if `endpoint` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,

    /// Secret with the credentials for S3. Default: none; the pods then use the identity of their service account
    /// (IRSA, EKS Pod Identity, GKE Workload Identity). It is mounted as files, which the cache reloads: rotated keys
    /// need no restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsSecretRef>,

    /// Service account of the pods. Default: one with the name of the cache, created by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,

    /// Annotations of the service account that the operator creates.
    /// Example: `{eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/media-reader"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub service_account_annotations: BTreeMap<String, String>,

    /// CA certificates (PEM) that are trusted for the endpoint instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleRef>,
}

/// Secret with the credentials for S3, and the names of its keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSecretRef {
    /// Name of a Secret in the namespace of the cache. Example: `s3-keys`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key that holds the access key id. Default `access-key-id`.
    #[serde(default = "access_key_id")]
    #[schemars(length(min = 1, max = 253))]
    pub access_key_id_key: String,
    /// Key that holds the secret access key. Default `secret-access-key`.
    #[serde(default = "secret_access_key")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_access_key_key: String,
    /// Key that holds the session token (optional in the Secret). Default `session-token`.
    #[serde(default = "session_token")]
    #[schemars(length(min = 1, max = 253))]
    pub session_token_key: String,
}

fn access_key_id() -> String {
    "access-key-id".to_owned()
}

fn secret_access_key() -> String {
    "secret-access-key".to_owned()
}

fn session_token() -> String {
    "session-token".to_owned()
}

/// CA certificates in a key of a ConfigMap or of a Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.configMapName) != has(self.secretName)",
     "message": "caBundleRef needs either configMapName or secretName"}
]))]
pub struct CaBundleRef {
    /// Name of a ConfigMap in the namespace of the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub config_map_name: Option<String>,
    /// Name of a Secret in the namespace of the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Key that holds the certificates. Default `ca.crt`. They are read when a pod starts.
    #[serde(default = "ca_crt")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}
