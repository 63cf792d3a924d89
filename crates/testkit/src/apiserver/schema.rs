//! What a custom resource's schema does to objects: unknown fields go, defaults come, wrong types are refused.

use serde_json::{Map, Value};

/// A structural schema.
#[derive(Clone, Debug)]
pub(super) struct Schema(Value);

/// A field that breaks its schema: reason, message, path.
pub(super) type Mistake = (&'static str, String, String);

impl Schema {
    pub(super) fn new(schema: &Value) -> Self {
        Self(schema.clone())
    }

    /// Removes what the schema does not know, and sets defaults.
    pub(super) fn shape(&self, object: &mut Value) {
        let Some(members) = object.as_object_mut() else { return };
        let properties = &self.0["properties"];
        members.retain(|name, _| {
            matches!(name.as_str(), "apiVersion" | "kind" | "metadata") || properties.get(name).is_some()
        });
        default_members(members, &self.0);
        for (name, value) in members.iter_mut().filter(|(name, _)| *name != "metadata") {
            if let Some(schema) = properties.get(name) {
                shape(schema, value);
            }
        }
    }

    pub(super) fn mistakes(&self, object: &Value) -> Vec<Mistake> {
        let mut found = Vec::new();
        for name in self.0["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if object.get(name).is_none() {
                found.push(("FieldValueRequired", "Required value".to_owned(), name.to_owned()));
            }
        }
        for (name, schema) in self.0["properties"].as_object().into_iter().flatten() {
            if let Some(value) = object.get(name).filter(|_| name != "metadata") {
                check(schema, value, name, &mut found);
            }
        }
        found
    }
}

fn is_open(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Members that are null and may not be count as absent; what is absent and has a default gets it.
fn default_members(members: &mut Map<String, Value>, schema: &Value) {
    let (properties, additional) = (&schema["properties"], &schema["additionalProperties"]);
    members.retain(|name, value| {
        let known = properties.get(name).or(additional.is_object().then_some(additional));
        !value.is_null() || known.is_none_or(|schema| schema["nullable"] == true)
    });
    for (name, schema) in properties.as_object().into_iter().flatten() {
        if let Some(default) = schema.get("default").filter(|_| !members.contains_key(name)) {
            members.insert(name.clone(), default.clone());
        }
    }
}

fn shape(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            let properties = &schema["properties"];
            let additional = &schema["additionalProperties"];
            if properties.is_object() {
                if !is_open(schema) {
                    members.retain(|name, _| properties.get(name).is_some());
                }
            } else if !additional.is_object()
                && additional != true
                && !is_open(schema)
                && schema["x-kubernetes-embedded-resource"] != true
            {
                members.clear();
            }
            default_members(members, schema);
            for (name, member) in members.iter_mut() {
                let known = properties.get(name).or(additional.is_object().then_some(additional));
                if let Some(schema) = known {
                    shape(schema, member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shape(&schema["items"], item)),
        _ => {}
    }
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<Mistake>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let fits = schema["x-kubernetes-int-or-string"] == true
        || match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            _ => true,
        };
    if !fits {
        let expected = schema["type"].as_str().unwrap_or_default();
        found.push(("FieldValueTypeInvalid", format!("must be of type {expected}"), path.to_owned()));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        found.push(("FieldValueNotSupported", format!("Unsupported value: {value}"), path.to_owned()));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        found.push(("FieldValueInvalid", format!("Invalid value: {value}"), path.to_owned()));
    }
    if let (Some(least), Some(text)) = (schema["minLength"].as_u64(), value.as_str())
        && (text.chars().count() as u64) < least
    {
        found.push(("FieldValueInvalid", format!("Invalid value: {value}"), path.to_owned()));
    }
    match value {
        Value::Object(members) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    found.push(("FieldValueRequired", "Required value".to_owned(), format!("{path}.{name}")));
                }
            }
            for (name, member) in members {
                let additional = &schema["additionalProperties"];
                let known = schema["properties"].get(name).or(additional.is_object().then_some(additional));
                if let Some(schema) = known {
                    check(schema, member, &format!("{path}.{name}"), found);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}
