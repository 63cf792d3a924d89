//! What Codex is told of a session, whichever way it is used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use paddock_runnerapi::{AgentBinding, McpServer, McpTransport};
use serde_json::{Map, Value, json};

use super::shell_env::object;

/// The provider in its configuration, and the name of files of ours.
pub(super) const NAME: &str = "paddock";
/// Where Codex finds the endpoint's token. Its shells do not.
pub(super) const TOKEN: &str = "PADDOCK_MODEL_TOKEN";
/// Codex knows nothing of the model. Rather too small than too large: it shortens the conversation when this is nearly full.
const CONTEXT_TOKENS: u32 = 128_000;
/// Without a person to ask, Codex refuses commands that it takes for dangerous (`rm -rf`), whatever the sandbox. These are allowed.
const RULES: &str = r#"prefix_rule(pattern=["rm"], decision="allow")
prefix_rule(pattern=["sudo"], decision="allow")
"#;

/// Codex's own folder in this home.
pub(super) fn folder(home: &Path) -> PathBuf {
    home.join(".codex")
}

/// Where it looks for skills.
pub(super) fn skills(home: &Path) -> PathBuf {
    folder(home).join("skills")
}

/// Makes its folder, with what holds for every session. It is read when Codex starts.
///
/// # Errors
/// A file cannot be written.
pub(super) fn prepare(home: &Path) -> io::Result<()> {
    let rules = folder(home).join("rules");
    fs::create_dir_all(&rules)?;
    fs::write(rules.join(format!("{NAME}.rules")), RULES)
}

/// The part of its configuration that holds whoever the agent is: no updates, no reports, nothing that needs an account at OpenAI.
/// In a terminal it still asks GitHub for news, once.
pub(super) fn quiet() -> Value {
    json!({
        "check_for_update_on_startup": false,
        "analytics": {"enabled": false},
        "features": {
            "apps": false,
            "plugins": false,
            // It would outlive the program, with a token that ends with the runner.
            "daemon_auto_start": false,
            // The endpoint reads what it is asked.
            "enable_request_compression": false,
        },
    })
}

/// Its configuration, whoever the agent is.
pub(super) fn common(workspace: &Path, base_url: &str) -> Value {
    let mut config = json!({
        "model_provider": NAME,
        "model_context_window": CONTEXT_TOKENS,
        "model_providers": {NAME: {
            "name": "Paddock",
            "base_url": base_url,
            "wire_api": "responses",
            "env_key": TOKEN,
        }},
        // The pod is the sandbox: nothing else is in it, and tools that ask would wait for a person who may have left.
        "approval_policy": "never",
        "sandbox_mode": "danger-full-access",
        "projects": {workspace.to_string_lossy(): {"trust_level": "trusted"}},
        // A login shell would set another PATH.
        "allow_login_shell": false,
        "shell_environment_policy": {"exclude": [TOKEN]},
    });
    if let (Some(config), Value::Object(quiet)) = (config.as_object_mut(), quiet()) {
        config.extend(quiet);
    }
    config
}

/// Its configuration for an agent.
pub(super) fn config(workspace: &Path, agent: &AgentBinding, base_url: &str) -> Value {
    let mut config = common(workspace, base_url);
    config["model"] = json!(agent.model);
    config["mcp_servers"] = json!(mcp(&agent.equipment.mcp_servers));
    if let Some(prompt) = &agent.prompt {
        config["developer_instructions"] = json!(prompt);
    }
    config
}

fn mcp(servers: &[McpServer]) -> Map<String, Value> {
    servers.iter().map(|server| (server.name.clone(), transport(&server.transport))).collect()
}

fn transport(transport: &McpTransport) -> Value {
    match transport {
        McpTransport::Http { url, headers } => json!({"url": url, "http_headers": object(headers)}),
        McpTransport::Stdio { command, env } => {
            let (program, args) = command.split_first().map_or(("", &[][..]), |(p, args)| (p.as_str(), args));
            json!({"command": program, "args": args, "env": object(env)})
        }
    }
}

#[cfg(test)]
mod tests {
    use paddock_runnerapi::EnvVar;

    use super::*;

    fn pair(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), value: value.into() }
    }

    #[test]
    fn servers_are_written_as_codex_reads_them() {
        let url = "https://tools.example/mcp?a=b".to_owned();
        let headers = vec![pair("Authorization", "Bearer \"x\"\n\u{7f}")];
        let http = McpServer { name: "far.off".into(), transport: McpTransport::Http { url, headers } };
        let command = ["npx", "-y", "it"].map(str::to_owned).to_vec();
        let stdio = McpTransport::Stdio { command, env: vec![pair("A", "agent's"), pair("A", "own")] };
        let stdio = McpServer { name: "near".into(), transport: stdio };
        let servers = mcp(&[http, stdio]);
        let text = toml::to_string(&json!({"mcp_servers": servers})).unwrap();
        for line in [
            "[mcp_servers.\"far.off\"]",
            "url = \"https://tools.example/mcp?a=b\"",
            "[mcp_servers.\"far.off\".http_headers]",
            "[mcp_servers.near]",
            "command = \"npx\"",
            "args = [\"-y\", \"it\"]",
            "A = \"own\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains('\u{7f}'), "{text}");
    }
}
