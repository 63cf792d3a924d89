//! Adapter for programs that people use through a terminal: any command, started in the workspace when the pod gets its
//! session. Programs that are known have a [`Profile`], which gives them the session's model, prompt and tools.

mod claude_code;
mod codex;
mod profile;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use paddock_runnerapi::{ActivateRequest, AgentBinding, EnvVar};
use tokio::time::timeout;

use self::profile::{Place, Profile, SetUp};
use super::home::trust_git;
use super::{Harness, HarnessError, MessageHarness};
use crate::config::{Config, HarnessKind};
use crate::model_proxy::ModelProxy;
use crate::process::{Exit, Reaper};
use crate::terminal::Terminal;

/// What such a harness calls its one conversation.
const CONVERSATION: &str = "terminal";
/// What the screen understands; programs look its abilities up by this name.
const TERM: &str = "xterm-256color";
/// How long a program may take to tell its version.
const WARM_UP: Duration = Duration::from_secs(30);

/// See the module.
pub struct TerminalHarness {
    terminal: Arc<Terminal>,
    program: Program,
    known: Option<Arc<Known>>,
}

/// A program that is more to us than a command.
struct Known {
    profile: &'static dyn Profile,
    place: Place,
    proxy: Arc<ModelProxy>,
}

/// What is started.
#[derive(Clone)]
struct Program {
    words: Vec<OsString>,
    workspace: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl TerminalHarness {
    /// Prepares the folders of a program that `terminal` will show. A program that asks a model asks `proxy`.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn new(
        config: &Config,
        terminal: Arc<Terminal>,
        proxy: Option<Arc<ModelProxy>>,
    ) -> Result<Self, HarnessError> {
        let prepare = |source| HarnessError::Prepare { what: "folders", source };
        fs::create_dir_all(&config.workspace).map_err(prepare)?;
        if let Err(error) = trust_git(&config.home, &config.workspace) {
            tracing::warn!(%error, home = %config.home.display(), "git is not told to trust the workspace");
        }
        let known = match (profile_of(config.harness), proxy) {
            (Some(profile), Some(proxy)) => {
                let place = Place::new(config, profile.name()).map_err(prepare)?;
                Some(Arc::new(Known { profile, place, proxy }))
            }
            _ => None,
        };
        let usual = known.as_ref().map(|known| known.profile.program());
        let program = Program {
            words: words(&config.command, usual, &config.passed_env),
            workspace: config.workspace.clone(),
            env: config.passed_env.clone(),
        };
        Ok(Self { terminal, program, known })
    }

    /// Asks a known program for its version: the first start of a pod reads it from the disk, and a program that is not there is
    /// better found missing before somebody waits for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn warm_up(&self, reaper: &Reaper) -> Result<(), HarnessError> {
        if self.known.is_none() {
            return Ok(());
        }
        let mut command = self.program.command();
        command.arg("--version");
        let mut process = reaper.spawn(&mut command).map_err(|error| self.program.not_started(&error))?;
        process.log_output();
        match timeout(WARM_UP, process.ended()).await {
            Ok(Exit::Code(0)) => {}
            Ok(exit) => tracing::warn!(%exit, "the program does not tell its version"),
            Err(_) => {
                process.kill_group();
                tracing::warn!("the program does not tell its version in time");
            }
        }
        Ok(())
    }

    fn start(&self, request: &ActivateRequest) -> Result<String, HarnessError> {
        let set_up = match &self.known {
            Some(known) => known.set_up(&request.agent)?,
            None => SetUp::default(),
        };
        let program = self.program.clone().with(&request.agent.env, set_up);
        let (again, known) = (program.clone(), self.known.clone());
        let make = Box::new(move || {
            let mut command = again.command();
            command.args(known.iter().flat_map(|known| known.profile.go_on(&known.place)));
            command
        });
        let started = self.terminal.start(make, Duration::from_millis(request.agent.turn_timeout_ms));
        started.map_err(|error| program.not_started(&error))?;
        Ok(CONVERSATION.to_owned())
    }
}

