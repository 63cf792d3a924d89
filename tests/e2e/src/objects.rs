//! Manifests as people write them, and the kinds that scenarios make and must remove.

use serde_json::{Value, json};

/// What a scenario makes; the order is the one in which it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Session.
    Session,
    /// An Agent.
    Agent,
    /// A SandboxWarmPool.
    Pool,
    /// A SandboxTemplate.
    Template,
    /// A plain Pod.
    Pod,
    /// A NetworkPolicy.
    NetworkPolicy,
    /// A Service.
    Service,
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A Namespace, with all that is in it.
    Namespace,
}

impl Kind {
    /// The resource as kubectl names it.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Session => "sessions.paddock.dev",
            Self::Agent => "agents.paddock.dev",
            Self::Pool => "sandboxwarmpools.extensions.agents.x-k8s.io",
            Self::Template => "sandboxtemplates.extensions.agents.x-k8s.io",
            Self::Pod => "pods",
            Self::NetworkPolicy => "networkpolicies.networking.k8s.io",
            Self::Service => "services",
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::Namespace => "namespaces",
        }
    }
}

/// An Agent's manifest: the scripted model, and what `extra` adds to the spec.
pub fn agent(namespace: &str, name: &str, extra: &Value) -> Value {
    let mut spec = json!({ "harness": "opencode", "model": "scripted" });
    merge(&mut spec, extra);
    json!({
        "apiVersion": "paddock.dev/v1alpha1",
        "kind": "Agent",
        "metadata": { "namespace": namespace, "name": name },
        "spec": spec,
    })
}

/// The manifest of a Session of a saved agent, and what `extra` adds to the spec.
pub fn session(namespace: &str, name: &str, agent: &str, extra: &Value) -> Value {
    let mut spec = json!({ "agentRef": { "name": agent } });
    merge(&mut spec, extra);
    session_with_spec(namespace, name, spec)
}

/// The manifest of a Session with any spec.
pub fn session_with_spec(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "paddock.dev/v1alpha1",
        "kind": "Session",
        "metadata": { "namespace": namespace, "name": name },
        "spec": spec,
    })
}

/// Several manifests in one, as one file with many documents has.
pub fn list(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// Puts the keys of `extra` into `target`, objects within objects too.
pub fn merge(target: &mut Value, extra: &Value) {
    match (target, extra) {
        (Value::Object(target), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (target, extra) => *target = extra.clone(),
    }
}
