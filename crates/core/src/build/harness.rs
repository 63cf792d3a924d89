//! What makes any container image a harness pod: the runner as first process, its volumes and probes.
//!
//! An init container copies the runner's static binary into a shared volume, so the image needs nothing
//! of Paddock's in it.

use paddock_api::labels::WORKSPACE_VOLUME;
use paddock_runnerapi as runnerapi;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::build::BuildError;

/// What the controller knows about the runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunnerSettings {
    /// Image with the runner's binary.
    pub image: String,
    /// Its pull policy.
    pub pull_policy: String,
    /// Public keys the runner trusts, as [`runnerapi::VerifyingKeys`] reads them.
    pub public_keys: String,
}

const BIN_VOLUME: &str = "paddock-bin";
const STATE_VOLUME: &str = "paddock-state";
const DEFAULT_HOME: &str = "/home/agent";
const INIT_CONTAINER: &str = "paddock-runner";
/// The runner stops its harness within a second; the rest is slack for a busy node.
const TERMINATION_GRACE_SECS: u64 = 10;
/// Booting a harness on a busy node takes most of a minute.
const STARTUP_FAILURES: u32 = 300;

/// Puts the runner into `spec`'s harness container.
pub(super) fn inject(
    spec: &mut Value,
    harness: &str,
    container_name: Option<&str>,
    runner: &RunnerSettings,
) -> Result<(), BuildError> {
    let fields = spec.as_object_mut().ok_or(BuildError::Malformed("spec"))?;
    let persistent = array(fields, "volumes")?
        .iter()
        .any(|v| v.get("name").and_then(Value::as_str) == Some(WORKSPACE_VOLUME));
    let containers = array(fields, "containers")?;
    let index = match container_name {
        None => 0,
        Some(name) => containers
            .iter()
            .position(|c| c.get("name").and_then(Value::as_str) == Some(name))
            .ok_or_else(|| BuildError::NoSuchContainer(name.to_owned()))?,
    };
    let container = containers[index].as_object_mut().ok_or(BuildError::Malformed("containers[]"))?;
    let volumes = harness_container(container, harness, runner, persistent)?;

    array(fields, "volumes")?.extend(volumes.into_iter().map(|name| json!({"name": name, "emptyDir": {}})));
    array(fields, "initContainers")?.insert(0, init_container(runner));
    fields.entry("terminationGracePeriodSeconds").or_insert(json!(TERMINATION_GRACE_SECS));
    fields.entry("enableServiceLinks").or_insert(json!(false));
    Ok(())
}

/// Rewrites the container; returns the names of the volumes that it now needs.
fn harness_container(
    container: &mut Map<String, Value>,
    harness: &str,
    runner: &RunnerSettings,
    persistent: bool,
) -> Result<Vec<&'static str>, BuildError> {
    let own_command = {
        let mut command = std::mem::take(array(container, "command")?);
        command.append(array(container, "args")?);
        command
    };
    container
        .insert("command".into(), json!([format!("{}/paddock-runner", runnerapi::INSTALL_DIR), "run", "--"]));
    container.insert("args".into(), Value::Array(own_command));

    let env = array(container, "env")?;
    let home = env_value(env, "HOME").unwrap_or_else(|| DEFAULT_HOME.to_owned());
    let workspace =
        env_value(env, runnerapi::env::WORKSPACE).unwrap_or_else(|| runnerapi::DEFAULT_WORKSPACE.to_owned());
    set_env(env, "HOME", json!({"value": home}));
    set_env(env, runnerapi::env::WORKSPACE, json!({"value": workspace}));
    set_env(env, runnerapi::env::STATE_DIR, json!({"value": runnerapi::DEFAULT_STATE_DIR}));
    set_env(env, runnerapi::env::HARNESS, json!({"value": harness}));
    set_env(env, runnerapi::env::PUBLIC_KEYS, json!({"value": runner.public_keys}));
    set_env(env, runnerapi::env::POD_UID, json!({"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}));

    let mounts = array(container, "volumeMounts")?;
    let mut volumes = Vec::new();
    mounts.push(json!({"name": BIN_VOLUME, "mountPath": runnerapi::INSTALL_DIR, "readOnly": true}));
    volumes.push(BIN_VOLUME);
    for (name, path, kept_as) in [
        (STATE_VOLUME, runnerapi::DEFAULT_STATE_DIR, Some("state")),
        ("paddock-workspace", workspace.as_str(), Some("workspace")),
        ("paddock-home", home.as_str(), Some("home")),
        ("paddock-tmp", "/tmp", None),
    ] {
        let taken = mounts.iter().any(|m| m.get("mountPath").and_then(Value::as_str) == Some(path));
        match kept_as.filter(|_| persistent) {
            _ if taken => {}
            // One volume for all three: they belong together, and a claim less is a thing less to lose.
            Some(folder) => {
                mounts.push(json!({"name": WORKSPACE_VOLUME, "mountPath": path, "subPath": folder}));
            }
            None => {
                mounts.push(json!({"name": name, "mountPath": path}));
                volumes.push(name);
            }
        }
    }

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
    Ok(volumes)
}

fn init_container(runner: &RunnerSettings) -> Value {
    json!({
        "name": INIT_CONTAINER,
        "image": runner.image,
        "imagePullPolicy": runner.pull_policy,
        "args": ["install", runnerapi::INSTALL_DIR],
        "volumeMounts": [{"name": BIN_VOLUME, "mountPath": runnerapi::INSTALL_DIR}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

fn array<'a>(
    fields: &'a mut Map<String, Value>,
    name: &'static str,
) -> Result<&'a mut Vec<Value>, BuildError> {
    let value = fields.entry(name).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or(BuildError::Malformed(name))
}

fn env_value(env: &[Value], name: &str) -> Option<String> {
    let entry = env.iter().find(|e| e.get("name").and_then(Value::as_str) == Some(name))?;
    entry.get("value").and_then(Value::as_str).map(str::to_owned)
}

/// Sets a variable; what the template says of Paddock's own names does not count.
fn set_env(env: &mut Vec<Value>, name: &str, mut value: Value) {
    env.retain(|e| e.get("name").and_then(Value::as_str) != Some(name));
    value["name"] = json!(name);
    env.push(value);
}
