//! `spec.pod.overrides`: a partial pod template, parsed strictly.
//!
//! The schema accepts any object, so that the CRD stays small; an unknown field is rejected here, with its path.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use crate::plan::Error;

const FIELD: &str = "spec.pod.overrides";

/// Parses a partial template.
pub fn read(raw: &Value) -> Result<PodTemplateSpec, Error> {
    let template: PodTemplateSpec = serde_json::from_value(raw.clone()).map_err(|error| Error {
        field: FIELD.to_owned(),
        problem: error.to_string(),
    })?;
    let understood = serde_json::to_value(&template).map_err(|error| Error {
        field: FIELD.to_owned(),
        problem: error.to_string(),
    })?;
    match unknown(raw, &understood, FIELD) {
        Some(field) => Err(Error {
            field,
            problem: "is not a field of a pod template".to_owned(),
        }),
        None => Ok(template),
    }
}

/// The first field of `raw` that is missing in `understood`.
fn unknown(raw: &Value, understood: &Value, path: &str) -> Option<String> {
    match (raw, understood) {
        (Value::Object(raw), understood) => raw
            .iter()
            .filter(|(_, value)| !value.is_null())
            .find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                match understood.get(name) {
                    Some(inner) => unknown(value, inner, &path),
                    None => Some(path),
                }
            }),
        (Value::Array(raw), Value::Array(understood)) => raw
            .iter()
            .zip(understood)
            .enumerate()
            .find_map(|(index, (raw, understood))| {
                unknown(raw, understood, &format!("{path}[{index}]"))
            }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_partial_template_is_enough() {
        let template = read(
            &json!({"spec": {"hostNetwork": true, "containers": [{"name": "cache", "tty": true}]}}),
        )
        .unwrap();
        assert_eq!(template.spec.unwrap().host_network, Some(true));
    }

    #[test]
    fn a_field_that_no_pod_has_is_named() {
        let error =
            read(&json!({"spec": {"containers": [{"name": "cache", "imagee": "x"}]}})).unwrap_err();
        assert_eq!(error.field, "spec.pod.overrides.spec.containers[0].imagee");
        assert!(
            read(&json!({"spec": {"hostNetwork": "yes"}}))
                .unwrap_err()
                .problem
                .contains("invalid type")
        );
    }
}
