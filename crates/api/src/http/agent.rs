//! Agents as clients see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::{Agent, McpServer, Requirements};
use crate::labels::{BRANCH, PICTURE};

/// What stands in place of a value that must not be read back.
pub const MASKED: &str = "***";
/// Harnesses whose agents are used through a terminal, and take no messages. A client must know before a session exists.
const TERMINAL_HARNESSES: [&str; 3] = ["terminal", "claude-code", "codex"];

/// The branch of an agent for which none is given.
pub const DEFAULT_BRANCH: &str = "main";

/// Whether agents of this harness are used through a terminal.
pub fn is_terminal_harness(harness: &str) -> bool {
    TERMINAL_HARNESSES.contains(&harness)
}

/// A saved agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiAgent {
    /// The Agent object's name.
    pub id: String,
    /// The name people see.
    pub name: String,
    /// Model name.
    pub model: String,
    /// Instructions added to the harness's own.
    pub prompt: Option<String>,
    /// The harness.
    pub harness_id: String,
    /// Whether its sessions have a terminal.
    pub supports_tui: bool,
    /// Repository to work on.
    pub repo_url: Option<String>,
    /// Branch of the repository.
    pub branch: String,
    /// Picture.
    pub pfp_url: Option<String>,
    /// MCP servers, with masked values.
    pub mcp_servers: Vec<ApiMcpServer>,
    /// Packages that are installed when a session starts.
    pub requirements: ApiRequirements,
    /// Names of environment variables, with masked values.
    pub env_vars: BTreeMap<String, String>,
    /// Where a credential may be sent.
    pub env_var_hosts: BTreeMap<String, Vec<String>>,
    /// Skills.
    pub attached_skill_ids: Vec<String>,
    /// Hosts that may be reached.
    pub allow_out: Vec<String>,
    /// Hosts that may not be reached.
    pub deny_out: Vec<String>,
    /// Projects.
    pub projects: Vec<Value>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl ApiAgent {
    /// What clients see of `agent`.
    pub fn new(agent: &Agent) -> Self {
        let id = agent.metadata.name.clone().unwrap_or_default();
        Self {
            name: agent.spec.display_name.clone().unwrap_or_else(|| id.clone()),
            model: agent.spec.model.clone(),
            prompt: agent.spec.prompt.clone(),
            harness_id: agent.spec.harness.clone(),
            supports_tui: is_terminal_harness(&agent.spec.harness),
            repo_url: agent.spec.repo.as_ref().map(|repo| repo.url.clone()),
            branch: branch(agent).unwrap_or_else(|| DEFAULT_BRANCH.to_owned()),
            pfp_url: note(agent, PICTURE),
            mcp_servers: agent.spec.mcp_servers.iter().map(ApiMcpServer::masked).collect(),
            requirements: ApiRequirements::from(agent.spec.requirements.clone()),
            env_vars: agent.spec.env.iter().map(|e| (e.name.clone(), MASKED.to_owned())).collect(),
            env_var_hosts: BTreeMap::new(),
            attached_skill_ids: Vec::new(),
            allow_out: Vec::new(),
            deny_out: Vec::new(),
            projects: Vec::new(),
            created_at: agent.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            id,
        }
    }
}

/// An MCP server whose tools the model is offered: one to connect to, with `url`, or a program in the sandbox, with `command`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApiMcpServer {
    /// Its name, which its tools' names begin with.
    pub name: String,
    /// Where it listens (streamable HTTP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers of each request. Values are secrets and never shown again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The program and its arguments; it is spoken to through its standard input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Its environment beyond the agent's. Values are secrets and never shown again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl ApiMcpServer {
    fn masked(server: &McpServer) -> Self {
        let mask = |name: &String| (name.clone(), MASKED.to_owned());
        let mut shown = Self { name: server.name.clone(), ..Self::default() };
        if let Some(http) = &server.http {
            shown.url = Some(http.url.clone());
            shown.headers = http.headers.iter().map(|header| mask(&header.name)).collect();
        }
        if let Some(stdio) = &server.stdio {
            shown.command = Some(stdio.command.clone());
            shown.env = stdio.env.iter().map(|variable| mask(&variable.name)).collect();
        }
        shown
    }
}

/// Packages for the agent's shells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApiRequirements {
    /// As `pip install` takes them.
    pub pip: Vec<String>,
    /// As `npm install` takes them.
    pub npm: Vec<String>,
}

impl From<Requirements> for ApiRequirements {
    fn from(Requirements { pip, npm }: Requirements) -> Self {
        Self { pip, npm }
    }
}

/// The branch that was given: of its repository, or for one that it has not got yet.
fn branch(agent: &Agent) -> Option<String> {
    let of_repo = agent.spec.repo.as_ref().and_then(|repo| repo.branch.clone());
    of_repo.or_else(|| note(agent, BRANCH))
}

fn note(agent: &Agent, key: &str) -> Option<String> {
    agent.metadata.annotations.as_ref()?.get(key).cloned()
}

/// An agent in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiAgentEntry {
    /// The agent.
    #[serde(flatten)]
    pub agent: ApiAgent,
    /// How many sessions it has, ended ones included.
    pub session_count: usize,
    /// Whether one of them is creating or ready.
    pub has_active_session: bool,
}

/// A page of agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApiAgentList {
    /// The page.
    pub data: Vec<ApiAgentEntry>,
    /// How many match in all.
    pub total: usize,
    /// How many fit on a page.
    pub limit: usize,
    /// How many were skipped.
    pub offset: usize,
}
