//! The environment, typed. Errors name the variable that is wrong and never hold a value that may be secret.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::Uri;
use paddock_runnerapi::{
    BadFeatures, DEFAULT_HARNESS_PORT, DEFAULT_STATE_DIR, DEFAULT_TERMINATION_LOG, DEFAULT_WORKSPACE,
    Features, PORT, TokenError, VerifyingKeys, env,
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
    /// Codex's app server, which answers messages.
    CodexAppServer,
    /// Any program, used through its terminal.
    Terminal,
    /// Any server that speaks opencode's wire.
    Http,
}

/// A model, as messages of opencode's wire name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelName {
    /// Who provides it.
    pub provider: String,
    /// Its name there.
    pub model: String,
}

/// What is said of a server that speaks opencode's wire.
pub struct HttpSettings {
    /// Where it listens, on the loopback.
    pub port: u16,
    /// What it can do.
    pub features: Features,
    /// Which model its messages name in place of the agent's.
    pub model: Option<ModelName>,
    /// What it is shown in the header `Authorization`.
    pub authorization: Option<Secret>,
    /// Where it was told to find its models, on the loopback; absent, any port, which only a child is told.
    pub model_port: Option<u16>,
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
    /// For [`HarnessKind::Http`].
    pub http: HttpSettings,
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
         claude-code, codex, codex-app-server, terminal, http",
        env::HARNESS
    )]
    UnknownHarness,
    /// The keys cannot be read.
    #[error("environment variable {variable}: {0}", variable = env::PUBLIC_KEYS)]
    Keys(#[from] TokenError),
    /// It is no port.
    #[error(
        "environment variable {0} is no port: it must be a number from 1 to 65535, other than the runner's own {PORT}"
    )]
    Port(&'static str),
    /// It names what no server can do.
    #[error("environment variable {variable}: {0}", variable = env::HARNESS_FEATURES)]
    Features(#[from] BadFeatures),
    /// It is no model.
    #[error("environment variable {} is not of the form provider/model", env::HARNESS_MODEL)]
    Model,
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
            "codex-app-server" => HarnessKind::CodexAppServer,
            "terminal" => HarnessKind::Terminal,
            "http" => HarnessKind::Http,
            _ => return Err(ConfigError::UnknownHarness),
        };
        let port = |name| -> Result<Option<u16>, ConfigError> {
            let fits = |port: &u16| *port != 0 && *port != PORT;
            find(name)?.map(|text| text.parse().ok().filter(fits).ok_or(ConfigError::Port(name))).transpose()
        };
        let http = HttpSettings {
            port: port(env::HARNESS_PORT)?.unwrap_or(DEFAULT_HARNESS_PORT),
            features: find(env::HARNESS_FEATURES)?.map_or(Ok(Features::default()), |text| text.parse())?,
            model: find(env::HARNESS_MODEL)?.map(|text| model_name(&text)).transpose()?,
            authorization: find(env::HARNESS_AUTHORIZATION)?.map(Secret::new),
            model_port: port(env::MODEL_PORT)?,
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
            http,
            termination_log: find(env::TERMINATION_LOG)?
                .unwrap_or_else(|| DEFAULT_TERMINATION_LOG.to_owned())
                .into(),
            listen,
        })
    }
}

fn model_name(text: &str) -> Result<ModelName, ConfigError> {
    let (provider, model) = text.split_once('/').ok_or(ConfigError::Model)?;
    if provider.is_empty() || model.is_empty() {
        return Err(ConfigError::Model);
    }
    Ok(ModelName { provider: provider.to_owned(), model: model.to_owned() })
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
    fn a_server_of_somebody_s_own_is_described_by_variables() {
        let none = read(&[]).unwrap().http;
        assert_eq!((none.port, none.features, none.model_port), (4096, Features::default(), None));
        let said = [
            (env::HARNESS, Some("http")),
            (env::HARNESS_PORT, Some("8080")),
            (env::HARNESS_FEATURES, Some("abort")),
            (env::HARNESS_MODEL, Some("litellm/openai/gpt")),
            (env::HARNESS_AUTHORIZATION, Some("Bearer x")),
            (env::MODEL_PORT, Some("7071")),
        ];
        let config = read(&said).unwrap();
        assert_eq!((config.harness, config.http.port), (HarnessKind::Http, 8080));
        let model = ModelName { provider: "litellm".into(), model: "openai/gpt".into() };
        assert_eq!((config.http.model, config.http.model_port), (Some(model), Some(7071)));
        assert!(config.http.features.abort && !config.http.features.mcp);
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
            (env::HARNESS_PORT, "70777"),
            (env::HARNESS_PORT, "7070"),
            (env::MODEL_PORT, "0"),
            (env::HARNESS_FEATURES, "abort;mcp"),
            (env::HARNESS_MODEL, "bad-value"),
            (env::HARNESS_MODEL, "/bad-value"),
        ] {
            let error = read(&[(name, Some(value))]).err().unwrap().to_string();
            assert!(error.contains(name) && !error.contains("bad-value"), "{error}");
        }
    }
}
