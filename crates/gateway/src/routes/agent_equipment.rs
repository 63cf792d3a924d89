//! What HTTP clients say about an agent's repository, packages and MCP servers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use paddock_api::agent::{
    AgentSpec, CredentialSecretRef, EnvVar, EnvVarSource, Header, McpHttp, McpServer, McpStdio, Repo,
    Requirements, SecretKeyRef, has_credential, is_reserved_env,
};
use paddock_api::http::{ApiMcpServer, ApiRequirements, ErrorCode, MASKED};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::agent_env::{self, Values};
use crate::error::ApiError;
use crate::http::body::{self, Empty};

/// Longest URL, in characters, as the Agent kind has it.
pub const MAX_URL: usize = 2048;
/// Most MCP servers, as the Agent kind has it.
const MAX_SERVERS: usize = 16;
/// Most headers or variables of one, as the Agent kind has it.
const MAX_PAIRS: usize = 16;
/// Longest name of a server, as the Agent kind has it.
const MAX_SERVER_NAME: usize = 64;
/// Longest name of a header, as the Agent kind has it.
const MAX_HEADER_NAME: usize = 128;
/// Most bytes of all headers and variables together.
const MAX_BYTES: usize = 16_384;
/// Most packages of a kind, as the Agent kind has it.
const MAX_PACKAGES: usize = 64;
/// Longest package, in characters, as the Agent kind has it.
const MAX_PACKAGE: usize = 255;
/// Variables that are the credential of the agent's repository too, as LiteLLM Agent Platform has it: the first that is there.
const GIT_TOKENS: [&str; 3] = ["GIT_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"];

fn bad(message: impl fmt::Display) -> ApiError {
    ApiError::bad_request(message.to_string())
}

/// Checks a URL that an agent is given.
///
/// # Errors
/// `bad_request`. The URL is not in it: there may be a password in it.
pub fn check_url(field: &str, url: &str) -> Result<(), ApiError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest.filter(|_| !url.contains(char::is_whitespace)) else {
        return Err(bad(format_args!("{field}: must be a URL that begins with https:// or http://")));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(bad(format_args!(
            "{field}: must not have a user or a password in it, as it is shown to everybody who may read the agent; a token for git \
             goes into env_vars as GIT_TOKEN, one for an MCP server into headers"
        )));
    }
    if host.is_empty() {
        return Err(bad(format_args!("{field}: names no host")));
    }
    Ok(())
}

/// The repository at `url`, in place of `before`. A credential stays with its host.
pub fn repo(url: &str, branch: Option<String>, before: Option<Repo>) -> Repo {
    let is_same_host = |before: &Repo| before.url.split('/').take(3).eq(url.split('/').take(3));
    let same_host = before.as_ref().is_some_and(is_same_host);
    let before = before.unwrap_or_default();
    Repo {
        url: url.to_owned(),
        branch,
        full_history: before.full_history,
        credential_secret_ref: before.credential_secret_ref.filter(|_| same_host),
    }
}

/// Gives the agent's repository the credential that is among its variables, if one is. One in a Secret of somebody else's choosing
/// stays.
pub fn put_credential(spec: &mut AgentSpec, secret: &str) {
    let Some(repo) = &mut spec.repo else { return };
    if repo.credential_secret_ref.as_ref().is_some_and(|at| at.name != secret) {
        return;
    }
    let token = GIT_TOKENS.iter().find_map(|name| spec.env.iter().find(|v| v.name == *name)?.secret());
    repo.credential_secret_ref =
        token.map(|at| CredentialSecretRef { name: at.name.clone(), key: Some(at.key.clone()) });
}

/// The schema of what clients may say about requirements.
pub struct RequirementsSchema;

impl JsonSchema for RequirementsSchema {
    fn schema_name() -> Cow<'static, str> {
        "Requirements".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let package = json!({"type": "string", "maxLength": MAX_PACKAGE});
        let packages = json!({"type": "array", "maxItems": MAX_PACKAGES, "items": package});
        json_schema!({
            "description": "The text of a requirements.txt without options, or lists of packages as pip and npm take them.",
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"pip": packages, "npm": packages}},
                Empty::json_schema(&mut SchemaGenerator::default()),
            ],
        })
    }
}

