//! Claude Code: settings, MCP servers and prompt in files of ours, named on its command line; and in its home only the marks
//! of questions that were answered.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use paddock_runnerapi::{AgentBinding, Denial, EnvVar, McpServer, McpTransport};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::profile::{Place, Profile, SetUp};
use crate::harness::claude_rules;
use crate::harness::home::write_private;
use crate::harness::shell_env::object;
use crate::model_proxy::ModelProxy;

/// See the module.
pub(super) struct ClaudeCode;

impl Profile for ClaudeCode {
    fn name(&self) -> &'static str {
        "claude-code"
    }

    fn program(&self) -> &'static str {
        "claude"
    }

    fn skills(&self, place: &Place) -> PathBuf {
        place.home.join(".claude/skills")
    }

    fn denies_tools(&self) -> bool {
        true
    }

    fn set_up(&self, place: &Place, agent: &AgentBinding, proxy: &ModelProxy) -> io::Result<SetUp> {
        answer_questions(&place.home.join(".claude.json"), &place.workspace)?;
        let mut args = Vec::new();
        let mut give = |flag: &str, file: &str, content: &str| {
            let path = place.own.join(file);
            write_private(&path, content)?;
            args.extend([OsString::from(flag), path.into()]);
            io::Result::Ok(())
        };
        give("--settings", "settings.json", &settings(&agent.equipment.denied).to_string())?;
        give("--mcp-config", "mcp.json", &mcp(&agent.equipment.mcp_servers, &agent.env).to_string())?;
        if let Some(prompt) = &agent.prompt {
            give("--append-system-prompt-file", "prompt.md", prompt)?;
        }
        // Servers that a repository names would have to be approved by somebody first.
        args.push("--strict-mcp-config".into());
        let env = [
            ("ANTHROPIC_BASE_URL", proxy.anthropic_base_url()),
            ("ANTHROPIC_AUTH_TOKEN", proxy.token().reveal()),
            // What it shows; the endpoint asks for this one whatever it says.
            ("ANTHROPIC_MODEL", &agent.model),
            // No updates, no reports: it talks to the endpoint only.
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            // A request to the model, only to name the window.
            ("CLAUDE_CODE_DISABLE_TERMINAL_TITLE", "1"),
            // It was put into the image, not installed in the home.
            ("DISABLE_INSTALLATION_CHECKS", "1"),
            // Without it root may not do without permissions; some images know no other user.
            ("IS_SANDBOX", "1"),
        ];
        Ok(SetUp { args, env: env.map(|(name, value)| (name.into(), value.into())).into() })
    }

    fn go_on(&self, place: &Place) -> Vec<OsString> {
        // Where there is none it would end at once.
        if has_conversation(place) { vec!["--continue".into()] } else { Vec::new() }
    }
}

/// Whether the model has said something in the workspace: a record may hold no more than what the program itself said.
fn has_conversation(place: &Place) -> bool {
    let workspace = fs::canonicalize(&place.workspace).unwrap_or_else(|_| place.workspace.clone());
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let folder: String = workspace.to_string_lossy().chars().map(plain).collect();
    let records = fs::read_dir(place.home.join(".claude/projects").join(folder));
    records.into_iter().flatten().flatten().any(|record| {
        let is_record = record.path().extension().is_some_and(|extension| extension == "jsonl");
        let lines = fs::File::open(record.path()).map(|file| BufReader::new(file).lines());
        is_record && lines.is_ok_and(|lines| lines.map_while(Result::ok).any(|line| is_said(&line)))
    })
}

fn is_said(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
    }
    serde_json::from_str::<Entry<'_>>(line).is_ok_and(|entry| entry.kind == "assistant")
}

/// The pod is the sandbox: nothing else is in it, and tools that ask would wait for a person who may have left.
fn settings(denied: &[Denial]) -> Value {
    json!({
        "permissions": {"defaultMode": "bypassPermissions", "deny": claude_rules::of(denied)},
        "skipDangerousModePermissionPrompt": true,
    })
}

