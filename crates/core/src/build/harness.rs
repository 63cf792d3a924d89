//! What makes any container image a harness pod: the runner, its volumes and probes.
//!
//! An init container copies the runner's static binary into a shared volume, so the image needs nothing
//! of Paddock's in it. The runner is the first process of the harness's container, or has one of its own ([`sidecar`]).

use paddock_api::labels::WORKSPACE_VOLUME;
use paddock_runnerapi as runnerapi;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::build::container::{DEFAULT_HOME, Place, array, env_value, mount, restricted, serve, set_env};
use crate::build::settings::{HTTP, Settings};
use crate::build::{BuildError, sidecar};

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

pub(super) const BIN_VOLUME: &str = "paddock-bin";
const INIT_CONTAINER: &str = "paddock-runner";
/// The runner stops its harness within a second; the rest is slack for a busy node.
const TERMINATION_GRACE_SECS: u64 = 10;

/// Puts the runner into the pod.
pub(super) fn add_runner(
    spec: &mut Value,
    settings: &Settings<'_>,
    runner: &RunnerSettings,
) -> Result<(), BuildError> {
    let fields = spec.as_object_mut().ok_or(BuildError::Malformed("spec"))?;
    let persistent = array(fields, "volumes")?
        .iter()
        .any(|v| v.get("name").and_then(Value::as_str) == Some(WORKSPACE_VOLUME));
    let containers = array(fields, "containers")?;
    let index = match settings.container {
        None => 0,
        Some(name) => containers
            .iter()
            .position(|c| c.get("name").and_then(Value::as_str) == Some(name))
            .ok_or_else(|| BuildError::NoSuchContainer(name.to_owned()))?,
    };
    let container = containers[index].as_object_mut().ok_or(BuildError::Malformed("containers[]"))?;
    let volumes = if settings.sidecar {
        let (own, volumes) = sidecar::beside(container, settings, runner, persistent)?;
        containers.push(own);
        volumes
    } else {
        harness_container(container, settings, runner, persistent)?
    };

    if volumes.contains(&BIN_VOLUME) {
        array(fields, "initContainers")?.insert(0, init_container(runner));
    }
    array(fields, "volumes")?.extend(volumes.into_iter().map(|name| json!({"name": name, "emptyDir": {}})));
    fields.entry("terminationGracePeriodSeconds").or_insert(json!(TERMINATION_GRACE_SECS));
    fields.entry("enableServiceLinks").or_insert(json!(false));
    Ok(())
}

/// Rewrites the container; returns the names of the volumes that it now needs.
fn harness_container(
    container: &mut Map<String, Value>,
    settings: &Settings<'_>,
    runner: &RunnerSettings,
    persistent: bool,
) -> Result<Vec<&'static str>, BuildError> {
    let own_command = {
        let mut command = std::mem::take(array(container, "command")?);
        command.append(array(container, "args")?);
        command
    };
    if settings.harness == HTTP && own_command.is_empty() {
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
        return Err(BuildError::NoCommand(name.to_owned()));
    }
    container
        .insert("command".into(), json!([format!("{}/paddock-runner", runnerapi::INSTALL_DIR), "run", "--"]));
    container.insert("args".into(), Value::Array(own_command));

    let env = array(container, "env")?;
    let home = env_value(env, "HOME").unwrap_or_else(|| DEFAULT_HOME.to_owned());
    let workspace =
        env_value(env, runnerapi::env::WORKSPACE).unwrap_or_else(|| runnerapi::DEFAULT_WORKSPACE.to_owned());
    set_env(env, "HOME", json!({"value": home}));
    set_runner_env(env, settings, runner, &workspace);

    let mounts = array(container, "volumeMounts")?;
    mounts.push(json!({"name": BIN_VOLUME, "mountPath": runnerapi::INSTALL_DIR, "readOnly": true}));
    let places = [
        Place { volume: "paddock-state", path: runnerapi::DEFAULT_STATE_DIR, kept_as: Some("state") },
        Place { volume: "paddock-workspace", path: &workspace, kept_as: Some("workspace") },
        Place { volume: "paddock-home", path: &home, kept_as: Some("home") },
        Place { volume: "paddock-tmp", path: "/tmp", kept_as: None },
    ];
    let mut volumes = vec![BIN_VOLUME];
    volumes.extend(mount(container, &places, persistent)?);
    serve(container)?;
    Ok(volumes)
}

/// What the runner is told, wherever it is.
pub(super) fn set_runner_env(
    env: &mut Vec<Value>,
    settings: &Settings<'_>,
    runner: &RunnerSettings,
    workspace: &str,
) {
    set_env(env, runnerapi::env::WORKSPACE, json!({"value": workspace}));
    set_env(env, runnerapi::env::STATE_DIR, json!({"value": runnerapi::DEFAULT_STATE_DIR}));
    set_env(env, runnerapi::env::HARNESS, json!({"value": settings.harness}));
    set_env(env, runnerapi::env::PUBLIC_KEYS, json!({"value": runner.public_keys}));
    set_env(env, runnerapi::env::POD_UID, json!({"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}));
    for (name, value) in [
        (runnerapi::env::HARNESS_PORT, settings.port.map(|port| port.to_string())),
        (runnerapi::env::HARNESS_FEATURES, settings.features.map(str::to_owned)),
        (runnerapi::env::HARNESS_MODEL, settings.model.map(str::to_owned)),
    ] {
        if let Some(value) = value {
            set_env(env, name, json!({"value": value}));
        }
    }
}

fn init_container(runner: &RunnerSettings) -> Value {
    json!({
        "name": INIT_CONTAINER,
        "image": runner.image,
        "imagePullPolicy": runner.pull_policy,
        "args": ["install", runnerapi::INSTALL_DIR],
        "volumeMounts": [{"name": BIN_VOLUME, "mountPath": runnerapi::INSTALL_DIR}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": restricted(),
    })
}
