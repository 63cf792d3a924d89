//! Starting our program around the SDK.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::harness::HarnessError;
use crate::harness::home::trust_git;
use crate::harness::jsonrpc::{self, Peer, Told};
use crate::harness::shell_env::ShellEnv;
use crate::process::{Process, Reaper};

/// What the image calls the program.
const PROGRAM: &str = "paddock-claude-agent-sdk";
/// What the SDK's environment has and no shell needs to see.
const HIDDEN: [&str; 2] = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"];

/// The program while it boots.
pub struct Booting {
    pub(super) peer: Peer,
    told: mpsc::UnboundedReceiver<Told>,
    pub(super) shell_env: ShellEnv,
    pub(super) preamble: PathBuf,
    pub(super) workspace: PathBuf,
    /// Where the SDK looks for skills that no repository brings.
    pub(super) skills: PathBuf,
}

/// Starts the program. The caller watches and ends the process.
///
/// # Errors
/// Where a file cannot be written or the program cannot be started.
pub fn launch(config: &Config, reaper: &Arc<Reaper>) -> Result<(Process, Booting), HarnessError> {
    let prepare = |source| HarnessError::Prepare { what: "folders", source };
    let folder = config.state_dir.join("claude-agent-sdk");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(prepare)?;
    fs::create_dir_all(&config.workspace).map_err(prepare)?;
    let shell_env = ShellEnv::new(&folder, &HIDDEN);
    shell_env.write(&[]).map_err(prepare)?;
    let preamble = folder.join("preamble.sh");
    fs::write(&preamble, sourcing(shell_env.path())).map_err(prepare)?;
    if let Err(error) = trust_git(&config.home, &config.workspace) {
        tracing::warn!(%error, home = %config.home.display(), "git is not told to trust the workspace");
    }
    let start = |source| HarnessError::Prepare { what: "process", source };
    let (process, peer) = jsonrpc::start(&mut command(config), reaper, |_| None).map_err(start)?;
    let told = peer.listen();
    let (workspace, skills) = (config.workspace.clone(), config.home.join(".claude/skills"));
    Ok((process, Booting { peer, told, shell_env, preamble, workspace, skills }))
}

/// What the SDK puts before each shell command (`CLAUDE_ENV_FILE`; it takes `BASH_ENV` away). It would put the values themselves on
/// the command line, where `ps` shows them.
fn sourcing(script: &Path) -> String {
    format!(". '{}'\n", script.display().to_string().replace('\'', r"'\''"))
}

fn command(config: &Config) -> Command {
    let default = [OsString::from(PROGRAM)];
    let words = if config.command.is_empty() { &default[..] } else { &config.command };
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .current_dir(&config.workspace)
        .env_clear()
        .envs(config.passed_env.iter().cloned());
    command
}

impl Booting {
    /// Waits until the program reads requests. With `warm` it also starts the SDK's own program once, which is large: the first
    /// turn does not wait for the disk.
    pub(super) async fn served(mut self, warm: bool) -> Result<Self, HarnessError> {
        let closed = HarnessError::Unusable {
            attempt: "boot",
            what: "it closed its output before it was ready; the pod's log says why",
        };
        let first = self.told.recv().await;
        if first.is_none_or(|told| told.method != "ready") {
            return Err(closed);
        }
        if warm {
            self.peer.call("warm up", "warm", &json!({"workspace": self.workspace})).await?;
        }
        Ok(self)
    }
}
