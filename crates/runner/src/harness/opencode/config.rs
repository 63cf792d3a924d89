//! How opencode is started: command, environment, configuration and the files it expects.
//!
//! The settings are those that make the first turn fast (shared notes, "The recipe"): no model catalogue, no
//! snapshots, one provider, a workspace that is a git repository from the start, and a dependency folder
//! that is already there, so that no npm runs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use paddock_runnerapi::EnvVar;
use serde_json::{Value, json};

use crate::config::Secret;
use crate::harness::home::{trust_git, write_private};

/// The only provider that opencode knows: the runner's own endpoint.
pub(super) const PROVIDER: &str = "paddock";
/// The only model; the endpoint replaces it by the session's.
pub(super) const MODEL: &str = "agent";

/// What opencode has to be told about a model that it cannot look up. Rather too small than too large: it
/// asks for so many output tokens at most, and shortens the conversation when the context is nearly full.
const CONTEXT_TOKENS: u32 = 128_000;
const OUTPUT_TOKENS: u32 = 16_384;

/// Where the adapter keeps its own files.
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Uses a folder below the runner's state folder.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("opencode") }
    }

    fn models(&self) -> PathBuf {
        self.dir.join("models.json")
    }

    /// The file that a conversation of an earlier pod is imported from.
    pub(super) fn import(&self) -> PathBuf {
        self.dir.join("import.json")
    }

    /// The file that the agent's shells read first.
    pub(super) fn shell_env(&self) -> PathBuf {
        self.dir.join("env.sh")
    }

    /// Makes all files that opencode finds at its start.
    pub(super) fn prepare(&self, home: &Path, workspace: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        fs::write(self.models(), "{}")?;
        self.write_shell_env(&[])?;
        fs::create_dir_all(workspace)?;
        // The agent of an earlier pod may have left anything in its home, and must not have locked itself out.
        for prepared in [no_npm(home), trust_git(home, workspace)] {
            if let Err(error) = prepared {
                tracing::warn!(%error, home = %home.display(), "a file of the harness's home cannot be prepared");
            }
        }
        Ok(())
    }

    /// Writes the environment of the agent's shells; the next shell sees it. The names are variable names.
    pub(super) fn write_shell_env(&self, env: &[EnvVar]) -> io::Result<()> {
        let path = self.shell_env();
        let partial = path.with_extension("partial");
        write_private(&partial, &shell_script(env))?;
        // A shell that starts right now sees the old file or the new one, never half of it.
        fs::rename(&partial, &path)
    }
}

/// Without these files opencode's first turn waits for an npm that may have no network.
fn no_npm(home: &Path) -> io::Result<()> {
    let config = home.join(".config/opencode");
    fs::create_dir_all(config.join("node_modules"))?;
    let dependency = json!({"dependencies": {"@opencode-ai/plugin": "*"}});
    write_new(&config.join("package.json"), &dependency.to_string())?;
    let lock = json!({"name": "opencode", "lockfileVersion": 3, "packages": {"": dependency}});
    write_new(&config.join("package-lock.json"), &lock.to_string())
}

/// A harness with a volume as its home may bring its own files.
fn write_new(path: &Path, content: &str) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::write(path, content)
}

/// The shells inherit opencode's environment, so what is only for opencode is taken away first. That keeps
/// it out of transcripts (`env`); it hides nothing from an agent that looks at its parent in /proc.
fn shell_script(env: &[EnvVar]) -> String {
    let mut script = String::from("unset BASH_ENV OPENCODE_CONFIG_CONTENT OPENCODE_SERVER_PASSWORD\n");
    for EnvVar { name, value } in env {
        script.push_str(&format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
    }
    script
}

/// How to reach the runner's model endpoint.
pub(super) struct ModelEndpoint<'a> {
    /// Its base URL.
    pub(super) base_url: &'a str,
    /// Its bearer token. The agent's programs can read it: it keeps other pods' and hosts' traffic out, not
    /// the agent.
    pub(super) token: &'a Secret,
}

