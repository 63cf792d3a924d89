//! An activation with all that it refers to, on its way to a runner.

use paddock_api::agent::{self, EnvVar as ApiVar};
use paddock_core::op::{Activation, SecretEnv};
use paddock_runnerapi::{
    ActivateRequest, Denial, EnvVar, Equipment, GitCredential, McpServer, McpTransport, Repo, Requirements,
    Skill, TextFile, Tool,
};

use crate::references::{References, Trouble};

/// The user name beside a token. Hosts that take tokens look at the token alone.
const TOKEN_USER: &str = "x-access-token";

/// The whole request of `activation`. Nothing is read for a session that refers to nothing.
pub(crate) async fn request(
    client: &kube::Client,
    activation: &Activation,
) -> Result<ActivateRequest, Trouble> {
    let mut request = activation.request.clone();
    let namespace = &activation.request.session.namespace;
    let mut references = References::new(client, namespace, activation.absent);
    for wanted in &activation.secret_env {
        let SecretEnv { name, secret, key } = wanted;
        let what = format!("variable {name}");
        if let Some(value) = references.first_secret_text(&what, secret, &[key]).await? {
            request.agent.env.push(EnvVar { name: name.clone(), value });
        }
    }
    if let Some(equipment) = &activation.equipment {
        request.agent.equipment = whole(equipment, &mut references).await?;
    }
    Ok(request)
}

async fn whole(of: &agent::Equipment, references: &mut References<'_>) -> Result<Equipment, Trouble> {
    let agent::Requirements { pip, npm } = of.requirements.clone();
    let denied = of.permissions.deny.iter().map(denial).collect();
    let mut equipment = Equipment { requirements: Requirements { pip, npm }, denied, ..Equipment::default() };
    if let Some(of) = &of.repo {
        equipment.repo = Some(repo(of, references).await?);
    }
    for of in &of.files {
        let content = match &of.config_map_key_ref {
            None => of.content.clone().unwrap_or_default(),
            Some(at) => {
                let what = format!("file {}", of.path);
                references.config_map_text(&what, &at.name, &at.key).await?
            }
        };
        equipment.files.push(TextFile { path: of.path.clone(), content });
    }
    for of in &of.skills {
        equipment.skills.push(skill(of, references).await?);
    }
    for of in &of.mcp_servers {
        equipment.mcp_servers.push(mcp_server(of, references).await?);
    }
    Ok(equipment)
}

fn denial(of: &agent::DeniedTool) -> Denial {
    let tool = match of.tool {
        agent::Tool::Shell => Tool::Shell,
        agent::Tool::Edit => Tool::Edit,
        agent::Tool::Read => Tool::Read,
        agent::Tool::Fetch => Tool::Fetch,
        agent::Tool::Search => Tool::Search,
    };
    Denial { tool, pattern: of.pattern.clone() }
}

async fn repo(of: &agent::Repo, references: &mut References<'_>) -> Result<Repo, Trouble> {
    let credential = match &of.credential_secret_ref {
        None => None,
        Some(at) => credential(at, references).await?,
    };
    Ok(Repo { url: of.url.clone(), branch: of.branch.clone(), credential, full_history: of.full_history })
}

async fn credential(
    at: &agent::CredentialSecretRef,
    references: &mut References<'_>,
) -> Result<Option<GitCredential>, Trouble> {
    let what = "the credential of the repository";
    let keys = match &at.key {
        Some(key) => vec![key.as_str()],
        None => vec!["password", "token"],
    };
    let Some(password) = references.first_secret_text(what, &at.name, &keys).await? else { return Ok(None) };
    let username = references.any_secret_text(what, &at.name, "username").await?;
    let username = username.as_deref().unwrap_or(TOKEN_USER);
    Ok(Some(GitCredential { username: line(what, username)?, password: line(what, &password)? }))
}

async fn skill(of: &agent::Skill, references: &mut References<'_>) -> Result<Skill, Trouble> {
    const MAIN: &str = "SKILL.md";
    let files = match &of.config_map_ref {
        None => {
            of.files.iter().map(|f| TextFile { path: f.path.clone(), content: f.content.clone() }).collect()
        }
        Some(at) => {
            let what = format!("skill {}", of.name);
            let texts = references.config_map_texts(&what, &at.name).await?;
            if !texts.contains_key(MAIN) {
                return Err(format!("{what}: ConfigMap {:?} has no key {MAIN:?}; add it", at.name));
            }
            texts.into_iter().map(|(path, content)| TextFile { path, content }).collect()
        }
    };
    Ok(Skill { name: of.name.clone(), files })
}

async fn mcp_server(of: &agent::McpServer, references: &mut References<'_>) -> Result<McpServer, Trouble> {
    let name = of.name.clone();
    let transport = match (&of.http, &of.stdio) {
        (Some(http), _) => {
            let mut headers = Vec::new();
            for header in &http.headers {
                let what = format!("header {} of MCP server {name}", header.name);
                let value = match &header.value_from {
                    None => header.value.clone(),
                    Some(from) => references.secret_text(&what, &from.secret_key_ref).await?,
                };
                if let Some(value) = value {
                    headers.push(EnvVar { name: header.name.clone(), value: line(&what, &value)? });
                }
            }
            McpTransport::Http { url: http.url.clone(), headers }
        }
        (None, Some(stdio)) => {
            let mut env = Vec::new();
            for variable in &stdio.env {
                env.extend(mcp_variable(&name, variable, references).await?);
            }
            McpTransport::Stdio { command: stdio.command.clone(), env }
        }
        (None, None) => return Err(format!("MCP server {name}: has neither http nor stdio; give one")),
    };
    Ok(McpServer { name, transport })
}

async fn mcp_variable(
    server: &str,
    of: &ApiVar,
    references: &mut References<'_>,
) -> Result<Option<EnvVar>, Trouble> {
    let value = match of.secret() {
        None => Some(of.value.clone()),
        Some(at) => {
            let what = format!("variable {} of MCP server {server}", of.name);
            references.secret_text(&what, at).await?
        }
    };
    Ok(value.map(|value| EnvVar { name: of.name.clone(), value }))
}

/// `text` without the line end that a file has and a credential has not.
fn line(what: &str, text: &str) -> Result<String, Trouble> {
    let line = text.trim_end_matches(['\r', '\n']);
    if line.contains(['\r', '\n']) {
        return Err(format!("{what}: has several lines, which it cannot have; store one line"));
    }
    Ok(line.to_owned())
}
