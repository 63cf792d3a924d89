//! Agents as clients see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::labels::{BRANCH, PICTURE};

/// What stands in place of a value that must not be read back.
pub const MASKED: &str = "***";
/// Harnesses whose agents are used through a terminal, and take no messages. A client must know before a session exists.
const TERMINAL_HARNESSES: [&str; 3] = ["terminal", "claude-code", "codex"];

/// The branch of an agent for which none is given.
const DEFAULT_BRANCH: &str = "main";

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
    /// MCP servers.
    pub mcp_servers: Vec<String>,
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
            repo_url: None,
            branch: note(agent, BRANCH).unwrap_or_else(|| DEFAULT_BRANCH.to_owned()),
            pfp_url: note(agent, PICTURE),
            mcp_servers: Vec::new(),
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
