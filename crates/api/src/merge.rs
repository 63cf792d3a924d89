//! Merge patches (RFC 7386).

use serde::Serialize;
use serde_json::{Map, Value};

/// The merge patch that turns the JSON of `before` into that of `after`.
pub fn merge_diff<T: Serialize>(before: &T, after: &T) -> Value {
    let json = |value: &T| serde_json::to_value(value).unwrap_or(Value::Null);
    diff(&json(before), &json(after)).unwrap_or_else(|| Value::Object(Map::new()))
}

fn diff(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (key, value) in new {
                match old.get(key) {
                    Some(previous) => {
                        if let Some(change) = diff(previous, value) {
                            patch.insert(key.clone(), change);
                        }
                    }
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                }
            }
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ if before == after => None,
        _ => Some(after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_diff_sets_changes_and_removes() {
        let before = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        let after = json!({"a": 1, "b": {"c": 3}, "e": [1, 2], "f": true});
        assert_eq!(merge_diff(&before, &after), json!({"b": {"c": 3, "d": null}, "e": [1, 2], "f": true}));
        assert_eq!(merge_diff(&before, &before), json!({}));
    }
}