/// Marks the questions of a first start as answered, and leaves the rest of the file: the home may be an old one.
fn answer_questions(path: &Path, workspace: &Path) -> io::Result<()> {
    let known = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut known: Map<String, Value> = known.unwrap_or_default();
    known.insert("hasCompletedOnboarding".into(), true.into());
    let mut projects = taken(&mut known, "projects");
    let workspace = workspace.to_string_lossy();
    let mut project = taken(&mut projects, &workspace);
    for answered in ["hasTrustDialogAccepted", "hasCompletedProjectOnboarding"] {
        project.insert(answered.into(), true.into());
    }
    projects.insert(workspace.into(), project.into());
    known.insert("projects".into(), projects.into());
    write_private(path, &Value::Object(known).to_string())
}

/// The object of this name, or an empty one.
fn taken(object: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match object.remove(name) {
        Some(Value::Object(found)) => found,
        _ => Map::new(),
    }
}

fn mcp(servers: &[McpServer], agent_env: &[EnvVar]) -> Value {
    let named = servers.iter().map(|server| (server.name.clone(), transport(&server.transport, agent_env)));
    json!({"mcpServers": Map::from_iter(named)})
}

/// Programs are given its own environment, and so the agent's: where that is not said again, `${NAME}` in it stays what it is.
fn transport(transport: &McpTransport, agent_env: &[EnvVar]) -> Value {
    match transport {
        McpTransport::Http { url, headers } => {
            json!({"type": "http", "url": url, "headers": object(headers)})
        }
        McpTransport::Stdio { command, env } => {
            let (program, args) = command.split_first().map_or(("", &[][..]), |(p, args)| (p.as_str(), args));
            let own = env.iter().filter(|variable| !agent_env.contains(variable));
            json!({"type": "stdio", "command": program, "args": args, "env": object(own)})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_only_where_something_was_said() {
        let dir = std::env::temp_dir().join(format!("paddock-claude-go-on-{}", std::process::id()));
        let workspace = dir.join("a_work.space");
        fs::create_dir_all(&workspace).unwrap();
        let folder = fs::canonicalize(&workspace).unwrap().to_string_lossy().replace(['/', '_', '.'], "-");
        let records = dir.join(".claude/projects").join(folder);
        let place = Place { home: dir.clone(), workspace, own: dir.clone() };
        assert!(ClaudeCode.go_on(&place).is_empty());
        fs::create_dir_all(records.join("memory")).unwrap();
        let system = r#"{"type":"system","content":"{\"type\":\"assistant\"}"}"#;
        fs::write(records.join("1.jsonl"), system).unwrap();
        fs::write(records.join("2.txt"), r#"{"type":"assistant"}"#).unwrap();
        assert!(ClaudeCode.go_on(&place).is_empty());
        fs::write(records.join("3.jsonl"), format!("{system}\n{{\"type\":\"assistant\"}}\n")).unwrap();
        assert_eq!(ClaudeCode.go_on(&place), ["--continue"]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn servers_are_told_of_no_environment_but_their_own() {
        let pair = |name: &str, value: &str| EnvVar { name: name.into(), value: value.into() };
        let agents = [pair("A", "agent's"), pair("B", "${HOME}")];
        let env = [&agents[..], &[pair("A", "own"), pair("C", "c")]].concat();
        let transport = McpTransport::Stdio { command: vec!["npx".into(), "it".into()], env };
        let told = mcp(&[McpServer { name: "near".into(), transport }], &agents);
        assert_eq!(
            told["mcpServers"]["near"],
            json!({"type": "stdio", "command": "npx", "args": ["it"], "env": {"A": "own", "C": "c"}})
        );
    }

    #[test]
    fn questions_are_answered_whatever_the_home_has_already() {
        let dir = std::env::temp_dir().join(format!("paddock-claude-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(".claude.json");
        let answered = json!({"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true});
        for (found, kept) in [
            (None, json!({})),
            (Some("not JSON"), json!({})),
            (Some("[]"), json!({})),
            (Some(r#"{"projects":7}"#), json!({})),
            (
                Some(r#"{"theme":"light","projects":{"/x":{"a":1}}}"#),
                json!({"theme": "light", "projects": {"/x": {"a": 1}}}),
            ),
        ] {
            let _ = fs::remove_file(&path);
            if let Some(found) = found {
                fs::write(&path, found).unwrap();
            }
            answer_questions(&path, Path::new("/workspace")).unwrap();
            let left: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let mut expected = kept;
            expected["hasCompletedOnboarding"] = true.into();
            expected["projects"]["/workspace"] = answered.clone();
            assert_eq!(left, expected, "{found:?}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
