//! What a client may put into a message: an allow list of part types and of their fields.
//!
//! opencode reads `file://` URLs without asking, takes `synthetic` and `ignored` from the client, and with
//! empty text runs the previous prompt again. None of that may come from outside.

use serde_json::{Map, Value, json};

use crate::harness::BadParts;

/// Checks the parts and keeps only what is allowed.
pub(in crate::harness) fn prepare(parts: &[Value]) -> Result<Vec<Value>, BadParts> {
    let prepared = parts
        .iter()
        .enumerate()
        .map(|(index, part)| one(part).map_err(|what| BadParts(format!("parts[{index}]{what}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let speaks = |part: &Value| match part["type"].as_str() {
        Some("text") => part["text"].as_str().is_some_and(|text| !text.trim().is_empty()),
        _ => true,
    };
    if !prepared.iter().any(speaks) {
        return Err(BadParts("parts: needs at least one part with text or a file".to_owned()));
    }
    Ok(prepared)
}

fn one(part: &Value) -> Result<Value, String> {
    let part = part.as_object().ok_or(" is not an object")?;
    let kind = part.get("type").and_then(Value::as_str).ok_or(".type is not a string")?;
    match kind {
        "text" => Ok(json!({"type": "text", "text": string(part, "text")?})),
        "agent" => Ok(json!({"type": "agent", "name": string(part, "name")?})),
        "file" => {
            let url = string(part, "url")?;
            let allowed = ["data:", "http://", "https://"];
            if !allowed.iter().any(|scheme| starts_with_ignoring_case(url, scheme)) {
                return Err(
                    ".url is not a data:, http: or https: URL; files of the pod cannot be sent".to_owned()
                );
            }
            let mut file = json!({"type": "file", "mime": string(part, "mime")?, "url": url});
            if let Some(name) = part.get("filename").and_then(Value::as_str) {
                file["filename"] = json!(name);
            }
            Ok(file)
        }
        _ => Err(".type is not one of text, file, agent".to_owned()),
    }
}

fn string<'a>(part: &'a Map<String, Value>, field: &str) -> Result<&'a str, String> {
    part.get(field).and_then(Value::as_str).ok_or_else(|| format!(".{field} is not a string"))
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_fields_pass() {
        let parts = [
            json!({"type": "text", "text": "hi", "tools": {"bash": true}, "synthetic": true, "ignored": true, "id": "x"}),
            json!({"type": "file", "mime": "image/png", "url": "DATA:image/png;base64,AA", "filename": "a.png", "source": {"path": "/etc"}}),
        ];
        assert_eq!(
            prepare(&parts).unwrap(),
            [
                json!({"type": "text", "text": "hi"}),
                json!({"type": "file", "mime": "image/png", "url": "DATA:image/png;base64,AA", "filename": "a.png"}),
            ]
        );
    }

    #[test]
    fn what_would_read_the_pods_files_or_say_nothing_is_refused() {
        for (parts, named) in [
            (json!([{"type": "file", "mime": "text/plain", "url": "file:///etc/passwd"}]), "parts[0].url"),
            (json!([{"type": "file", "mime": "text/plain", "url": " file:///etc/passwd"}]), "parts[0].url"),
            (json!([{"type": "text", "text": "a"}, {"type": "file", "url": "data:,"}]), "parts[1].mime"),
            (json!([{"type": "subtask", "prompt": "x"}]), "parts[0].type"),
            (json!([{"type": "text"}]), "parts[0].text"),
            (json!([{"text": "x"}]), "parts[0].type"),
            (json!(["x"]), "parts[0]"),
            (json!([{"type": "text", "text": " \n"}]), "parts"),
            (json!([]), "parts"),
        ] {
            let error = prepare(parts.as_array().unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
