//! The steps before the harness is given its session, in their order.

use std::env::{join_paths, split_paths};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use paddock_runnerapi::{
    ActivateRequest, ActivationStep, EnvVar, ErrorBody, ErrorCode, McpTransport, Requirements, Skill,
    TextFile,
};

use super::files;
use super::git;
use super::marks::Marks;
use super::progress::Progress;
use super::quote::Secrets;
use super::requirements;
use crate::config::Config;
use crate::harness::Harness;
use crate::process::Reaper;

/// A step cannot be done as the session is described: what it was at, why, and what to change.
#[derive(Debug)]
pub(super) struct StepError(pub(super) String);

impl From<StepError> for ErrorBody {
    fn from(StepError(why): StepError) -> Self {
        Self { code: ErrorCode::ActivationFailed, error: format!("activating the pod: {why}") }
    }
}

/// What the steps work with.
pub struct Tools {
    pub(super) reaper: Arc<Reaper>,
    pub(super) workspace: PathBuf,
    pub(super) home: PathBuf,
    pub(super) git_cache: Option<PathBuf>,
    pub(super) marks: Marks,
    passed_env: Vec<(OsString, OsString)>,
}

#[cfg(test)]
impl Tools {
    /// For sessions that are equipped with nothing. Nothing can be written anywhere.
    pub(crate) fn idle() -> Self {
        let dir = std::path::Path::new("/dev/null");
        Self {
            reaper: Arc::new(Reaper::idle()),
            workspace: dir.join("workspace"),
            home: dir.join("home"),
            git_cache: None,
            marks: Marks(dir.join("activation")),
            passed_env: Vec::new(),
        }
    }
}

impl Tools {
    /// Those of a pod.
    pub fn new(config: &Config, reaper: Arc<Reaper>) -> Self {
        Self {
            reaper,
            workspace: config.workspace.clone(),
            home: config.home.clone(),
            git_cache: config.git_cache.clone(),
            marks: Marks(config.state_dir.join("activation")),
            passed_env: config.passed_env.clone(),
        }
    }

    /// Fills workspace and home with what the session is described with, and returns the session as its harness is to be told
    /// of it. In a workspace that is not `new` the work of its agent is left alone.
    pub(super) async fn equip(
        &self,
        request: &ActivateRequest,
        harness: &dyn Harness,
        new: bool,
        progress: &Progress,
    ) -> Result<ActivateRequest, ErrorBody> {
        let equipment = &request.agent.equipment;
        let secrets = Secrets::of(&request.agent);
        if let Err(error) = git::access::write(&self.home, equipment.repo.as_ref()) {
            if equipment.repo.as_ref().is_some_and(|repo| repo.credential.is_some()) {
                return Err(StepError(format!(
                    "writing the repository's credential into the agent's home: {error}; mount a volume there that the agent may write to"
                ))
                .into());
            }
            tracing::warn!(%error, "git's configuration cannot be written into the agent's home");
        }
        let mut changed = false;
        let told = self.as_told(request);
        let env = self.env(request);
        if let Some(repo) = equipment.repo.as_ref().filter(|_| new) {
            progress.enter(ActivationStep::CloningRepo);
            changed |= git::clone(self, &env, repo, &secrets).await?;
        }
        if (new && !equipment.files.is_empty()) || !equipment.skills.is_empty() {
            progress.enter(ActivationStep::WritingFiles);
            let new_files = if new { &equipment.files[..] } else { &[] };
            changed |= self.write_files(new_files, &equipment.skills, harness).await?;
        }
        if changed {
            harness.load_again(request).await?;
        }
        if !equipment.requirements.is_empty() {
            progress.enter(ActivationStep::InstallingRequirements);
            requirements::install(self, &env, &equipment.requirements, &secrets).await?;
        }
        Ok(told)
    }

    async fn write_files(
        &self,
        files: &[TextFile],
        skills: &[Skill],
        harness: &dyn Harness,
    ) -> Result<bool, StepError> {
        let mut changed = false;
        if !files.is_empty() {
            let (root, files) = (self.workspace.clone(), files.to_vec());
            changed |= aside(move || files::write_all(&root, &files)).await?;
        }
        if let Some(dir) = harness.skills_dir()
            && !skills.is_empty()
        {
            let skills = skills.to_vec();
            changed |= aside(move || files::write_skills(&dir, &skills)).await?;
        }
        Ok(changed)
    }

