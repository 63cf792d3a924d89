//! The environment, typed. Errors name the variable that is wrong and never hold its value.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::Uri;
use paddock_runnerapi::{
    DEFAULT_STATE_DIR, DEFAULT_TERMINATION_LOG, DEFAULT_WORKSPACE, TokenError, VerifyingKeys, env,
};

/// Text that must not be seen.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: only for the place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Which adapter drives the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarnessKind {
    /// `opencode serve`.
    Opencode,
    /// The Claude Agent SDK, by way of a program of ours.
    ClaudeAgentSdk,
    /// Claude Code, used through its terminal.
    ClaudeCode,
    /// Codex, used through its terminal.
    Codex,
    /// Any program, used through its terminal.
    Terminal,
}

/// The model gateway.
#[derive(Clone, Debug)]
pub struct ModelGateway {
    /// Base URL of its OpenAI-compatible API.
    pub base_url: Uri,
    /// Its key, where it asks for one.
    pub api_key: Option<Secret>,
}

/// All that the runner is told from outside.
pub struct Config {
    /// UID of the pod the runner is in.
    pub pod_uid: String,
    /// Keys of controller and gateway.
    pub keys: VerifyingKeys,
    /// The adapter.
    pub harness: HarnessKind,
    /// Where the harness's models are.
    pub model: ModelGateway,
    /// Folder of the journal.
    pub state_dir: PathBuf,
    /// The agent's folder.
    pub workspace: PathBuf,
    /// The harness's home folder.
    pub home: PathBuf,
    /// A folder of bare git repositories that clones may take from.
    pub git_cache: Option<PathBuf>,
    /// A file with certificates to trust beside the public ones.
    pub extra_certificates: Option<PathBuf>,
    /// What the harness's environment starts from: the container's own, without anything of ours.
    pub passed_env: Vec<(OsString, OsString)>,
    /// The harness's command, empty for the adapter's default.
    pub command: Vec<OsString>,
    /// File whose text the pod's status shows once the container has ended.
    pub termination_log: PathBuf,
    /// Address to listen on, where it was given.
    pub listen: Option<SocketAddr>,
}

/// A variable of the environment is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not there.
    #[error("environment variable {0} is not set; the controller and the template set it")]
    Missing(&'static str),
    /// It is not text.
    #[error("environment variable {0} is not UTF-8 text")]
    NotText(&'static str),
    /// It names no adapter.
    #[error(
        "environment variable {} names no harness adapter of this runner; it knows: opencode, claude-agent-sdk, \
         claude-code, codex, terminal",
        env::HARNESS
    )]
    UnknownHarness,
    /// The keys cannot be read.
    #[error("environment variable {variable}: {0}", variable = env::PUBLIC_KEYS)]
    Keys(#[from] TokenError),
    /// The model gateway's address cannot be used.
    #[error("environment variable {} is not an http or https URL without a query", env::MODEL_BASE_URL)]
    BaseUrl,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`ConfigError`], which names the variable.
    pub fn from_env(
        vars: impl Iterator<Item = (OsString, OsString)>,
        listen: Option<SocketAddr>,
        command: Vec<OsString>,
    ) -> Result<Self, ConfigError> {
        let vars: Vec<(OsString, OsString)> = vars.collect();
        let find = |name: &'static str| -> Result<Option<String>, ConfigError> {
            let value = vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            let text = value.map(|v| v.into_string().map_err(|_| ConfigError::NotText(name))).transpose()?;
            Ok(text.filter(|text| !text.is_empty()))
        };
        let need = |name| find(name)?.ok_or(ConfigError::Missing(name));
        let base_url: Uri = need(env::MODEL_BASE_URL)?.parse().map_err(|_| ConfigError::BaseUrl)?;
        let usable = matches!(base_url.scheme_str(), Some("http" | "https")) && base_url.query().is_none();
        if !usable {
            return Err(ConfigError::BaseUrl);
        }
        let harness = match need(env::HARNESS)?.as_str() {
            "opencode" => HarnessKind::Opencode,
            "claude-agent-sdk" => HarnessKind::ClaudeAgentSdk,
            "claude-code" => HarnessKind::ClaudeCode,
            "codex" => HarnessKind::Codex,
            "terminal" => HarnessKind::Terminal,
            _ => return Err(ConfigError::UnknownHarness),
        };
        Ok(Self {
            pod_uid: need(env::POD_UID)?,
            keys: VerifyingKeys::parse(&need(env::PUBLIC_KEYS)?)?,
            harness,
            model: ModelGateway { base_url, api_key: find(env::MODEL_API_KEY)?.map(Secret::new) },
            state_dir: find(env::STATE_DIR)?.unwrap_or_else(|| DEFAULT_STATE_DIR.to_owned()).into(),
            workspace: find(env::WORKSPACE)?.unwrap_or_else(|| DEFAULT_WORKSPACE.to_owned()).into(),
            home: need("HOME")?.into(),
            git_cache: find(env::GIT_CACHE)?.map(PathBuf::from),
            extra_certificates: find("SSL_CERT_FILE")?.map(PathBuf::from),
            passed_env: vars.iter().filter(|(name, _)| is_passed(name)).cloned().collect(),
            command,
            termination_log: find(env::TERMINATION_LOG)?
                .unwrap_or_else(|| DEFAULT_TERMINATION_LOG.to_owned())
                .into(),
            listen,
        })
    }
}

