//! Reading and changing a container's description, and what every container with the runner has.

use paddock_api::labels::WORKSPACE_VOLUME;
use paddock_runnerapi as runnerapi;
use serde_json::{Map, Value, json};

use crate::build::BuildError;

/// The harness's home, where nothing else is said.
pub(super) const DEFAULT_HOME: &str = "/home/agent";
/// Booting a harness on a busy node takes most of a minute.
const STARTUP_FAILURES: u32 = 300;

/// What a container finds at a path.
pub(super) struct Place<'a> {
    /// Of the volume that goes with the pod.
    pub(super) volume: &'static str,
    pub(super) path: &'a str,
    /// The folder on the session's volume, where that is kept.
    pub(super) kept_as: Option<&'static str>,
}

/// Mounts these places, where the template mounts nothing there; returns the names of the volumes that are needed for it.
pub(super) fn mount(
    container: &mut Map<String, Value>,
    places: &[Place<'_>],
    persistent: bool,
) -> Result<Vec<&'static str>, BuildError> {
    let mounts = array(container, "volumeMounts")?;
    let mut volumes = Vec::new();
    for Place { volume, path, kept_as } in places {
        let taken = mounts.iter().any(|m| m.get("mountPath").and_then(Value::as_str) == Some(path));
        match kept_as.filter(|_| persistent) {
            _ if taken => {}
            // One volume for all: they belong together, and a claim less is a thing less to lose.
            Some(folder) => {
                mounts.push(json!({"name": WORKSPACE_VOLUME, "mountPath": path, "subPath": folder}));
            }
            None => {
                mounts.push(json!({"name": volume, "mountPath": path}));
                volumes.push(*volume);
            }
        }
    }
    Ok(volumes)
}

/// The runner's port, and how the kubelet looks after it.
pub(super) fn serve(container: &mut Map<String, Value>) -> Result<(), BuildError> {
    array(container, "ports")?
        .push(json!({"name": "runner", "containerPort": runnerapi::PORT, "protocol": "TCP"}));
    let get = |path: &str| json!({"path": path, "port": runnerapi::PORT});
    container.insert(
        "startupProbe".into(),
        json!({"httpGet": get(runnerapi::READYZ), "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": STARTUP_FAILURES}),
    );
    container.insert(
        "readinessProbe".into(),
        json!({"httpGet": get(runnerapi::READYZ), "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 3}),
    );
    container.insert(
        "livenessProbe".into(),
        json!({"httpGet": get(runnerapi::LIVEZ), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6}),
    );
    Ok(())
}

/// What no container of Paddock's own needs.
pub(super) fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

pub(super) fn array<'a>(
    fields: &'a mut Map<String, Value>,
    name: &'static str,
) -> Result<&'a mut Vec<Value>, BuildError> {
    let value = fields.entry(name).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or(BuildError::Malformed(name))
}

pub(super) fn env_value(env: &[Value], name: &str) -> Option<String> {
    let entry = env.iter().find(|e| e.get("name").and_then(Value::as_str) == Some(name))?;
    entry.get("value").and_then(Value::as_str).map(str::to_owned)
}

/// Sets a variable; what the template says of Paddock's own names does not count.
pub(super) fn set_env(env: &mut Vec<Value>, name: &str, mut value: Value) {
    env.retain(|e| e.get("name").and_then(Value::as_str) != Some(name));
    value["name"] = json!(name);
    env.push(value);
}