    /// The session as its harness sees it: with the installed programs in the agent's `PATH`, and the agent's environment in that
    /// of each MCP server that is a program of the pod.
    pub(super) fn as_told(&self, request: &ActivateRequest) -> ActivateRequest {
        let mut told = request.clone();
        let agent = &mut told.agent;
        self.add_installed(&mut agent.env, &agent.equipment.requirements);
        for server in &mut agent.equipment.mcp_servers {
            if let McpTransport::Stdio { env, .. } = &mut server.transport {
                // The last of a name holds.
                env.splice(..0, agent.env.iter().cloned());
            }
        }
        told
    }

    fn add_installed(&self, env: &mut Vec<EnvVar>, wanted: &Requirements) {
        let mut folders = requirements::bin_folders(&self.home, wanted);
        if folders.is_empty() {
            return;
        }
        let own =
            env.iter().rfind(|variable| variable.name == "PATH").map(|found| found.value.clone().into());
        let passed = || self.passed_env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
        let path: OsString = own.or_else(passed).unwrap_or_default();
        folders.extend(split_paths(&path));
        env.retain(|variable| variable.name != "PATH");
        let path = join_paths(folders).unwrap_or(path).to_string_lossy().into_owned();
        env.push(EnvVar { name: "PATH".to_owned(), value: path });
        if !wanted.pip.is_empty() {
            let value = requirements::venv(&self.home).to_string_lossy().into_owned();
            env.push(EnvVar { name: "VIRTUAL_ENV".to_owned(), value });
        }
    }

    /// Environment of the steps' programs: the container's and the agent's, where proxies and registries may be named.
    fn env(&self, request: &ActivateRequest) -> Vec<(OsString, OsString)> {
        let own = request.agent.env.iter().map(|EnvVar { name, value }| (name.into(), value.into()));
        self.passed_env.iter().cloned().chain(own).collect()
    }
}

/// Disks may be slow, and the runner's only thread has others to answer.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    let broken = |_| StepError("writing files: the pod is stopping".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}

/// Whether a session can be equipped as it is described, as far as its text tells.
pub(super) fn check(request: &ActivateRequest, harness: &dyn Harness) -> Result<(), StepError> {
    let equipment = &request.agent.equipment;
    if let Some(repo) = &equipment.repo {
        git::check(repo)?;
    }
    for file in &equipment.files {
        let failed = |why| StepError(format!("writing the file {:?}: its path {why}", file.path));
        files::check_path(&file.path).map_err(failed)?;
    }
    if !equipment.skills.is_empty() && harness.skills_dir().is_none() {
        return Err(StepError(
            "writing skills: the session's harness takes none; describe the agent without them".to_owned(),
        ));
    }
    for skill in &equipment.skills {
        let failed = |why: &str| StepError(format!("writing the skill {:?}: {why}", skill.name));
        if !is_name(&skill.name) {
            return Err(failed("its name must be of letters, digits, - and _"));
        }
        if !skill.files.iter().any(|file| file.path == "SKILL.md") {
            return Err(failed("it has no file SKILL.md"));
        }
        for file in &skill.files {
            files::check_path(&file.path)
                .map_err(|why| failed(&format!("the path {:?} {why}", file.path)))?;
        }
    }
    let wants_env = !request.agent.env.is_empty() || !equipment.requirements.is_empty();
    if wants_env && !harness.takes_env() {
        return Err(StepError(
            "giving the agent its environment: the session's harness has a container of its own, which knows neither variables nor \
             requirements of an agent; put them into that container or its image (SandboxTemplate), and describe the agent without them"
                .to_owned(),
        ));
    }
    if !equipment.mcp_servers.is_empty() && !harness.takes_mcp() {
        return Err(StepError(
            "connecting to MCP servers: the session's harness takes none; describe the agent without them"
                .to_owned(),
        ));
    }
    if !equipment.denied.is_empty() && !harness.denies_tools() {
        return Err(StepError(
            "reading the agent's permissions: the session's harness can't keep its model from a tool; describe the agent without them"
                .to_owned(),
        ));
    }
    for (index, server) in equipment.mcp_servers.iter().enumerate() {
        let failed = |why| StepError(format!("connecting to the MCP server {:?}: {why}", server.name));
        if !is_name(&server.name) {
            return Err(failed("its name must be of letters, digits, - and _"));
        }
        if equipment.mcp_servers[..index].iter().any(|other| other.name == server.name) {
            return Err(failed("another one has that name"));
        }
        match &server.transport {
            McpTransport::Stdio { command, .. } if command.first().is_none_or(String::is_empty) => {
                return Err(failed("it names no program"));
            }
            McpTransport::Http { url, .. } if !url.starts_with("http://") && !url.starts_with("https://") => {
                return Err(failed("its URL must begin with http:// or https://"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
