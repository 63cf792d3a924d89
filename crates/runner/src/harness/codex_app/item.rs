//! From what Codex says in a turn to parts in opencode's form.

use serde::Deserialize;
use serde_json::{Value, json};

/// One thing that was said or done.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) id: String,
    /// Milliseconds since 1970; missing in a notification, which has it beside.
    #[serde(default)]
    pub(super) started_at_ms: Option<u64>,
    #[serde(default)]
    pub(super) completed_at_ms: Option<u64>,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum What {
    UserMessage {
        #[serde(default)]
        client_id: Option<String>,
        content: Vec<Value>,
    },
    AgentMessage {
        text: String,
    },
    Reasoning {
        #[serde(default)]
        summary: Vec<String>,
        #[serde(default)]
        content: Vec<String>,
    },
    CommandExecution {
        command: String,
        status: Status,
        #[serde(default)]
        aggregated_output: Option<String>,
        #[serde(default)]
        exit_code: Option<i64>,
    },
    FileChange {
        changes: Vec<Change>,
        status: Status,
    },
    McpToolCall {
        server: String,
        tool: String,
        status: Status,
        arguments: Value,
        #[serde(default)]
        result: Option<Value>,
        #[serde(default)]
        error: Option<Value>,
    },
    WebSearch {
        query: String,
    },
    ImageView {
        path: String,
    },
    /// Nothing that a conversation is told of.
    #[serde(other)]
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Status {
    InProgress,
    Completed,
    #[serde(other)]
    Failed,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Change {
    path: String,
    diff: String,
}

/// A tool's call, as opencode tells it.
struct Call {
    tool: String,
    input: Value,
    title: String,
    /// What came of it; nothing while it runs.
    ended: Option<Result<String, String>>,
}

impl Item {
    /// The part's own fields, without the ids that a message gives it. `ended` is for items that never ended by themselves: their
    /// turn has.
    pub(super) fn part(&self, ended: bool) -> Option<Value> {
        let (start, end) = (self.started_at_ms, self.completed_at_ms);
        let time = if end.is_some() { json!({"start": start, "end": end}) } else { json!({"start": start}) };
        match &self.what {
            What::AgentMessage { text } => Some(json!({"type": "text", "text": text, "time": time})),
            What::Reasoning { summary, content } => {
                // Most models give away a summary only.
                let text = if summary.is_empty() { content } else { summary }.join("\n\n");
                Some(json!({"type": "reasoning", "text": text, "time": time}))
            }
            _ => {
                let mut call = self.call()?;
                if call.ended.is_none() && ended {
                    call.ended = Some(Err("Tool execution was interrupted".to_owned()));
                }
                let mut state =
                    json!({"input": call.input, "title": call.title, "metadata": {}, "time": time});
                match call.ended {
                    None => state["status"] = json!("running"),
                    Some(Ok(output)) => {
                        state["status"] = json!("completed");
                        state["output"] = json!(output);
                    }
                    Some(Err(error)) => {
                        state["status"] = json!("error");
                        state["error"] = json!(error);
                    }
                }
                Some(json!({"type": "tool", "callID": self.id, "tool": call.tool, "state": state}))
            }
        }
    }

    fn call(&self) -> Option<Call> {
        Some(match &self.what {
            What::CommandExecution { command, status, aggregated_output, exit_code } => {
                let command = script(command);
                let output = aggregated_output.clone().unwrap_or_default();
                let ended = match (status, exit_code) {
                    (Status::InProgress, _) => None,
                    // A command that fails is an answer too.
                    (Status::Completed, _) | (_, Some(_)) => Some(Ok(output)),
                    (Status::Failed, None) => Some(Err(output)),
                };
                let input = json!({"command": command});
                Call { tool: "bash".to_owned(), input, title: command, ended }
            }
            What::FileChange { changes, status } => {
                let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
                let files: Vec<Value> =
                    changes.iter().map(|change| json!({"path": change.path, "diff": change.diff})).collect();
                let ended = match status {
                    Status::InProgress => None,
                    Status::Completed => Some(Ok(paths.join("\n"))),
                    Status::Failed => Some(Err("The change was not applied".to_owned())),
                };
                let title = paths.join(", ");
                Call { tool: "apply_patch".to_owned(), input: json!({"changes": files}), title, ended }
            }
            What::McpToolCall { server, tool, status, arguments, result, error } => {
                let ended = match status {
                    Status::InProgress => None,
                    Status::Completed => Some(Ok(text_of(result.as_ref()))),
                    Status::Failed => {
                        let error = error.as_ref().and_then(|error| error["message"].as_str());
                        Some(Err(error.map_or_else(|| text_of(result.as_ref()), str::to_owned)))
                    }
                };
                let name = format!("{server}_{tool}");
                Call { tool: name.clone(), input: arguments.clone(), title: name, ended }
            }
            What::WebSearch { query } => {
                let ended = self.completed_at_ms.map(|_| Ok(String::new()));
                Call {
                    tool: "websearch".to_owned(),
                    input: json!({"query": query}),
                    title: query.clone(),
                    ended,
                }
            }
            What::ImageView { path } => {
                let ended = self.completed_at_ms.map(|_| Ok(String::new()));
                Call {
                    tool: "view_image".to_owned(),
                    input: json!({"path": path}),
                    title: path.clone(),
                    ended,
                }
            }
            What::UserMessage { .. } | What::AgentMessage { .. } | What::Reasoning { .. } | What::Other => {
                return None;
            }
        })
    }
}

/// What the model gave to the shell: Codex tells the whole command line.
fn script(command: &str) -> String {
    match shlex::split(command).as_deref() {
        Some([_, option, script]) if matches!(option.as_str(), "-c" | "-lc") => script.clone(),
        _ => command.to_owned(),
    }
}

/// The text of an MCP tool's result.
fn text_of(result: Option<&Value>) -> String {
    let content = result.and_then(|result| result["content"].as_array());
    let texts = content.into_iter().flatten().map(|block| match block["text"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("[{}]", block["type"].as_str().unwrap_or("unknown")),
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(item: Value, ended: bool) -> Option<Value> {
        serde_json::from_value::<Item>(item).unwrap().part(ended)
    }

    fn command(more: Value) -> Value {
        let mut item = json!({"type": "commandExecution", "id": "call_1", "startedAtMs": 1, "completedAtMs": 2,
            "command": "/bin/bash -c 'echo \"a b\" | cat'", "status": "completed", "aggregatedOutput": "a b\n", "exitCode": 0});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        item
    }

    #[test]
    fn a_command_is_a_call_of_bash_whatever_its_end() {
        let ran = part(command(json!({})), true).unwrap();
        assert_eq!((&ran["tool"], &ran["callID"]), (&json!("bash"), &json!("call_1")));
        let state = &ran["state"];
        assert_eq!(state["input"]["command"], "echo \"a b\" | cat");
        assert_eq!((&state["status"], &state["output"]), (&json!("completed"), &json!("a b\n")));
        assert_eq!(state["time"], json!({"start": 1, "end": 2}));
        let failed = part(command(json!({"status": "failed", "exitCode": 1})), true).unwrap();
        assert_eq!(failed["state"]["status"], "completed");
        let refused = part(command(json!({"status": "declined", "exitCode": null})), true).unwrap();
        assert_eq!(
            (&refused["state"]["status"], &refused["state"]["error"]),
            (&json!("error"), &json!("a b\n"))
        );
        let runs = command(json!({"status": "inProgress", "exitCode": null, "completedAtMs": null}));
        assert_eq!(part(runs.clone(), false).unwrap()["state"]["status"], "running");
        assert_eq!(part(runs, true).unwrap()["state"]["error"], "Tool execution was interrupted");
    }

    #[test]
    fn tools_and_files_are_told_by_name() {
        let called = json!({"type": "mcpToolCall", "id": "c", "server": "mine", "tool": "whoami", "status": "completed",
            "arguments": {"a": 1}, "result": {"content": [{"type": "text", "text": "me"}, {"type": "image"}]}});
        let called = part(called, true).unwrap();
        assert_eq!(
            (&called["tool"], &called["state"]["output"]),
            (&json!("mine_whoami"), &json!("me\n[image]"))
        );
        let failed = json!({"type": "mcpToolCall", "id": "c", "server": "mine", "tool": "whoami", "status": "failed",
            "arguments": {}, "error": {"message": "gone"}});
        assert_eq!(part(failed, true).unwrap()["state"]["error"], "gone");
        let change = json!({"path": "a.txt", "kind": {"type": "add"}, "diff": "x"});
        let changed = json!({"type": "fileChange", "id": "c", "status": "completed", "changes": [change]});
        let changed = part(changed, true).unwrap();
        assert_eq!((&changed["tool"], &changed["state"]["title"]), (&json!("apply_patch"), &json!("a.txt")));
    }

    #[test]
    fn text_and_thoughts_are_parts_and_what_codex_does_for_itself_is_none() {
        let text = part(json!({"type": "agentMessage", "id": "m", "text": "hi", "startedAtMs": 5}), false);
        assert_eq!(text.unwrap(), json!({"type": "text", "text": "hi", "time": {"start": 5}}));
        let thought =
            part(json!({"type": "reasoning", "id": "r", "summary": ["a", "b"], "content": ["raw"]}), true);
        assert_eq!(thought.unwrap()["text"], "a\n\nb");
        for kind in ["contextCompaction", "hookPrompt", "of a later version"] {
            assert_eq!(part(json!({"type": kind, "id": "x"}), true), None);
        }
    }
}
