//! Reads what a client says about an agent.
//!
//! What this version can do nothing with is refused where it is not empty: an agent without the restriction or the tool that its
//! maker has asked for would look as if it had it. Only the picture, and the branch of an agent without a repository, are kept
//! for their own sake, in annotations, because they are shown again and say nothing about what the agent does.

use paddock_api::agent::Requirements;
use paddock_api::agent::{AgentSpec, DEFAULT_HARNESS};
use paddock_api::http::{DEFAULT_BRANCH, ErrorCode};
use paddock_api::{Agent, labels};
use paddock_kubeio::slim::SlimSecret;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::agent_env::{EnvVars, Values};
use super::agent_equipment::{self, MAX_URL, McpServers, RequirementsSchema};
use super::router::is_label;
use crate::error::ApiError;
use crate::http::body::{self, Empty};

/// Longest name, in characters, as the Agent kind has it.
const MAX_NAME: usize = 200;
/// Longest model name, in characters, as the Agent kind has it.
const MAX_MODEL: usize = 256;
/// Longest prompt, in characters, as the Agent kind has it.
const MAX_PROMPT: usize = 262_144;
/// Longest name of a harness, as the Agent kind has it.
const MAX_HARNESS: usize = 63;
/// Longest branch, in characters.
const MAX_BRANCH: usize = 255;
/// Longest URL of a picture, in characters; some clients put the picture itself into it. All annotations of an object
/// together have 256 KiB.
const MAX_PICTURE: usize = 65_536;

/// `None`: the field is not there; `null` is a value.
type Raw<'a> = Option<&'a RawValue>;

/// What an agent shall be like. In a change, a field that is left out stays as it is, and `null` or an empty text clears it.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AgentFields")]
pub struct Fields<'a> {
    /// The name people see; its id where there is none.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = MAX_NAME))]
    name: Raw<'a>,
    /// The name that the model gateway knows. A new agent needs one.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "String", length(min = 1, max = MAX_MODEL))]
    model: Raw<'a>,
    /// Instructions added to the harness's own.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = MAX_PROMPT))]
    prompt: Raw<'a>,
    /// The harness; `opencode` where nothing is said.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = MAX_HARNESS), extend("pattern" = "^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$"))]
    harness_id: Raw<'a>,
    /// Branch or tag of the repository; `main` where nothing is said.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = MAX_BRANCH))]
    branch: Raw<'a>,
    /// Kept and shown again; nothing else comes of it.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = MAX_PICTURE))]
    pfp_url: Raw<'a>,
    /// Variables that the agent's shells see. In a change, they are the whole set: `***` keeps a value.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<EnvVars>")]
    env_vars: Raw<'a>,
    /// A git repository that is cloned when a session starts, over HTTPS or HTTP. Without user and password: a token is the
    /// variable `GIT_TOKEN`, `GITHUB_TOKEN` or `GH_TOKEN`.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = MAX_URL))]
    repo_url: Raw<'a>,
    /// Servers whose tools the model is offered. In a change, they are the whole set: `***` keeps a value.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<McpServers>")]
    mcp_servers: Raw<'a>,
    /// Packages that are installed when a session starts.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schemars(with = "Option<RequirementsSchema>")]
    requirements: Raw<'a>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    tools: Raw<'a>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    skill_ids: Raw<'a>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    sandbox_files: Raw<'a>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    projects: Raw<'a>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    allow_out: Raw<'a>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    deny_out: Raw<'a>,
    /// Not taken yet.
    #[serde(borrow, default)]
    #[schemars(with = "Empty")]
    env_var_hosts: Raw<'a>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'de>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What is said about a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// There shall be none: `null`, or an empty one.
    Cleared,
    /// This one.
    Text(String),
}

/// What a client says about an agent, checked.
#[derive(Debug, Default)]
pub struct AgentChange {
    name: Said,
    model: Said,
    prompt: Said,
    harness: Said,
    branch: Said,
    picture: Said,
    repo_url: Said,
    requirements: Option<Requirements>,
    env_vars: Option<EnvVars>,
    mcp_servers: Option<McpServers>,
}

