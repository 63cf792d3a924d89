//! The runner in a container of its own, beside a harness that serves by itself on a port of the pod. The harness's image and command
//! stay as they are; its container gets the shared workspace and is told where its models are.

use paddock_runnerapi as runnerapi;
use serde_json::{Map, Value, json};

use crate::build::BuildError;
use crate::build::container::{DEFAULT_HOME, Place, array, env_value, mount, restricted, serve, set_env};
use crate::build::harness::{BIN_VOLUME, RunnerSettings, set_runner_env};
use crate::build::settings::Settings;

const CONTAINER: &str = "paddock-sidecar";
/// Variables that are the runner's, and not the harness's, begin so.
const OURS: &str = "PADDOCK_";
/// They are of the harness's image.
const NOT_SHARED: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// Makes the runner's container and gives the harness's what the two share; returns it and the names of the volumes that are needed.
pub(super) fn beside(
    harness: &mut Map<String, Value>,
    settings: &Settings<'_>,
    runner: &RunnerSettings,
    persistent: bool,
) -> Result<(Value, Vec<&'static str>), BuildError> {
    // Certificates, proxies and a cache of repositories are for both; what is the runner's own is not for the harness.
    let env = array(harness, "env")?;
    let mut own_env = env.clone();
    own_env.retain(|variable| !NOT_SHARED.contains(&name(variable)));
    env.retain(|variable| !name(variable).starts_with(OURS));
    let workspace = env_value(&own_env, runnerapi::env::WORKSPACE)
        .unwrap_or_else(|| runnerapi::DEFAULT_WORKSPACE.to_owned());
    let home = env_value(&own_env, "HOME");
    for (name, value) in [
        ("PORT", json!({"value": settings.port.unwrap_or(runnerapi::DEFAULT_HARNESS_PORT).to_string()})),
        ("LITELLM_API_BASE", json!({"value": format!("http://127.0.0.1:{}", runnerapi::MODEL_PORT)})),
        // Loopback and pod are one: it keeps nobody out who could get in.
        ("LITELLM_API_KEY", json!({"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}})),
    ] {
        if !env.iter().any(|variable| self::name(variable) == name) {
            set_env(env, name, value);
        }
    }

    let mut own = Map::new();
    own.insert("name".into(), json!(CONTAINER));
    own.insert("image".into(), json!(settings.image.unwrap_or(&runner.image)));
    own.insert("imagePullPolicy".into(), json!(runner.pull_policy));
    own.insert("volumeMounts".into(), Value::Array(array(harness, "volumeMounts")?.clone()));
    // The same user, so that each can change the files of the other.
    let context = harness.get("securityContext").cloned().unwrap_or_else(restricted);
    own.insert("securityContext".into(), context);
    own.insert(
        "resources".into(),
        json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}),
    );

    let workspace_place =
        || Place { volume: "paddock-workspace", path: &workspace, kept_as: Some("workspace") };
    let tmp = || Place { volume: "paddock-tmp", path: "/tmp", kept_as: None };
    let home_place = |path| Place { volume: "paddock-home", path, kept_as: Some("home") };
    let mut shared = vec![workspace_place(), tmp()];
    // A home that the template does not name is a part of the image.
    shared.extend(home.as_deref().map(home_place));
    let mut volumes = mount(harness, &shared, persistent)?;

    let own_home = home.as_deref().unwrap_or(DEFAULT_HOME);
    set_env(&mut own_env, "HOME", json!({"value": own_home}));
    set_env(&mut own_env, runnerapi::env::MODEL_PORT, json!({"value": runnerapi::MODEL_PORT.to_string()}));
    set_runner_env(&mut own_env, settings, runner, &workspace);
    own.insert("env".into(), Value::Array(own_env));
    let places = [
        Place { volume: "paddock-state", path: runnerapi::DEFAULT_STATE_DIR, kept_as: Some("state") },
        workspace_place(),
        home_place(own_home),
        tmp(),
    ];
    volumes.extend(mount(&mut own, &places, persistent)?);
    if settings.image.is_some() {
        let binary = format!("{}/paddock-runner", runnerapi::INSTALL_DIR);
        own.insert("command".into(), json!([binary]));
        array(&mut own, "volumeMounts")?
            .push(json!({"name": BIN_VOLUME, "mountPath": runnerapi::INSTALL_DIR, "readOnly": true}));
        volumes.push(BIN_VOLUME);
    }
    own.insert("args".into(), json!(["run"]));
    serve(&mut own)?;
    volumes.sort_unstable();
    volumes.dedup();
    Ok((Value::Object(own), volumes))
}

fn name(variable: &Value) -> &str {
    variable.get("name").and_then(Value::as_str).unwrap_or_default()
}
