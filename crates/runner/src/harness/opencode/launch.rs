//! Starting opencode: its folders and files, the workspace, the process, and waiting until it serves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::oneshot;

use super::config::{self, Files, Launch, ModelEndpoint};
use super::import::Importer;
use crate::config::{Config, Secret};
use crate::harness::wire::client::Client;
use crate::harness::{HarnessError, PLACEHOLDER_COMMIT};
use crate::model_proxy::ModelProxy;
use crate::process::{Exit, Process, Reaper, Stream, forward};
use crate::random::base62;

/// What opencode prints once it really answers; its port accepts earlier, and such requests are lost.
const LISTENING: &str = "opencode server listening on ";
/// The user name opencode expects beside its password.
const USER: &str = "opencode";
/// Length of the server's password, about 256 bits.
const PASSWORD_LENGTH: usize = 43;

/// opencode while it boots.
pub struct Booting {
    address: oneshot::Receiver<String>,
    password: Secret,
    pub(super) files: Files,
    pub(super) workspace: PathBuf,
    importer: Importer,
}

/// Starts opencode in a prepared workspace. The caller watches and ends the process.
///
/// # Errors
/// Where a file cannot be written or the program cannot be started.
pub async fn launch(
    config: &Config,
    reaper: &Arc<Reaper>,
    proxy: &ModelProxy,
) -> Result<(Process, Booting), HarnessError> {
    let files = Files::new(&config.state_dir, &config.home);
    let prepare = |source| HarnessError::Prepare { what: "folders", source };
    files.prepare(&config.workspace).map_err(prepare)?;
    prepare_workspace(config, reaper).await;
    let password = Secret::new(base62(PASSWORD_LENGTH)?);
    let mut command = config::command(&Launch {
        files: &files,
        endpoint: ModelEndpoint { base_url: proxy.base_url(), token: proxy.token() },
        password: &password,
        workspace: &config.workspace,
        passed_env: &config.passed_env,
        command: &config.command,
    });
    let importer = Importer::like(&command, &config.workspace, files.import(), Arc::clone(reaper));
    let started = reaper.spawn(&mut command);
    let mut process = started.map_err(|source| HarnessError::Prepare { what: "process", source })?;
    let (sender, address) = oneshot::channel();
    let mut sender = Some(sender);
    if let Some(stdout) = process.stdout.take() {
        tokio::spawn(forward(stdout, Stream::Out, move |line| {
            if let Some(address) = line.split(LISTENING).nth(1)
                && let Some(sender) = sender.take()
            {
                // Nobody waits any more: the runner is stopping.
                let _ = sender.send(address.trim().to_owned());
            }
        }));
    }
    process.log_output();
    Ok((process, Booting { address, password, files, workspace: config.workspace.clone(), importer }))
}

impl Booting {
    /// Waits until opencode serves.
    pub(super) async fn served(self) -> Result<(Client, Files, Importer), HarnessError> {
        let attempt = "boot";
        let closed = |_| HarnessError::Unusable { attempt, what: "it closed its output before it listened" };
        let address = self.address.await.map_err(closed)?;
        let credentials = STANDARD.encode(format!("{USER}:{}", self.password.reveal()));
        let client = Client::new(&address, Some(&format!("Basic {credentials}")))?;
        Ok((client, self.files, self.importer))
    }
}

/// Makes the workspace a git repository with one empty commit, unless it is one: opencode looks only once.
/// Without git the agent works in a plain folder.
async fn prepare_workspace(config: &Config, reaper: &Reaper) {
    if config.workspace.join(".git").exists() {
        return;
    }
    let identity = ["-c", "user.name=paddock", "-c", "user.email=paddock@localhost"];
    let commit = ["commit", "--quiet", "--allow-empty", "--message", PLACEHOLDER_COMMIT];
    for args in [vec!["init", "--quiet"], [&identity[..], &commit[..]].concat()] {
        if let Err(why) = git(&args, &config.workspace, config, reaper).await {
            tracing::warn!(command = args.join(" "), why, "git failed; the workspace may be a plain folder");
            return;
        }
    }
}

async fn git(args: &[&str], dir: &Path, config: &Config, reaper: &Reaper) -> Result<(), String> {
    let mut command = Command::new("git");
    command.args(args).current_dir(dir).env_clear().envs(config.passed_env.iter().cloned());
    let mut process = reaper.spawn(&mut command).map_err(|error| error.to_string())?;
    process.log_output();
    match process.ended().await {
        Exit::Code(0) => Ok(()),
        exit => Err(exit.to_string()),
    }
}
