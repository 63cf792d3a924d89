//! What an agent's model may not do.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything is allowed but this: the sandbox is what holds the model, and what it may reach is for network policies and the
/// pod's own rights to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// Tools that the model is not offered, or that refuse what fits a pattern.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub deny: Vec<DeniedTool>,
}

impl Permissions {
    /// Whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        self.deny.is_empty()
    }
}

/// A tool that the model may not use, or not for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.pattern) || self.tool == 'Shell'").message("pattern is for tool: Shell only; leave it out to deny the whole tool"))]
pub struct DeniedTool {
    /// The tool.
    pub tool: Tool,
    /// Commands that the shell refuses, as `git push *`; `*` stands for anything. All of the tool when absent. A guard against
    /// mistakes, not against a model that wants to: a shell has many words for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[^\r\n()]+$"))]
    pub pattern: Option<String>,
}

/// The tools that harnesses have in common, whatever each calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tool {
    /// Runs commands.
    Shell,
    /// Writes files.
    Edit,
    /// Reads and finds files.
    Read,
    /// Gets pages of the web.
    Fetch,
    /// Searches the web.
    Search,
}
