//! Codex: a profile of ours in its home, layered over whatever configuration is there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use paddock_runnerapi::{AgentBinding, EnvVar, McpServer, McpTransport};
use serde_json::{Map, Value, json};

use super::profile::{Place, Profile, SetUp, object};
use crate::harness::home::write_private;
use crate::model_proxy::ModelProxy;

/// The profile, and the provider in it.
const NAME: &str = "paddock";
/// Where Codex finds the endpoint's token. Its shells do not.
const TOKEN: &str = "PADDOCK_MODEL_TOKEN";
/// Codex knows nothing of the model. Rather too small than too large: it shortens the conversation when this is nearly full.
const CONTEXT_TOKENS: u32 = 128_000;

/// See the module.
pub(super) struct Codex;

impl Profile for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn program(&self) -> &'static str {
        "codex"
    }

    fn skills(&self, place: &Place) -> PathBuf {
        place.home.join(".codex/skills")
    }

    fn set_up(&self, place: &Place, agent: &AgentBinding, proxy: &ModelProxy) -> io::Result<SetUp> {
        let home = place.home.join(".codex");
        fs::create_dir_all(&home)?;
        let profile = profile(place, agent, proxy.base_url());
        let text = toml::to_string(&profile).map_err(io::Error::other)?;
        write_private(&home.join(format!("{NAME}.config.toml")), &text)?;
        let env = vec![
            ("CODEX_HOME".into(), home.into()),
            (TOKEN.into(), proxy.token().reveal().to_owned().into()),
        ];
        Ok(SetUp { args: vec!["--profile".into(), NAME.into()], env })
    }

    fn go_on(&self, _: &Place) -> Vec<OsString> {
        // Where there is none it begins one.
        vec!["resume".into(), "--last".into()]
    }
}

fn profile(place: &Place, agent: &AgentBinding, base_url: &str) -> Value {
    let mut profile = json!({
        "model": agent.model,
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
        "projects": {place.workspace.to_string_lossy(): {"trust_level": "trusted"}},
        // A login shell would set another PATH.
        "allow_login_shell": false,
        "shell_environment_policy": {"exclude": [TOKEN]},
        // Keys come over the network in lumps, and that does not make them pasted text, in which Enter is a line break.
        "disable_paste_burst": true,
        // No updates, no reports, nothing that needs an account at OpenAI. It still asks GitHub for news, once.
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
        "mcp_servers": mcp(&agent.equipment.mcp_servers, &agent.env),
    });
    if let Some(prompt) = &agent.prompt {
        profile["developer_instructions"] = json!(prompt);
    }
    profile
}

fn mcp(servers: &[McpServer], env: &[EnvVar]) -> Map<String, Value> {
    servers.iter().map(|server| (server.name.clone(), transport(&server.transport, env))).collect()
}

/// Programs are given next to nothing of its own environment.
fn transport(transport: &McpTransport, agent_env: &[EnvVar]) -> Value {
    match transport {
        McpTransport::Http { url, headers } => json!({"url": url, "http_headers": object(headers)}),
        McpTransport::Stdio { command, env } => {
            let (program, args) = command.split_first().map_or(("", &[][..]), |(p, args)| (p.as_str(), args));
            json!({"command": program, "args": args, "env": object(agent_env.iter().chain(env))})
        }
    }
}

#[cfg(test)]
mod tests {
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
        let stdio = McpTransport::Stdio { command, env: vec![pair("A", "own")] };
        let stdio = McpServer { name: "near".into(), transport: stdio };
        let servers = mcp(&[http, stdio], &[pair("A", "agent's"), pair("B", "b")]);
        let text = toml::to_string(&json!({"mcp_servers": servers})).unwrap();
        for line in [
            "[mcp_servers.\"far.off\"]",
            "url = \"https://tools.example/mcp?a=b\"",
            "[mcp_servers.\"far.off\".http_headers]",
            "[mcp_servers.near]",
            "command = \"npx\"",
            "args = [\"-y\", \"it\"]",
            "A = \"own\"",
            "B = \"b\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains('\u{7f}'), "{text}");
    }
}