/// Reads `requirements`: the text of a requirements.txt, or `{"pip": [...], "npm": [...]}`.
///
/// # Errors
/// `bad_request`, naming what is wrong.
pub fn requirements(raw: &RawValue) -> Result<Requirements, ApiError> {
    if body::is_empty(raw) {
        return Ok(Requirements::default());
    }
    let given: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let wanted = match given {
        Value::String(text) => Requirements { pip: lines(&text), npm: Vec::new() },
        given => {
            let ApiRequirements { pip, npm } = serde_json::from_value(given).map_err(|_| {
                bad("requirements: must be the text of a requirements.txt, or {\"pip\": [...], \"npm\": [...]} with lists of strings")
            })?;
            Requirements { pip, npm }
        }
    };
    for (kind, packages) in [("pip", &wanted.pip), ("npm", &wanted.npm)] {
        if packages.len() > MAX_PACKAGES {
            return Err(bad(format_args!(
                "requirements: {} {kind} packages; an agent has at most {MAX_PACKAGES}; put what every session needs into the pool's image",
                packages.len()
            )));
        }
        // Not quoted: an option may have a password in it.
        if let Some(at) = packages.iter().position(|package| !is_package(package)) {
            let at = at + 1;
            return Err(bad(format_args!(
                "requirements: number {at} is no {kind} package; options such as --index-url or -r are not taken, and a package has at most {MAX_PACKAGE} characters"
            )));
        }
        if let Some(at) = packages.iter().position(|package| has_credential(package)) {
            let at = at + 1;
            return Err(bad(format_args!(
                "requirements: number {at} of {kind}: must not have a user or a password in its URL, as it is shown to everybody who may read \
                 the agent; a registry that asks for them goes into env_vars as PIP_INDEX_URL or NPM_CONFIG_REGISTRY"
            )));
        }
    }
    Ok(wanted)
}

/// The packages in a requirements.txt.
fn lines(text: &str) -> Vec<String> {
    let bare = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
    text.lines().map(bare).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn is_package(package: &str) -> bool {
    package.chars().count() <= MAX_PACKAGE
        && package.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '@')
        && !package.contains(['\r', '\n'])
}

/// All the MCP servers that an agent shall have.
#[derive(Clone)]
pub struct McpServers(Vec<ApiMcpServer>);

impl fmt::Debug for McpServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|server| &server.name)).finish()
    }
}

impl JsonSchema for McpServers {
    fn schema_name() -> Cow<'static, str> {
        "McpServers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pairs = json!({
            "description": "Names and values. Values are secrets and never shown again; `***` keeps one.",
            "type": "object",
            "maxProperties": MAX_PAIRS,
            "additionalProperties": {"type": "string", "maxLength": MAX_BYTES},
        });
        let name = json!({
            "description": "Its name, which its tools' names begin with.",
            "type": "string",
            "pattern": "^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$",
            "maxLength": MAX_SERVER_NAME,
        });
        json_schema!({
            "description": "Servers to connect to over streamable HTTP (`url`), and programs in the sandbox (`command`).",
            "type": "array",
            "maxItems": MAX_SERVERS,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": name,
                    "url": {"type": "string", "maxLength": MAX_URL},
                    "headers": pairs,
                    "command": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                    "env": pairs,
                },
                "oneOf": [{"required": ["url"]}, {"required": ["command"]}],
            },
        })
    }
}

impl McpServers {
    /// Reads and checks the field.
    ///
    /// # Errors
    /// `bad_request` or `unsupported`, naming the server. No value is in it.
    pub fn read(raw: &RawValue) -> Result<Self, ApiError> {
        if body::is_empty(raw) {
            return Ok(Self(Vec::new()));
        }
        let given: Vec<Value> =
            serde_json::from_str(raw.get()).map_err(|_| bad("mcp_servers: must be a list"))?;
        if given.iter().any(Value::is_string) {
            return Err(ApiError::new(
                ErrorCode::Unsupported,
                "mcp_servers: servers of the model gateway cannot be named by their ids yet; describe each server: {\"name\", \
                 \"url\", \"headers\"} or {\"name\", \"command\": [...], \"env\"}",
            ));
        }
        // What serde says of a mistake may quote a value.
        let read = |value| serde_json::from_value::<ApiMcpServer>(value).ok();
        let servers: Option<Vec<ApiMcpServer>> = given.into_iter().map(read).collect();
        let servers = servers.ok_or_else(|| {
            bad("mcp_servers: each must be {\"name\", \"url\", \"headers\": {name: value}} or {\"name\", \"command\": [...], \"env\": {name: value}}")
        })?;
        if servers.len() > MAX_SERVERS {
            return Err(bad(format_args!(
                "mcp_servers: {}; an agent has at most {MAX_SERVERS}",
                servers.len()
            )));
        }
        let mut names = BTreeSet::new();
        for server in &servers {
            check(server)?;
            if !names.insert(&server.name) {
                return Err(bad(format_args!("mcp_servers: {}: is there twice", server.name)));
            }
        }
        Ok(Self(servers))
    }