/// Nothing of ours reaches the harness, the model key least of all.
fn is_passed(name: &OsString) -> bool {
    !name.as_encoded_bytes().starts_with(b"PADDOCK_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn read(changes: &[(&str, Option<&str>)]) -> Result<Config, ConfigError> {
        let mut vars = vec![
            (env::POD_UID, "pod-1"),
            (env::PUBLIC_KEYS, KEY),
            (env::HARNESS, "opencode"),
            (env::MODEL_BASE_URL, "http://litellm:4000/v1"),
            (env::MODEL_API_KEY, "sk-very-secret"),
            ("HOME", "/home/agent"),
            ("PATH", "/bin"),
        ];
        for (name, value) in changes {
            vars.retain(|(key, _)| key != name);
            vars.extend(value.map(|value| (*name, value)));
        }
        Config::from_env(vars.into_iter().map(|(k, v)| (k.into(), v.into())), None, vec![])
    }

    #[test]
    fn defaults_are_filled_in_and_nothing_of_ours_is_passed_on() {
        let config = read(&[]).unwrap();
        assert_eq!(config.state_dir, PathBuf::from("/paddock/state"));
        assert_eq!(config.workspace, PathBuf::from("/workspace"));
        let passed: Vec<_> = config.passed_env.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(passed, ["HOME", "PATH"]);
        assert!(!format!("{:?}", config.model).contains("very-secret"));
    }

    #[test]
    fn a_model_gateway_may_need_no_key() {
        for value in [None, Some("")] {
            assert!(read(&[(env::MODEL_API_KEY, value)]).unwrap().model.api_key.is_none());
        }
        let key = read(&[]).unwrap().model.api_key.unwrap();
        assert_eq!(key.reveal(), "sk-very-secret");
    }

    #[test]
    fn an_error_names_the_variable_and_not_its_value() {
        for name in [env::POD_UID, env::PUBLIC_KEYS, env::HARNESS, env::MODEL_BASE_URL, "HOME"] {
            let error = read(&[(name, None)]).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
        for (name, value) in [
            (env::PUBLIC_KEYS, "bad-value"),
            (env::HARNESS, "bad-value"),
            (env::MODEL_BASE_URL, "bad-value"),
            (env::MODEL_BASE_URL, "ftp://bad-value"),
        ] {
            let error = read(&[(name, Some(value))]).err().unwrap().to_string();
            assert!(error.contains(name) && !error.contains("bad-value"), "{error}");
        }
    }
}
