//! What users write.

use serde_json::{Value, json};

pub const NS: &str = "paddock";
/// Where controllers have their lease.
pub const SYSTEM: &str = "paddock-system";
pub const POOL: &str = "opencode";

pub fn template() -> Value {
    json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxTemplate",
        "metadata": {"name": POOL, "annotations": {"paddock.dev/harness": "opencode"}},
        "spec": {"podTemplate": {"spec": {"containers": [{"name": "harness", "image": "opencode:1"}]}}},
    })
}

pub fn pool(replicas: u64) -> Value {
    json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool",
        "metadata": {"name": POOL},
        "spec": {"replicas": replicas, "sandboxTemplateRef": {"name": POOL}},
    })
}

pub fn node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}})
}

/// An agent whose sessions end with their pods.
pub fn coder() -> Value {
    agent("coder", json!({}))
}

/// An agent whose sessions keep their files and come back by themselves.
pub fn keeper() -> Value {
    agent(
        "keeper",
        json!({"workspace": {"mode": "Persistent", "size": "1Gi"}, "lifecycle": {"recovery": "Auto"}}),
    )
}

pub fn agent(name: &str, mut rules: Value) -> Value {
    rules["harness"] = "opencode".into();
    rules["model"] = "m".into();
    json!({"apiVersion": "paddock.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": rules})
}

pub fn session(name: &str, agent: &str) -> Value {
    json!({
        "apiVersion": "paddock.dev/v1alpha1", "kind": "Session", "metadata": {"name": name},
        "spec": {"agentRef": {"name": agent}},
    })
}

/// A text somewhere in an object; empty if it is not there.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub fn phase(session: &Value) -> &str {
    match text(session, "/status/phase") {
        "" => "Creating",
        phase => phase,
    }
}

pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}
