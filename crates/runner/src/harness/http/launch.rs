//! Starting: the server is a container beside the runner's, or a command that the runner starts.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::process::Command;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::before::Before;
use super::server::{Watch, answers};
use super::{Http, Model};
use crate::config::Config;
use crate::harness::HarnessError;
use crate::harness::home::trust_git;
use crate::harness::shell_env::ShellEnv;
use crate::harness::wire::client::Client;
use crate::model_proxy::ModelProxy;
use crate::process::{Process, Reaper};

/// What a server's environment says of its models and its port, where nobody has said anything else. Images of LiteLLM Agent Platform
/// read it.
const API_BASE: &str = "LITELLM_API_BASE";
const API_KEY: &str = "LITELLM_API_KEY";
const PORT: &str = "PORT";

/// A server while it boots.
pub struct Booting {
    client: Client,
    served: oneshot::Sender<()>,
    http: Http,
}

/// What it is to the runner.
pub enum Started {
    /// A child.
    Child(Process),
    /// A container beside ours.
    Beside(Watch),
}

/// Starts the server, where the configuration has a command for it. The caller watches and ends it.
///
/// # Errors
/// Where a folder cannot be made or the command cannot be started.
pub fn launch(
    config: &Config,
    reaper: &Reaper,
    proxy: Arc<ModelProxy>,
) -> Result<(Started, Booting), HarnessError> {
    let prepare = |source| HarnessError::Prepare { what: "folders", source };
    let folder = config.state_dir.join("http");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(prepare)?;
    fs::create_dir_all(&config.workspace).map_err(prepare)?;
    if let Err(error) = trust_git(&config.home, &config.workspace) {
        tracing::warn!(%error, home = %config.home.display(), "git is not told to trust the workspace");
    }
    let settings = &config.http;
    let base = format!("http://{}", super::server::address(settings.port));
    let authorization = settings.authorization.as_ref().map(|secret| secret.reveal());
    let client = Client::new(&base, authorization)?;
    let (served, is_served) = oneshot::channel();
    let forgot = Arc::new(Notify::new());
    let mut shell_env = None;
    let started = if config.command.is_empty() {
        Started::Beside(Watch::new(settings.port, is_served, Arc::clone(&forgot)))
    } else {
        let env = shell_env.insert(ShellEnv::new(&folder, &[API_KEY]));
        env.write(&[]).map_err(prepare)?;
        let mut command = command(config, &proxy);
        command.env("BASH_ENV", env.path());
        let start = |source| HarnessError::Prepare { what: "process", source };
        let mut process = reaper.spawn(&mut command).map_err(start)?;
        process.log_output();
        Started::Child(process)
    };
    let http = Http {
        client: client.clone(),
        features: settings.features,
        workspace: config.workspace.clone(),
        before: Before::new(&folder),
        shell_env,
        proxy,
        forgot,
        ids: Default::default(),
        model: Model::new(settings.model.clone()),
        latest: Default::default(),
        family: Default::default(),
    };
    Ok((started, Booting { client, served, http }))
}

fn command(config: &Config, proxy: &ModelProxy) -> Command {
    let mut command = Command::new(&config.command[0]);
    let own: [(&str, OsString); 3] = [
        (API_BASE, proxy.anthropic_base_url().into()),
        (API_KEY, proxy.token().reveal().into()),
        (PORT, config.http.port.to_string().into()),
    ];
    let is_said = |name: &str| config.passed_env.iter().any(|(said, _)| said == name);
    command
        .args(&config.command[1..])
        .current_dir(&config.workspace)
        .env_clear()
        .envs(config.passed_env.iter().cloned())
        .envs(own.into_iter().filter(|(name, _)| !is_said(name)));
    command
}

impl Booting {
    /// Waits until the server answers.
    pub(super) async fn served(self) -> Http {
        answers(&self.client).await;
        // Nobody looks after a child this way.
        let _ = self.served.send(());
        self.http
    }
}