impl AgentChange {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// `bad_request` or `unsupported`, naming the field. No value is in it.
    pub fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let fields: Fields<'_> = body::fields(bytes)?;
        refuse_unsupported(&fields)?;
        let harness = text("harness_id", fields.harness_id, MAX_HARNESS)?;
        if let Said::Text(harness) = &harness
            && !is_label(harness)
        {
            return Err(ApiError::bad_request(
                "harness_id: must be lower-case letters, digits and hyphens, with a letter or digit at either end",
            ));
        }
        let env_vars = fields.env_vars.filter(|raw| raw.get() != "null").map(EnvVars::read).transpose()?;
        let repo_url = text("repo_url", fields.repo_url, MAX_URL)?;
        if let Said::Text(url) = &repo_url {
            agent_equipment::check_url("repo_url", url)?;
        }
        Ok(Self {
            name: text("name", fields.name, MAX_NAME)?,
            model: text("model", fields.model, MAX_MODEL)?,
            prompt: text("prompt", fields.prompt, MAX_PROMPT)?,
            harness,
            branch: text("branch", fields.branch, MAX_BRANCH)?,
            picture: text("pfp_url", fields.pfp_url, MAX_PICTURE)?,
            repo_url,
            requirements: fields.requirements.map(agent_equipment::requirements).transpose()?,
            env_vars,
            mcp_servers: fields.mcp_servers.map(McpServers::read).transpose()?,
        })
    }

    /// A new agent with this name; what has secret values apart.
    ///
    /// # Errors
    /// `bad_request`: it has no model.
    pub fn new_agent(&self, name: &str) -> Result<Agent, ApiError> {
        if !matches!(self.model, Said::Text(_)) {
            return Err(ApiError::bad_request(
                "model: is required; give the name that the model gateway knows",
            ));
        }
        let spec = AgentSpec { harness: DEFAULT_HARNESS.to_owned(), ..AgentSpec::default() };
        let mut agent = Agent::new(name, spec);
        self.put_into(&mut agent);
        Ok(agent)
    }

    /// Checks that it can be made to an agent that exists.
    ///
    /// # Errors
    /// `bad_request`: it takes the model away.
    pub fn check_update(&self) -> Result<(), ApiError> {
        match self.model {
            Said::Cleared => Err(ApiError::bad_request("model: must not be empty")),
            Said::Nothing | Said::Text(_) => Ok(()),
        }
    }

    /// Makes the change to `agent`; what has secret values apart.
    pub fn put_into(&self, agent: &mut Agent) {
        let spec = &mut agent.spec;
        put(&self.name, &mut spec.display_name);
        put(&self.prompt, &mut spec.prompt);
        if let Said::Text(model) = &self.model {
            spec.model.clone_from(model);
        }
        match &self.harness {
            Said::Nothing => {}
            Said::Cleared => DEFAULT_HARNESS.clone_into(&mut spec.harness),
            Said::Text(harness) => spec.harness.clone_from(harness),
        }
        if let Some(requirements) = &self.requirements {
            spec.requirements.clone_from(requirements);
        }
        let annotations = &mut agent.metadata.annotations;
        for (key, said) in self.annotations() {
            match (said, annotations.as_mut()) {
                (Said::Nothing, _) | (Said::Cleared, None) => {}
                (Said::Cleared, Some(all)) => drop(all.remove(key)),
                (Said::Text(text), _) => {
                    annotations.get_or_insert_default().insert(key.to_owned(), text.clone());
                }
            }
        }
        self.put_repo_into(agent);
    }

    fn put_repo_into(&self, agent: &mut Agent) {
        let noted = agent.metadata.annotations.as_ref().and_then(|all| all.get(labels::BRANCH).cloned());
        let before = agent.spec.repo.take();
        let url = match (&self.repo_url, &before) {
            (Said::Cleared, _) | (Said::Nothing, None) => return,
            (Said::Text(url), _) => url.clone(),
            (Said::Nothing, Some(before)) => before.url.clone(),
        };
        let branch = match (&self.branch, &before) {
            (Said::Nothing, Some(before)) if before.url == url => before.branch.clone(),
            // What was said is in the annotation by now.
            _ => Some(noted.unwrap_or_else(|| DEFAULT_BRANCH.to_owned())),
        };
        agent.spec.repo = Some(agent_equipment::repo(&url, branch, before));
    }

    /// Whether anything is said that has secret values.
    pub fn has_values(&self) -> bool {
        self.env_vars.is_some() || self.mcp_servers.is_some()
    }

    /// Makes the rest of the change to `agent`, whose values are in `secret`; returns the values that must be put there for it.
    ///
    /// # Errors
    /// `bad_request`: a value is to be kept that is not there, or all are too large together.
    pub fn put_values_into(
        &self,
        agent: &mut Agent,
        secret: &str,
        stored: Option<&SlimSecret>,
    ) -> Result<Values, ApiError> {
        let spec = &mut agent.spec;
        let mut values = Values::default();
        if let Some(vars) = self.env_vars.clone() {
            let (env, new) = vars.applied_to(&spec.env, secret, stored)?;
            spec.env = env;
            values.extend(new);
        }
        if let Some(servers) = self.mcp_servers.clone() {
            let (servers, new) = servers.applied_to(&spec.mcp_servers, secret)?;
            spec.mcp_servers = servers;
            values.extend(new);
        }
        agent_equipment::put_credential(spec, secret);
        Ok(values)
    }

    fn annotations(&self) -> [(&'static str, &Said); 2] {
        [(labels::BRANCH, &self.branch), (labels::PICTURE, &self.picture)]
    }
}

