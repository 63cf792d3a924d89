//! Adapter for programs that people use through a terminal: any command, started in the workspace when the pod gets its
//! session.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use futures::future::BoxFuture;
use paddock_runnerapi::{ActivateRequest, EnvVar};

use super::home::trust_git;
use super::{Harness, HarnessError, MessageHarness, TurnNames};
use crate::config::Config;
use crate::terminal::Terminal;

/// What such a harness calls its one conversation.
const CONVERSATION: &str = "terminal";
/// What the screen understands; programs look its abilities up by this name.
const TERM: &str = "xterm-256color";

/// See the module.
pub struct TerminalHarness {
    terminal: Arc<Terminal>,
    program: Program,
}

/// What is started.
#[derive(Clone)]
struct Program {
    words: Vec<OsString>,
    workspace: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl TerminalHarness {
    /// Prepares the folders of a program that `terminal` will show.
    ///
    /// # Errors
    /// The workspace cannot be made.
    pub fn new(config: &Config, terminal: Arc<Terminal>) -> Result<Self, HarnessError> {
        let prepare = |source| HarnessError::Prepare { what: "folders", source };
        fs::create_dir_all(&config.workspace).map_err(prepare)?;
        if let Err(error) = trust_git(&config.home, &config.workspace) {
            tracing::warn!(%error, home = %config.home.display(), "git is not told to trust the workspace");
        }
        let program = Program {
            words: words(&config.command, &config.passed_env),
            workspace: config.workspace.clone(),
            env: config.passed_env.clone(),
        };
        Ok(Self { terminal, program })
    }

    fn start(&self, request: &ActivateRequest) -> Result<String, HarnessError> {
        let program = self.program.clone().with(&request.agent.env);
        let name = program.words[0].to_string_lossy().into_owned();
        self.terminal.start(Box::new(move || program.command())).map_err(|error| {
            let source = io::Error::new(error.kind(), format!("{name} cannot be started: {error}"));
            HarnessError::Prepare { what: "program", source }
        })?;
        Ok(CONVERSATION.to_owned())
    }
}

/// The command; where none is given, a login shell: the user's, or bash.
fn words(given: &[OsString], env: &[(OsString, OsString)]) -> Vec<OsString> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let shell = env.iter().find(|(name, value)| name == "SHELL" && !value.is_empty());
    vec![shell.map_or_else(|| "bash".into(), |(_, shell)| shell.clone()), "-l".into()]
}

impl Program {
    /// The same, with the agent's environment.
    fn with(mut self, env: &[EnvVar]) -> Self {
        self.env.push(("TERM".into(), TERM.into()));
        self.env.extend(env.iter().map(|EnvVar { name, value }| (name.into(), value.into())));
        self
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

    /// Any program: nobody knows how it is told of one.
    fn takes_mcp(&self) -> bool {
        false
    }

    fn open<'a>(&'a self, request: &'a ActivateRequest) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(async { self.start(request) })
    }

    fn reopen<'a>(
        &'a self,
        request: &'a ActivateRequest,
        _: &'a str,
        _: Option<&'a TurnNames>,
    ) -> BoxFuture<'a, Result<String, HarnessError>> {
        Box::pin(async { self.start(request) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_command_it_is_a_login_shell() {
        let env = |shell: &str| vec![("SHELL".into(), shell.into())];
        assert_eq!(words(&[], &[]), ["bash", "-l"]);
        assert_eq!(words(&[], &env("")), ["bash", "-l"]);
        assert_eq!(words(&[], &env("/bin/zsh")), ["/bin/zsh", "-l"]);
        assert_eq!(words(&["top".into()], &env("/bin/zsh")), ["top"]);
    }
}
