//! Anthropic messages, as the Claude Agent SDK and Claude Code speak them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{WARM_MODEL, WARM_TEXT, Warm, WarmUp, warm_arguments};

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    /// A text, or blocks.
    content: Value,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
}

/// Claude's shell tool.
const SHELL: &str = "Bash";

impl Message {
    /// The user's own, not what a tool has returned.
    fn is_users(&self) -> bool {
        let mut blocks = self.content.as_array().into_iter().flatten();
        self.role == "user" && !blocks.any(|block| block["type"] == "tool_result")
    }
}

/// Nothing where the request cannot be read.
pub(super) fn warm_up(body: &[u8]) -> Option<Warm> {
    let asked: Asked = serde_json::from_slice(body).ok()?;
    let is_new = asked.messages.last().is_some_and(Message::is_users);
    let has_shell = asked.tools.iter().any(|tool| tool.name == SHELL);
    let says = if is_new && has_shell { WarmUp::Call } else { WarmUp::Text };
    Some(if asked.stream { Warm::Stream(stream(says)) } else { Warm::Document(document(says)) })
}

fn stop_reason(says: WarmUp) -> &'static str {
    match says {
        WarmUp::Call => "tool_use",
        WarmUp::Text => "end_turn",
    }
}

/// The one block of an answer, and what a stream says of it after its beginning.
fn block(says: WarmUp) -> (Value, Value) {
    match says {
        WarmUp::Call => (
            json!({"type": "tool_use", "id": "toolu_warm", "name": SHELL, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": warm_arguments().to_string()}),
        ),
        WarmUp::Text => {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": WARM_TEXT}))
        }
    }
}

fn envelope(content: &Value, stop_reason: Option<&str>) -> Value {
    json!({
        "id": "msg_warm",
        "type": "message",
        "role": "assistant",
        "model": WARM_MODEL,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    })
}

fn document(says: WarmUp) -> Value {
    let (mut block, _) = block(says);
    match says {
        WarmUp::Call => block["input"] = warm_arguments(),
        WarmUp::Text => block["text"] = json!(WARM_TEXT),
    }
    envelope(&json!([block]), Some(stop_reason(says)))
}

fn stream(says: WarmUp) -> String {
    let (block, delta) = block(says);
    let stop = json!({"stop_reason": stop_reason(says), "stop_sequence": null});
    let events = [
        json!({"type": "message_start", "message": envelope(&json!([]), None)}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}}),
        json!({"type": "message_stop"}),
    ];
    let named = |event: &Value| {
        let name = event["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {event}\n\n")
    };
    events.iter().map(named).collect()
}
