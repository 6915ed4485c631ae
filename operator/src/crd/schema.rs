//! Schemas that can't be derived: sizes, durations, numbers or percentages, and Kubernetes' own types without their
//! descriptions.

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::Value;

/// A size in bytes such as `512Mi`.
pub fn size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 20,
        "x-kubernetes-validations": [{
            "rule": "isQuantity(self) && quantity(self).isInteger() && quantity(self).isGreaterThan(quantity('0'))",
            "message": "a size is a whole number of bytes with a suffix, such as 512Mi or 2Gi"
        }]
    })
}

/// A duration such as `1h30m` or `500ms`.
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^([0-9]{1,6}(h|m|s|ms)){1,4}$')",
            "message": "a duration is a number and a unit (h, m, s, ms), such as 90s or 1h30m"
        }]
    })
}

/// A duration that the cache counts in whole minutes.
pub fn minutes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^([0-9]{1,6}(h|m|s)){1,3}$') && duration(self).getSeconds() % 60 == 0",
            "message": "a number of whole minutes, such as 60m or 24h; 0s for none"
        }]
    })
}

/// A duration that Kubernetes counts in whole seconds.
pub fn seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^([0-9]{1,6}(h|m|s)){1,3}$')",
            "message": "a number of whole seconds, such as 30s or 5m"
        }]
    })
}

/// A number of pods or a percentage of them, at least 1.
pub fn pods_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "x-kubernetes-validations": [{
            "rule": "type(self) == int ? self >= 1 : self.matches('^([1-9][0-9]?|100)%$')",
            "message": "a number of pods (1 or more) or a percentage from 1% to 100%"
        }]
    })
}

/// CPU as Kubernetes writes it: `500m`, `2`, `0.5`.
pub fn cpu(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": r"^[0-9]+(\.[0-9]{1,3}|m)?$"
    })
}

/// Any object. The operator validates it, and reports mistakes in the conditions.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true
    })
}

/// A type of Kubernetes itself, without its descriptions: they are in `kubectl explain pod.spec`, and would triple the
/// size of this definition.
pub fn plain<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    strip_descriptions(schema.ensure_object());
    schema
}

fn strip_descriptions(object: &mut serde_json::Map<String, Value>) {
    // A property may itself be called `description`; then it is a schema and not a text.
    if object.get("description").is_some_and(Value::is_string) {
        object.remove("description");
    }
    for value in object.values_mut() {
        match value {
            Value::Object(inner) => strip_descriptions(inner),
            Value::Array(items) => items
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(strip_descriptions),
            _ => {}
        }
    }
}