/// The configuration, as `OPENCODE_CONFIG_CONTENT`.
pub(super) fn content(endpoint: &ModelEndpoint<'_>) -> Value {
    let model = json!({
        "name": MODEL,
        "tool_call": true,
        "attachment": true,
        "temperature": true,
        "reasoning": true,
        "modalities": {"input": ["text", "image"], "output": ["text"]},
        "limit": {"context": CONTEXT_TOKENS, "output": OUTPUT_TOKENS},
        "cost": {"input": 0, "output": 0},
    });
    let full_name = format!("{PROVIDER}/{MODEL}");
    json!({
        "model": full_name,
        "small_model": full_name,
        "enabled_providers": [PROVIDER],
        "provider": {PROVIDER: {
            "name": "Paddock",
            "npm": "@ai-sdk/openai-compatible",
            "options": {
                "baseURL": endpoint.base_url,
                "apiKey": endpoint.token.reveal(),
                // opencode gives up on a model that is silent for five minutes and asks again, for ever. How
                // long a turn may take is the agent's to say; the runner ends it then.
                "timeout": false,
                "headerTimeout": false,
                "chunkTimeout": false,
            },
            "models": {MODEL: model},
        }},
        // The pod is the sandbox; nobody is there to answer a question.
        "permission": {
            "edit": "allow",
            "bash": "allow",
            "webfetch": "allow",
            "external_directory": "allow",
            "doom_loop": "allow",
            "question": "deny",
        },
        "snapshot": false,
        "share": "disabled",
        "autoupdate": false,
    })
}

/// All that a start needs.
pub(super) struct Launch<'a> {
    pub(super) files: &'a Files,
    pub(super) endpoint: ModelEndpoint<'a>,
    pub(super) password: &'a Secret,
    pub(super) workspace: &'a Path,
    pub(super) passed_env: &'a [(OsString, OsString)],
    pub(super) command: &'a [OsString],
}

/// The command that starts opencode.
pub(super) fn command(launch: &Launch<'_>) -> Command {
    let default = ["opencode", "serve"].map(OsString::from);
    let mut words = if launch.command.is_empty() { default.to_vec() } else { launch.command.to_vec() };
    if words.len() == 1 {
        words.push("serve".into());
    }
    // Only loopback, any free port: the port is read from what opencode prints.
    let has = |flag: &str, words: &[OsString]| words.iter().any(|word| word == flag);
    for (flag, value) in [("--hostname", "127.0.0.1"), ("--port", "0")] {
        if !has(flag, &words) {
            words.extend([flag.into(), value.into()]);
        }
    }
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .current_dir(launch.workspace)
        .env_clear()
        .envs(launch.passed_env.iter().cloned());
    for name in ["AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS", "SHARE"] {
        command.env(format!("OPENCODE_DISABLE_{name}"), "1");
    }
    command
        .env("OPENCODE_MODELS_PATH", launch.files.models())
        .env("OPENCODE_CONFIG_CONTENT", content(&launch.endpoint).to_string())
        .env("OPENCODE_SERVER_PASSWORD", launch.password.reveal())
        .env("SHELL", "/bin/bash")
        .env("BASH_ENV", launch.files.shell_env());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_trusts_the_workspace_whatever_is_in_the_home_already() {
        let home = std::env::temp_dir().join(format!("paddock-home-{}", std::process::id()));
        let (files, workspace) = (Files::new(&home.join("state")), home.join("workspace"));
        let trust = format!("[safe]\n\tdirectory = \"{}\"\n", workspace.display());
        let config = home.join(".gitconfig");
        for (found, left) in [
            (None, trust.clone()),
            (Some("[user]\n\tname = agent".to_owned()), format!("[user]\n\tname = agent\n{trust}")),
            (Some(format!("{trust}[user]\n")), format!("{trust}[user]\n")),
        ] {
            let _ = fs::remove_file(&config);
            if let Some(found) = found {
                fs::write(&config, found).unwrap();
            }
            for _ in 0..2 {
                files.prepare(&home, &workspace).unwrap();
                assert_eq!(fs::read_to_string(&config).unwrap(), left);
            }
        }
        // Not even what can be neither read nor written stops a boot.
        fs::remove_file(&config).unwrap();
        fs::create_dir(&config).unwrap();
        files.prepare(&home, &workspace).unwrap();
        fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn values_reach_a_shell_as_they_are() {
        let value = "a'b\"$HOME `id`\n\\ end".to_owned();
        let script = shell_script(&[EnvVar { name: "X_1".into(), value: value.clone() }]);
        assert_eq!(
            script.lines().next().unwrap(),
            "unset BASH_ENV OPENCODE_CONFIG_CONTENT OPENCODE_SERVER_PASSWORD"
        );
        let quoted = script.split_once("export X_1=").unwrap().1.trim_end_matches('\n');
        assert_eq!(quoted, format!("'{}'", value.replace('\'', r"'\''")));
    }
}