fn profile_of(kind: HarnessKind) -> Option<&'static dyn Profile> {
    match kind {
        HarnessKind::ClaudeCode => Some(&claude_code::ClaudeCode),
        HarnessKind::Codex => Some(&codex::Codex),
        HarnessKind::Opencode
        | HarnessKind::ClaudeAgentSdk
        | HarnessKind::CodexAppServer
        | HarnessKind::Http
        | HarnessKind::Terminal => None,
    }
}

impl Known {
    fn set_up(&self, agent: &AgentBinding) -> Result<SetUp, HarnessError> {
        let prepare = |source| HarnessError::Prepare { what: "settings", source };
        let set_up = self.profile.set_up(&self.place, agent, &self.proxy).map_err(prepare)?;
        self.proxy.bind(&agent.model);
        Ok(set_up)
    }
}

/// The command; where none is given, the usual one, or a login shell: the user's, or bash.
fn words(given: &[OsString], usual: Option<&str>, env: &[(OsString, OsString)]) -> Vec<OsString> {
    if !given.is_empty() {
        return given.to_vec();
    }
    if let Some(usual) = usual {
        return vec![usual.into()];
    }
    let shell = env.iter().find(|(name, value)| name == "SHELL" && !value.is_empty());
    vec![shell.map_or_else(|| "bash".into(), |(_, shell)| shell.clone()), "-l".into()]
}

impl Program {
    /// The same, with the agent's environment, and set up for it.
    fn with(mut self, env: &[EnvVar], set_up: SetUp) -> Self {
        self.env.push(("TERM".into(), TERM.into()));
        self.env.extend(env.iter().map(|EnvVar { name, value }| (name.into(), value.into())));
        // Last, so that no variable of an agent leads its program to another model.
        self.env.extend(set_up.env);
        self.words.extend(set_up.args);
        self
    }

    fn not_started(&self, error: &io::Error) -> HarnessError {
        let name = self.words[0].to_string_lossy();
        let source = io::Error::new(error.kind(), format!("{name} cannot be started: {error}"));
        HarnessError::Prepare { what: "program", source }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .current_dir(&self.workspace)
            .env_clear()
            .envs(self.env.iter().cloned());
        command
    }
}

impl Harness for TerminalHarness {
    fn answers_messages(self: Arc<Self>) -> Option<Arc<dyn MessageHarness>> {
        None
    }

    fn terminal(&self) -> Option<Arc<Terminal>> {
        Some(Arc::clone(&self.terminal))
    }

    fn skills_dir(&self) -> Option<PathBuf> {
        self.known.as_ref().map(|known| known.profile.skills(&known.place))
    }

    /// Of any other program nobody knows how it is told of one.
    fn takes_mcp(&self) -> bool {
        self.known.is_some()
    }

    fn denies_tools(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.profile.denies_tools())
    }

    fn open<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(async { self.start(request) })
    }

    fn resume<'a>(
        &'a self,
        request: &'a ActivateRequest,
        _: &'a str,
    ) -> BoxFuture<'a, Result<bool, HarnessError>> {
        Box::pin(async { self.start(request).map(|_| true) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_command_it_is_the_usual_one_or_a_login_shell() {
        let env = |shell: &str| vec![("SHELL".into(), shell.into())];
        assert_eq!(words(&[], None, &[]), ["bash", "-l"]);
        assert_eq!(words(&[], None, &env("")), ["bash", "-l"]);
        assert_eq!(words(&[], None, &env("/bin/zsh")), ["/bin/zsh", "-l"]);
        assert_eq!(words(&[], Some("codex"), &env("/bin/zsh")), ["codex"]);
        assert_eq!(words(&["top".into()], Some("codex"), &env("/bin/zsh")), ["top"]);
    }
}
