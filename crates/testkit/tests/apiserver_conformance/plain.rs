//! Makes answers of two servers comparable.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Numbers UIDs, and the versions of each object, in the order in which they are seen.
#[derive(Default)]
pub struct Plain {
    uids: HashMap<String, usize>,
    versions: HashMap<String, Vec<String>>,
}

impl Plain {
    pub fn answer(&mut self, (code, body): (u16, Value)) -> Value {
        json!({"code": code, "body": self.body(body)})
    }

    pub fn event(&mut self, event: Value) -> Value {
        json!({"type": event["type"], "object": self.body(event["object"].clone())})
    }

    fn body(&mut self, body: Value) -> Value {
        if body["kind"] == "Status" {
            return self.status(&body);
        }
        if let Some(items) = body["items"].as_array() {
            let items: Vec<Value> = items.iter().map(|item| self.object(item.clone())).collect();
            return json!({
                "kind": body["kind"], "apiVersion": body["apiVersion"], "items": items,
                "more": !body["metadata"]["continue"].as_str().unwrap_or_default().is_empty(),
                "versioned": body["metadata"]["resourceVersion"].is_string(),
            });
        }
        self.object(body)
    }

    fn status(&mut self, status: &Value) -> Value {
        let details = &status["details"];
        let causes = details["causes"].as_array().cloned().unwrap_or_default();
        let mut causes: Vec<String> = causes
            .iter()
            // Remarks of what only the real one has: CEL rules and the scale subresource.
            .filter(|cause| !cause["field"].as_str().is_some_and(|field| field.starts_with(['<', '.'])))
            .map(|cause| format!("{} {}", cause["reason"], cause["field"]))
            .collect();
        causes.sort();
        causes.dedup();
        let uid = details["uid"].as_str().map(|uid| self.uid(uid));
        json!({
            "status": status["status"], "reason": status["reason"], "code": status["code"],
            "kind": details["kind"], "name": details["name"], "group": details["group"],
            "uid": uid, "causes": causes,
        })
    }

    fn object(&mut self, mut object: Value) -> Value {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let builtin = !object["apiVersion"]
            .as_str()
            .is_some_and(|version| version.contains(".x-k8s.io/") || version.contains("paddock.dev/"));
        let is_pod = object["spec"]["containers"].is_array();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            for field in ["creationTimestamp", "deletionTimestamp"] {
                if metadata.get(field).is_some_and(Value::is_string) {
                    metadata.insert(field.to_owned(), "a time".into());
                }
            }
            if let Some(version) = metadata.get("resourceVersion").and_then(Value::as_str) {
                let seen = self.versions.entry(uid.clone()).or_default();
                let at = seen.iter().position(|known| known == version).unwrap_or_else(|| {
                    seen.push(version.to_owned());
                    seen.len() - 1
                });
                metadata.insert("resourceVersion".to_owned(), at.into());
            }
            if metadata.get("uid").is_some() {
                metadata.insert("uid".to_owned(), self.uid(&uid));
            }
            for owner in
                metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten()
            {
                owner["uid"] = self.uid(owner["uid"].as_str().unwrap_or_default());
            }
        }
        if is_pod {
            // The real server fills in dozens of defaults that nothing here depends on.
            object["spec"] = only(&object["spec"], &["nodeName", "terminationGracePeriodSeconds"]);
            object["status"] = only(&object["status"], &["phase", "message", "podIP"]);
        } else if builtin && object["spec"].is_object() && object["status"]["phase"] == "Pending" {
            object["spec"] = Value::Null;
        }
        object
    }

    fn uid(&mut self, uid: &str) -> Value {
        let next = self.uids.len();
        (*self.uids.entry(uid.to_owned()).or_insert(next)).into()
    }
}

fn only(value: &Value, fields: &[&str]) -> Value {
    let kept = fields.iter().filter_map(|field| Some(((*field).to_owned(), value.get(field)?.clone())));
    Value::Object(kept.collect::<Map<_, _>>())
}
