//! Metadata: what the server sets, keeps and refuses.

use serde_json::Value;

use super::schema::Mistake;

/// A text in an object's metadata; empty if it is not there.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(super) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(super) fn grace(object: &Value) -> i64 {
    object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default()
}

/// Removes a member of the metadata.
pub(super) fn drop_field(object: &mut Value, field: &str) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove(field);
    }
}

/// Takes a member of the metadata over from `old`, absence included.
pub(super) fn keep_field(object: &mut Value, old: &Value, field: &str) {
    match old["metadata"].get(field) {
        Some(value) => object["metadata"][field] = value.clone(),
        None => drop_field(object, field),
    }
}

/// Empty collections are not stored.
pub(super) fn tidy(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|name, value| {
            name != "managedFields"
                && name != "selfLink"
                && match value {
                    Value::Null => false,
                    Value::Array(items) => !items.is_empty(),
                    Value::Object(members) => !members.is_empty(),
                    Value::String(text) => !text.is_empty(),
                    _ => true,
                }
        });
    }
}

pub(super) fn bump_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|generation| *generation > 0) {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Owners must be named in full, and at most one may be the controller.
pub(super) fn owner_mistakes(object: &Value) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut controllers = 0;
    for owner in object["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let message = "Invalid value: \"\": must not be empty".to_owned();
                found.push(("FieldValueInvalid", message, format!("metadata.ownerReferences.{field}")));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let message = "Only one reference can have Controller set to true".to_owned();
        found.push(("FieldValueInvalid", message, "metadata.ownerReferences".to_owned()));
    }
    found
}