    /// The servers that an agent with `current` shall have, and the values that `secret` must be given for them.
    ///
    /// # Errors
    /// `bad_request`: a value is to be kept that is not there.
    pub fn applied_to(
        self,
        current: &[McpServer],
        secret: &str,
    ) -> Result<(Vec<McpServer>, Values), ApiError> {
        let mut values = Values::default();
        let mut servers = Vec::new();
        for server in self.0 {
            let before = current.iter().find(|known| known.name == server.name);
            let mut place = |name: &str, value: String| {
                let key = format!("mcp.{}.{name}", server.name);
                let at = SecretKeyRef { name: secret.to_owned(), key: key.clone() };
                values.insert(key, value);
                EnvVarSource { secret_key_ref: at }
            };
            let kept = |name: &str| {
                bad(format_args!(
                    "mcp_servers: {}: {name}: {MASKED} keeps the value that is stored, and there is none; give the value",
                    server.name
                ))
            };
            let (mut http, mut stdio) = (None, None);
            if let Some(url) = server.url {
                let known = before.and_then(|before| before.http.as_ref()).filter(|known| known.url == url);
                let mut headers = Vec::new();
                for (name, value) in server.headers {
                    headers.push(if value == MASKED {
                        let known = known.and_then(|known| known.headers.iter().find(|h| h.name == name));
                        known.cloned().ok_or_else(|| kept(&name))?
                    } else {
                        let from = place(&name, value);
                        Header { name, value: None, value_from: Some(from) }
                    });
                }
                http = Some(McpHttp { url, headers });
            } else if let Some(command) = server.command {
                let known = before.and_then(|before| before.stdio.as_ref());
                let mut env = Vec::new();
                for (name, value) in server.env {
                    env.push(if value == MASKED {
                        let known = known.and_then(|known| known.env.iter().find(|v| v.name == name));
                        known.cloned().ok_or_else(|| kept(&name))?
                    } else {
                        let from = place(&name, value);
                        EnvVar { name, value: String::new(), value_from: Some(from) }
                    });
                }
                stdio = Some(McpStdio { command, env });
            }
            servers.push(McpServer { name: server.name, http, stdio });
        }
        Ok((servers, values))
    }
}

fn check(server: &ApiMcpServer) -> Result<(), ApiError> {
    let name = &server.name;
    let is_edge = |edge: Option<char>| edge.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && is_edge(name.chars().next())
        && is_edge(name.chars().last())
        && name.len() <= MAX_SERVER_NAME;
    if !is_name {
        let shown: String = name.chars().take(MAX_SERVER_NAME).collect();
        return Err(bad(format_args!(
            "mcp_servers: {shown:?} is no name of a server; use letters, digits, - and _, a letter or digit at either end, at most {MAX_SERVER_NAME}"
        )));
    }
    let wrong = |message: String| Err(bad(format_args!("mcp_servers: {name}: {message}")));
    match (&server.url, &server.command) {
        (Some(url), None) => {
            check_url(&format!("mcp_servers: {name}: url"), url)?;
            if url.chars().count() > MAX_URL {
                return wrong(format!("url: must have at most {MAX_URL} characters"));
            }
            if !server.env.is_empty() {
                return wrong("env: is for a server with command; send a credential in headers".to_owned());
            }
        }
        (None, Some(command)) if command.is_empty() || command[0].is_empty() => {
            return wrong("command: must begin with a program".to_owned());
        }
        (None, Some(_)) => {
            if !server.headers.is_empty() {
                return wrong(
                    "headers: are for a server with url; give a program its credential in env".to_owned(),
                );
            }
        }
        _ => return wrong("give exactly one of url and command".to_owned()),
    }
    if let Some(name) = server.headers.keys().find(|name| !is_header(name)) {
        let shown: String = name.chars().take(64).collect();
        return wrong(format!("headers: {shown:?} is no name of a header"));
    }
    if let Some(name) = server.env.keys().find(|name| !agent_env::is_name(name) || is_reserved_env(name)) {
        let shown: String = name.chars().take(64).collect();
        return wrong(format!("env: {shown:?} is no name of a variable, or reserved for the sandbox"));
    }
    check_values(&server.headers).or_else(|message| wrong(format!("headers: {message}")))?;
    check_values(&server.env).or_else(|message| wrong(format!("env: {message}")))
}

