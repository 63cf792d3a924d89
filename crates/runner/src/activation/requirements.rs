//! Packages for the agent's shells: in folders of the agent's home, so that they need no rights and change nothing else.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::child::{self, Ended, Unended};
use super::equip::{StepError, Tools};
use super::git::access::folder;
use super::quote::Secrets;
use crate::process::Exit;
use paddock_runnerapi::Requirements;

/// How long each program may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Where the programs of installed packages are, for the agent's `PATH`.
pub(super) fn bin_folders(home: &Path, wanted: &Requirements) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if !wanted.pip.is_empty() {
        folders.push(venv(home).join("bin"));
    }
    if !wanted.npm.is_empty() {
        folders.push(npm(home).join("bin"));
    }
    folders
}

/// The folder of Python's packages.
pub(super) fn venv(home: &Path) -> PathBuf {
    folder(home).join("venv")
}

fn npm(home: &Path) -> PathBuf {
    folder(home).join("npm")
}

/// Installs what is not installed yet.
pub(super) async fn install(
    tools: &Tools,
    env: &[(OsString, OsString)],
    wanted: &Requirements,
    secrets: &Secrets,
) -> Result<(), StepError> {
    let installer = Installer { tools, env, secrets };
    if !wanted.pip.is_empty() {
        installer.pip(&wanted.pip).await?;
    }
    if !wanted.npm.is_empty() {
        installer.npm(&wanted.npm).await?;
    }
    Ok(())
}

struct Installer<'a> {
    tools: &'a Tools,
    env: &'a [(OsString, OsString)],
    secrets: &'a Secrets,
}

impl Installer<'_> {
    async fn pip(&self, packages: &[String]) -> Result<(), StepError> {
        let venv = venv(&self.tools.home);
        let done = Done { of: venv.join(".paddock-installed") };
        if done.holds(packages) {
            return Ok(());
        }
        if !done.of.exists() {
            let mut make = self.command("python3");
            make.args(["-m", "venv", "--clear"]).arg(&venv);
            let hint =
                "the harness's image has no python3 with venv and pip; install python3-venv in the image";
            self.run("making a virtual environment for pip", make, hint).await?;
        }
        let mut install = self.command(venv.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        install.args(packages);
        self.run("pip install", install, "the virtual environment is broken").await?;
        done.write(packages)
    }

    async fn npm(&self, packages: &[String]) -> Result<(), StepError> {
        let prefix = npm(&self.tools.home);
        let done = Done { of: prefix.join(".paddock-installed") };
        if done.holds(packages) {
            return Ok(());
        }
        let failed = |error: std::io::Error| StepError(format!("npm install: making its folder: {error}"));
        fs::create_dir_all(prefix.join("lib")).map_err(failed)?;
        let mut install = self.command("npm");
        install.args(["install", "--global", "--no-audit", "--no-fund", "--loglevel=error"]);
        install.arg("--prefix").arg(&prefix).args(packages).env("NPM_CONFIG_UPDATE_NOTIFIER", "false");
        self.run("npm install", install, "the harness's image has no npm; install it in the image").await?;
        done.write(packages)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.tools.workspace)
            .env_clear()
            .envs(self.env.iter().cloned())
            .env("HOME", &self.tools.home)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    async fn run(&self, what: &str, mut command: Command, missing: &str) -> Result<(), StepError> {
        let failed = |why: String| StepError(format!("installing requirements: {what}: {why}"));
        match child::run(&self.tools.reaper, &mut command, LIMIT).await {
            Ok(Ended { exit: Exit::Code(0), .. }) => Ok(()),
            Ok(Ended { err, out, .. }) if is_without_pip(&err, &out) => Err(failed(missing.to_owned())),
            Ok(Ended { exit, err, out }) => {
                let said = self.secrets.quote(if err.trim().is_empty() { &out } else { &err });
                Err(failed(format!("{exit}; correct the requirements, or what they need; it said: {said}")))
            }
            Err(Unended::Missing) => Err(failed(missing.to_owned())),
            Err(Unended::NotStarted(error)) => Err(failed(format!("it cannot be started: {error}"))),
            Err(Unended::TimedOut) => Err(failed(format!(
                "it was not done after {} minutes; ask for less, or install it in the image",
                LIMIT.as_secs() / 60
            ))),
        }
    }
}

/// Debian's Python comes without its own pip and venv.
fn is_without_pip(err: &str, out: &str) -> bool {
    ["ensurepip is not available", "No module named venv", "No module named pip", "No module named ensurepip"]
        .iter()
        .any(|sign| err.contains(sign) || out.contains(sign))
}

/// What is installed, noted beside it: a home may be lost without the workspace, and the other way round.
struct Done {
    of: PathBuf,
}

impl Done {
    fn holds(&self, packages: &[String]) -> bool {
        fs::read_to_string(&self.of).is_ok_and(|text| text == packages.join("\n"))
    }

    fn write(&self, packages: &[String]) -> Result<(), StepError> {
        fs::write(&self.of, packages.join("\n"))
            .map_err(|error| StepError(format!("installing requirements: noting that: {error}")))
    }
}
