//! Giving the server its session: what goes into `POST /session`, and what each message says of the agent.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use paddock_runnerapi::{ActivateRequest, EnvVar, McpServer, McpTransport, TextFile};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::RwLock;
use tokio::time::timeout;

use super::Http;
use crate::config::ModelName;
use crate::harness::HarnessError;

const ATTEMPT: &str = "open a conversation";
/// A server may connect to MCP servers first.
const LIMIT: Duration = Duration::from_secs(60);
/// Who provides the agent's model, for servers that know several.
const PROVIDER: &str = "litellm";

/// What each message says of the agent.
pub(super) struct Model {
    /// Of the template, in place of the agent's.
    fixed: Option<ModelName>,
    bound: RwLock<(ModelName, Option<String>)>,
}

impl Model {
    pub(super) fn new(fixed: Option<ModelName>) -> Self {
        Self { fixed, bound: RwLock::default() }
    }

    /// Model and prompt of the session.
    pub(super) async fn of_session(&self) -> (ModelName, Option<String>) {
        self.bound.read().await.clone()
    }

    async fn bind(&self, request: &ActivateRequest) {
        let of_agent = || ModelName { provider: PROVIDER.to_owned(), model: request.agent.model.clone() };
        let model = self.fixed.clone().unwrap_or_else(of_agent);
        *self.bound.write().await = (model, request.agent.prompt.clone());
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Opened {
    One(Created),
    // Some servers answer with a list.
    Several([Created; 1]),
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

impl Http {
    pub(super) async fn bind(&self, request: &ActivateRequest) -> Result<(), HarnessError> {
        if let Some(shell_env) = &self.shell_env {
            let prepare = |source| HarnessError::Prepare { what: "shell environment", source };
            shell_env.write(&request.agent.env).map_err(prepare)?;
        }
        self.model.bind(request).await;
        self.proxy.bind(&request.agent.model);
        Ok(())
    }

    /// Opens a conversation whose server writes these files.
    pub(super) async fn open_with(
        &self,
        request: &ActivateRequest,
        files: &[TextFile],
    ) -> Result<String, HarnessError> {
        self.bind(request).await?;
        let files = if self.features.files { files } else { &[] };
        let body = self.session(request, files);
        let asked = self.client.ask(ATTEMPT, Method::POST, "/session", Some(&body));
        let late = |_| HarnessError::Unusable { attempt: ATTEMPT, what: "it did not come within a minute" };
        let opened: Opened = timeout(LIMIT, asked).await.map_err(late)??;
        let (Opened::One(Created { id }) | Opened::Several([Created { id }])) = opened;
        if !is_segment(&id) {
            let what = "the conversation's id cannot be a part of a path";
            return Err(HarnessError::Unusable { attempt: ATTEMPT, what });
        }
        Ok(id)
    }

    fn session(&self, request: &ActivateRequest, files: &[TextFile]) -> Value {
        let agent = &request.agent;
        let files = files.iter().map(|file| {
            let path = self.workspace.join(&file.path);
            json!({"sandbox_path": path, "content": STANDARD.encode(&file.content)})
        });
        let servers = agent.equipment.mcp_servers.iter().filter_map(|server| match &server.transport {
            McpTransport::Http { url, headers } => Some(json!({
                "name": server.name,
                "url": url,
                "transport": "http",
                "headers": headers.iter().map(|EnvVar { name, value }| (name.clone(), json!(value))).collect::<Map<_, _>>(),
            })),
            McpTransport::Stdio { .. } => None,
        });
        json!({
            "title": request.title,
            "prompt": agent.prompt.as_deref().unwrap_or_default(),
            "files": files.collect::<Vec<_>>(),
            "mcp_servers": servers.collect::<Vec<_>>(),
        })
    }
}

/// The wire knows MCP servers by their URL only.
pub(super) fn check_mcp(servers: &[McpServer]) -> Result<(), HarnessError> {
    let program = servers.iter().find(|server| matches!(server.transport, McpTransport::Stdio { .. }));
    match program {
        None => Ok(()),
        Some(server) => Err(HarnessError::Mcp {
            name: server.name.clone(),
            said: "it is a program, and the session's harness takes servers with a URL only".to_owned(),
        }),
    }
}

/// As clients may name it in a path.
fn is_segment(id: &str) -> bool {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
    !id.is_empty() && id.bytes().all(safe) && !matches!(id, "." | "..")
}