fn put(said: &Said, field: &mut Option<String>) {
    match said {
        Said::Nothing => {}
        Said::Cleared => *field = None,
        Said::Text(text) => *field = Some(text.clone()),
    }
}

/// Fields whose content cannot be followed, and what to do instead.
fn unsupported<'a>(fields: &Fields<'a>) -> [(&'static str, Raw<'a>, &'static str); 7] {
    const EGRESS: &str = "Paddock does not restrict egress yet; use a NetworkPolicy";
    [
        ("tools", fields.tools, "agents have all tools of their harness"),
        (
            "skill_ids",
            fields.skill_ids,
            "there is no library of skills; put the instructions into the prompt, or skills into the Agent's spec.skills with kubectl",
        ),
        (
            "sandbox_files",
            fields.sandbox_files,
            "put the files into the repository, or into the Agent's spec.files with kubectl",
        ),
        ("projects", fields.projects, "projects cannot be attached"),
        ("allow_out", fields.allow_out, EGRESS),
        ("deny_out", fields.deny_out, EGRESS),
        ("env_var_hosts", fields.env_var_hosts, "a value cannot be bound to hosts yet"),
    ]
}

fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ApiError> {
    for (field, raw, instead) in unsupported(fields) {
        if raw.is_some_and(|raw| !body::is_empty(raw)) {
            return Err(ApiError::new(
                ErrorCode::Unsupported,
                format!("{field}: this version does not take this field; {instead}"),
            ));
        }
    }
    Ok(())
}

fn text(field: &str, raw: Raw<'_>, max: usize) -> Result<Said, ApiError> {
    let Some(raw) = raw else { return Ok(Said::Nothing) };
    if raw.get() == "null" {
        return Ok(Said::Cleared);
    }
    let text = body::string(field, raw)?;
    if text.chars().count() > max {
        return Err(ApiError::bad_request(format!("{field}: must have at most {max} characters")));
    }
    Ok(if text.is_empty() { Said::Cleared } else { Said::Text(text) })
}

#[cfg(test)]
mod tests {
    use paddock_api::merge::merge_diff;
    use serde_json::json;

    use super::*;

    fn read(body: &str) -> AgentChange {
        AgentChange::read(body.as_bytes()).unwrap()
    }

    fn refusal(body: &str) -> ApiError {
        AgentChange::read(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_change_says_nothing_of_what_it_does_not_name() {
        let before = read(
            r#"{"name":"n","model":"m","prompt":"p","branch":"b","pfp_url":"u","repo_url":"https://h/r","requirements":"x"}"#,
        );
        let before = before.new_agent("a").unwrap();
        for (body, change) in [
            ("{}", json!({})),
            (r#"{"prompt":"only","unknown":1}"#, json!({"spec": {"prompt": "only"}})),
            (r#"{"prompt":"p"}"#, json!({})),
            (
                r#"{"name":null,"prompt":"","harness_id":"codex","pfp_url":null}"#,
                json!({
                    "spec": {"displayName": null, "prompt": null, "harness": "codex"},
                    "metadata": {"annotations": {(labels::PICTURE): null}},
                }),
            ),
            (
                r#"{"branch":"c"}"#,
                json!({"spec": {"repo": {"branch": "c"}}, "metadata": {"annotations": {(labels::BRANCH): "c"}}}),
            ),
            (r#"{"repo_url":"https://h/s"}"#, json!({"spec": {"repo": {"url": "https://h/s"}}})),
            (
                r#"{"repo_url":null,"requirements":{"npm":["y"]}}"#,
                json!({"spec": {"repo": null, "requirements": {"pip": null, "npm": ["y"]}}}),
            ),
        ] {
            let mut changed = before.clone();
            read(body).put_into(&mut changed);
            assert_eq!(merge_diff(&before, &changed), change, "{body}");
        }
    }

    #[test]
    fn a_branch_is_that_of_the_repository_now_or_later() {
        let mut agent = read(r#"{"model":"m","branch":"b"}"#).new_agent("a").unwrap();
        let branch = |agent: &Agent| agent.spec.repo.as_ref().and_then(|repo| repo.branch.clone());
        assert_eq!(branch(&agent), None);
        read(r#"{"repo_url":"https://h/r"}"#).put_into(&mut agent);
        assert_eq!(branch(&agent).as_deref(), Some("b"));
        read(r#"{"branch":null}"#).put_into(&mut agent);
        assert_eq!(branch(&agent).as_deref(), Some("main"));
        // One that was made with kubectl for the default branch, whatever its name, stays so.
        agent.spec.repo.as_mut().unwrap().branch = None;
        read(r#"{"prompt":"p","repo_url":"https://h/r"}"#).put_into(&mut agent);
        assert_eq!(branch(&agent), None);
    }

    #[test]
    fn what_a_new_agent_lacks_is_as_the_contract_says() {
        let agent = read(r#"{"model":"m"}"#).new_agent("a").unwrap();
        assert_eq!((agent.spec.model.as_str(), agent.spec.harness.as_str()), ("m", "opencode"));
        assert_eq!((agent.spec.display_name, agent.spec.prompt), (None, None));
        assert_eq!(agent.metadata.annotations, None);
        for body in ["{}", r#"{"model":null}"#, r#"{"model":""}"#] {
            assert!(read(body).new_agent("a").unwrap_err().message.starts_with("model: "), "{body}");
        }
        assert!(read(r#"{"model":""}"#).check_update().is_err());
        assert!(read("{}").check_update().is_ok());
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (field, max) in [
            ("name", MAX_NAME),
            ("model", MAX_MODEL),
            ("prompt", MAX_PROMPT),
            ("harness_id", MAX_HARNESS),
            ("branch", MAX_BRANCH),
            ("pfp_url", MAX_PICTURE),
        ] {
            assert!(refusal(&json!({field: 5}).to_string()).message.starts_with(&format!("{field}: ")));
            read(&json!({field: "x".repeat(max)}).to_string());
            let long = refusal(&json!({field: "x".repeat(max + 1)}).to_string());
            assert_eq!(long.message, format!("{field}: must have at most {max} characters"));
        }
        for harness in ["-a", "a-", "A", "a_b", "a b"] {
            assert!(refusal(&json!({"harness_id": harness}).to_string()).message.starts_with("harness_id: "));
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_unless_it_is_empty() {
        for (field, ..) in unsupported(&serde_json::from_str("{}").unwrap()) {
            for full in [json!(["x"]), json!({"A": ["h"]}), json!("x")] {
                let error = refusal(&json!({"model": "m", field: full}).to_string());
                assert_eq!(error.code, ErrorCode::Unsupported);
                assert!(error.message.starts_with(&format!("{field}: ")), "{}", error.message);
            }
            for empty in [json!([]), json!({}), json!(""), json!(null)] {
                read(&json!({field: empty}).to_string());
            }
        }
    }
}
