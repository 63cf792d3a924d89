//! What a session's workspace and harness are equipped with when the pod is activated.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::EnvVar;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Equipment {
    /// Cloned into the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<Repo>,
    /// Written into the workspace after the clone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<TextFile>,
    /// Folders with a `SKILL.md`, where the harness looks for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<Skill>,
    /// Offered to the model as tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServer>,
    /// Installed for the agent's shells.
    #[serde(skip_serializing_if = "Requirements::is_empty")]
    pub requirements: Requirements,
    /// What the model may not do; all else it may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denial>,
}

impl Equipment {
    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repo {
    /// `https://`, `http://` or `file://`, without user and password.
    pub url: String,
    /// Branch or tag; absent, the remote's default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// For clone, fetch and push, where the repository is not public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<GitCredential>,
    /// All of the history is cloned, not the newest commit alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full_history: bool,
}

/// What a git host is shown over HTTP. Its password is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCredential {
    /// User name; hosts that take tokens ignore it.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl fmt::Debug for GitCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitCredential").field("username", &self.username).field("password", &"***").finish()
    }
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFile {
    /// Relative to the folder it is for; it does not lead out of it.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// A skill: knowledge that the harness reads when it needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Name of its folder.
    pub name: String,
    /// Its files, `SKILL.md` among them.
    pub files: Vec<TextFile>,
}

/// A server of the Model Context Protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct McpServer {
    /// Its name, which tools' names begin with.
    pub name: String,
    /// How it is reached.
    #[serde(flatten)]
    pub transport: McpTransport,
}

/// See [`McpServer::transport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum McpTransport {
    /// Streamable HTTP.
    Http {
        /// Where it listens.
        url: String,
        /// Headers of each request. Their values may be secrets.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<EnvVar>,
    },
    /// A program in the pod that is spoken to through its standard input and output.
    Stdio {
        /// The program and its arguments.
        command: Vec<String>,
        /// Its environment beyond the agent's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        env: Vec<EnvVar>,
    },
}

/// Packages for the agent's shells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirements {
    /// As `pip install` takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pip: Vec<String>,
    /// As `npm install` takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub npm: Vec<String>,
}

impl Requirements {
    /// Whether nothing is to be installed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A tool that the model may not use, or not for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The tool.
    pub tool: Tool,
    /// Of [`Tool::Shell`]: the commands; `*` stands for anything. Absent, all of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// What harnesses have in common, whatever each calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