fn is_header(name: &str) -> bool {
    (1..=MAX_HEADER_NAME).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn check_values(pairs: &BTreeMap<String, String>) -> Result<(), String> {
    if pairs.len() > MAX_PAIRS {
        return Err(format!("{}; a server has at most {MAX_PAIRS}", pairs.len()));
    }
    if let Some((name, _)) = pairs.iter().find(|(_, value)| value.contains(['\r', '\n', '\0'])) {
        return Err(format!("{name}: has a line end or NUL character, which it cannot have"));
    }
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        return Err(format!("{bytes} bytes; names and values have at most {MAX_BYTES}"));
    }
    Ok(())
}

/// The keys of `secret` that an agent's sessions read.
pub fn used_keys<'a>(spec: &'a AgentSpec, secret: &str) -> BTreeSet<&'a str> {
    let variables = spec.env.iter().filter_map(EnvVar::secret);
    let headers = spec.mcp_servers.iter().flat_map(|server| {
        let headers = server.http.iter().flat_map(|http| &http.headers);
        headers.filter_map(|header| header.value_from.as_ref().map(|from| &from.secret_key_ref))
    });
    let programs = spec
        .mcp_servers
        .iter()
        .flat_map(|server| server.stdio.iter().flat_map(|stdio| stdio.env.iter().filter_map(EnvVar::secret)));
    let all = variables.chain(headers).chain(programs);
    all.filter(|at| at.name == secret).map(|at| at.key.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    #[test]
    fn a_url_has_a_host_and_no_password() {
        for good in ["https://github.com/a/b", "http://git.svc:3000/@scope/a.git"] {
            check_url("repo_url", good).unwrap();
        }
        for bad in [
            "https://u:hunter2@h/x",
            "ssh://hunter2@h/x",
            "git@h:hunter2",
            "https://",
            "https:///x",
            "https://h/a b",
        ] {
            let message = check_url("repo_url", bad).unwrap_err().message;
            assert!(message.starts_with("repo_url: ") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_requirements_txt_is_read_and_options_are_refused() {
        let read = |value: Value| requirements(&raw(&value));
        let text = "# tools\nruff==0.6.9  # linter\n\n  semgrep>=1\n";
        assert_eq!(read(json!(text)).unwrap().pip, ["ruff==0.6.9", "semgrep>=1"]);
        let both = read(json!({"pip": ["a"], "npm": ["@b/c@1"]})).unwrap();
        assert_eq!((both.pip, both.npm), (vec!["a".to_owned()], vec!["@b/c@1".to_owned()]));
        for empty in [json!(""), json!([]), json!({}), json!(null)] {
            assert!(read(empty).unwrap().is_empty());
        }
        for bad in [
            json!("-r x.txt"),
            json!({"npm": ["-g"]}),
            json!(5),
            json!({"pip": "a"}),
            json!("a\n".repeat(65)),
            json!("a\nb @ https://u:hunter2@h/b.whl"),
            json!({"npm": ["git+https://hunter2@h/b.git"]}),
        ] {
            let message = read(bad.clone()).unwrap_err().message;
            assert!(message.starts_with("requirements: ") && !message.contains("hunter2"), "{message}");
        }
        assert!(read(json!("a @ git+https://h/a.git@v1")).is_ok());
    }

    #[test]
    fn values_of_servers_go_into_the_secret_and_the_mask_keeps_them() {
        let read = |value: Value| McpServers::read(&raw(&value));
        let servers = json!([
            {"name": "docs", "url": "https://d/mcp", "headers": {"Authorization": "hunter2"}},
            {"name": "local", "command": ["npx", "x"], "env": {"KEY": "hunter2"}},
        ]);
        let (made, values) = read(servers).unwrap().applied_to(&[], "s").unwrap();
        assert!(!format!("{made:?}{values:?}").contains("hunter2"));
        let spec = AgentSpec { mcp_servers: made.clone(), ..AgentSpec::default() };
        let keys: BTreeSet<&str> = ["mcp.docs.Authorization", "mcp.local.KEY"].into();
        assert_eq!(used_keys(&spec, "s"), keys);
        let masked = |url: &str| json!([{"name": "docs", "url": url, "headers": {"Authorization": "***"}}]);
        let (kept, values) = read(masked("https://d/mcp")).unwrap().applied_to(&made, "s").unwrap();
        assert!(values.is_empty());
        assert_eq!(kept, made[..1]);
        // A value is not sent to another server than it was given for.
        let moved = read(masked("https://elsewhere/mcp")).unwrap().applied_to(&made, "s").unwrap_err();
        assert!(moved.message.contains("docs: Authorization: *** keeps"), "{}", moved.message);
    }

    #[test]
    fn what_is_wrong_with_a_server_is_told() {
        let refusal = |value: Value| McpServers::read(&raw(&value)).unwrap_err();
        assert_eq!(refusal(json!(["id-1"])).code, ErrorCode::Unsupported);
        for (bad, says) in [
            (json!([{"name": "a"}]), "exactly one of url and command"),
            (json!([{"name": "a", "url": "https://h", "command": ["x"]}]), "exactly one of url and command"),
            (json!([{"name": "a.b", "url": "https://h"}]), "no name of a server"),
            (json!([{"name": "a", "url": "https://u:hunter2@h"}]), "must not have a user"),
            (json!([{"name": "a", "url": "https://h"}, {"name": "a", "url": "https://h"}]), "is there twice"),
            (json!([{"name": "a", "command": []}]), "must begin with a program"),
            (json!([{"name": "a", "command": ["x"], "env": {"PATH": "hunter2"}}]), "reserved"),
            (json!([{"name": "a", "url": "https://h", "headers": {"A": "hunter2\n"}}]), "line end"),
            (
                json!([{"name": "a", "url": "https://h", "headers": {"A b": "hunter2"}}]),
                "no name of a header",
            ),
            (json!([{"name": "a", "url": "https://h", "headers": {"A": ["hunter2"]}}]), "each must be"),
            (json!({"a": 1}), "must be a list"),
        ] {
            let message = refusal(bad).message;
            assert!(message.starts_with("mcp_servers: ") && message.contains(says), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_token_among_the_variables_is_the_repository_s_credential() {
        let mut spec = AgentSpec { repo: Some(repo("https://h/a", None, None)), ..AgentSpec::default() };
        let credential = |spec: &AgentSpec| spec.repo.clone().unwrap().credential_secret_ref;
        put_credential(&mut spec, "own");
        assert_eq!(credential(&spec), None);
        spec.env = vec![
            EnvVar::from_secret("GITHUB_TOKEN", "own", "GITHUB_TOKEN"),
            EnvVar::from_secret("X", "own", "X"),
        ];
        put_credential(&mut spec, "own");
        let token = CredentialSecretRef { name: "own".into(), key: Some("GITHUB_TOKEN".into()) };
        assert_eq!(credential(&spec), Some(token.clone()));
        // It stays with its host, and goes with the variable.
        assert_eq!(repo("https://h/b", None, spec.repo.clone()).credential_secret_ref, Some(token));
        for elsewhere in ["https://other/b", "http://h/b"] {
            assert_eq!(repo(elsewhere, None, spec.repo.clone()).credential_secret_ref, None);
        }
        spec.env.clear();
        put_credential(&mut spec, "own");
        assert_eq!(credential(&spec), None);
        let theirs = CredentialSecretRef { name: "theirs".into(), key: None };
        spec.repo.as_mut().unwrap().credential_secret_ref = Some(theirs.clone());
        put_credential(&mut spec, "own");
        assert_eq!(credential(&spec), Some(theirs));
    }
}
