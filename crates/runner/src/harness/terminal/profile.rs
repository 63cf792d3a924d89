//! What the runner knows of a program: how it is given a session, so that it starts without a question to anybody.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use paddock_runnerapi::AgentBinding;

use crate::config::Config;
use crate::model_proxy::ModelProxy;

/// A known program.
pub(super) trait Profile: Send + Sync {
    /// The harness's name.
    fn name(&self) -> &'static str;

    /// The program, looked for in `PATH`.
    fn program(&self) -> &'static str;

    /// The folder in which it looks for skills.
    fn skills(&self, place: &Place) -> PathBuf;

    /// Whether it keeps its model from tools.
    fn denies_tools(&self) -> bool {
        false
    }

    /// Writes what the program reads when it starts. May be done again: for a session that the home had before.
    ///
    /// # Errors
    /// A file cannot be written.
    fn set_up(&self, place: &Place, agent: &AgentBinding, proxy: &ModelProxy) -> io::Result<SetUp>;

    /// Arguments with which it goes on with its latest conversation, if it has one. Asked before each start: people end the
    /// program and start it again, and containers do.
    fn go_on(&self, place: &Place) -> Vec<OsString>;
}

/// Where a program's files are.
pub(super) struct Place {
    pub(super) home: PathBuf,
    pub(super) workspace: PathBuf,
    /// A folder of ours, which nobody else reads.
    pub(super) own: PathBuf,
}

impl Place {
    /// Makes the folder of a harness below the runner's state folder.
    pub(super) fn new(config: &Config, name: &str) -> io::Result<Self> {
        let own = config.state_dir.join(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
        Ok(Self { home: config.home.clone(), workspace: config.workspace.clone(), own })
    }
}

/// What a program is started with beside its command and the agent's environment.
#[derive(Default)]
pub(super) struct SetUp {
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
}
