//! Starting Codex's app server.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::follow::Follower;
use crate::config::Config;
use crate::harness::codex::{self, TOKEN};
use crate::harness::home::trust_git;
use crate::harness::jsonrpc::{self, Peer};
use crate::harness::{HarnessError, codex_app};
use crate::model_proxy::ModelProxy;
use crate::process::{Process, Reaper};

/// What the image calls the program.
const PROGRAM: &str = "codex";

/// The program while it boots.
pub struct Booting {
    pub(super) peer: Arc<Peer>,
    pub(super) follower: Arc<Follower>,
    pub(super) workspace: PathBuf,
    pub(super) home: PathBuf,
    /// What any thread is given.
    common: Value,
}

/// Starts the program. The caller watches and ends the process.
///
/// # Errors
/// Where a file cannot be written or the program cannot be started.
pub fn launch(
    config: &Config,
    reaper: &Reaper,
    proxy: &ModelProxy,
) -> Result<(Process, Booting), HarnessError> {
    let prepare = |source| HarnessError::Prepare { what: "folders", source };
    codex::prepare(&config.home).map_err(prepare)?;
    fs::create_dir_all(&config.workspace).map_err(prepare)?;
    if let Err(error) = trust_git(&config.home, &config.workspace) {
        tracing::warn!(%error, home = %config.home.display(), "git is not told to trust the workspace");
    }
    let start = |source| HarnessError::Prepare { what: "process", source };
    let (process, peer) = jsonrpc::start(&mut command(config, proxy), reaper, allowed).map_err(start)?;
    let (peer, workspace, home) = (Arc::new(peer), config.workspace.clone(), config.home.clone());
    let follower = Follower::start(&peer, workspace.clone());
    let common = codex::common(&workspace, proxy.base_url());
    Ok((process, Booting { peer, follower, workspace, home, common }))
}

/// The pod is the sandbox: whatever Codex asks leave for, it has. Questions to a person have no answer.
fn allowed(method: &str) -> Option<Value> {
    let asks = ["item/commandExecution/requestApproval", "item/fileChange/requestApproval"];
    asks.contains(&method).then(|| json!({"decision": "accept"}))
}

fn command(config: &Config, proxy: &ModelProxy) -> Command {
    let default = [OsString::from(PROGRAM)];
    let words = if config.command.is_empty() { &default[..] } else { &config.command };
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg("app-server");
    for setting in flat(&codex_app::quiet()) {
        command.args(["-c", &setting]);
    }
    command
        .current_dir(&config.workspace)
        .env_clear()
        .envs(config.passed_env.iter().cloned())
        .env("CODEX_HOME", codex::folder(&config.home))
        .env(TOKEN, proxy.token().reveal());
    command
}

/// As arguments of `-c`: a table would replace a whole one of an image's own configuration.
fn flat(config: &Value) -> Vec<String> {
    let mut settings = Vec::new();
    for (name, value) in config.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(table) => {
                settings.extend(table.iter().map(|(entry, value)| format!("{name}.{entry}={value}")));
            }
            None => settings.push(format!("{name}={value}")),
        }
    }
    settings
}

impl Booting {
    /// Waits until the program reads requests. With `warm` it begins a thread and leaves it: that reads from the disk what the
    /// session's own will need.
    pub(super) async fn served(self, warm: bool) -> Result<Self, HarnessError> {
        let us = json!({
            "clientInfo": {"name": "paddock", "title": "Paddock", "version": env!("CARGO_PKG_VERSION")},
            "capabilities": {"experimentalApi": true, "requestAttestation": false},
        });
        self.peer.call("boot", "initialize", &us).await?;
        self.peer.tell("initialized");
        if warm {
            // With a model and a provider that Codex knows by itself it would look for their endpoint.
            let params = json!({
                "model": "warm-up",
                "modelProvider": codex::NAME,
                "cwd": self.workspace,
                "ephemeral": true,
                "config": self.common,
            });
            let thread: codex_app::Started = self.peer.ask("warm up", "thread/start", &params).await?;
            let left = json!({"threadId": thread.thread.id});
            self.peer.call("warm up", "thread/unsubscribe", &left).await?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_arguments_one_by_one() {
        let settings = flat(&json!({"a": false, "b": {"c": true, "d": "x"}}));
        assert_eq!(settings, ["a=false", "b.c=true", "b.d=\"x\""]);
    }
}
