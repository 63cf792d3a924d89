//! OpenAI chat completions, as opencode speaks them.

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
}

#[derive(Deserialize)]
struct Tool {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
}

/// opencode's shell tool.
const SHELL: &str = "bash";

/// Nothing where the request cannot be read.
pub(super) fn warm_up(body: &[u8]) -> Option<Warm> {
    let asked: Asked = serde_json::from_slice(body).ok()?;
    let is_new = asked.messages.last().is_some_and(|last| last.role == "user");
    let has_shell = asked.tools.iter().any(|tool| tool.function.name == SHELL);
    let says = if is_new && has_shell { WarmUp::Call } else { WarmUp::Text };
    let (message, finish) = match says {
        WarmUp::Call => (call(), "tool_calls"),
        WarmUp::Text => (json!({"role": "assistant", "content": WARM_TEXT}), "stop"),
    };
    Some(if asked.stream {
        Warm::Stream(stream(&message, finish))
    } else {
        let choice = json!({"index": 0, "message": message, "finish_reason": finish});
        Warm::Document(envelope("chat.completion", &json!([choice])))
    })
}

fn call() -> Value {
    let function = json!({"name": SHELL, "arguments": warm_arguments().to_string()});
    json!({"role": "assistant", "content": null, "tool_calls": [
        {"index": 0, "id": "call_warm", "type": "function", "function": function}
    ]})
}

fn envelope(object: &str, choices: &Value) -> Value {
    json!({
        "id": "chatcmpl-warm",
        "object": object,
        "created": 0,
        "model": WARM_MODEL,
        "choices": choices,
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    })
}

fn stream(message: &Value, finish: &str) -> String {
    let chunk = |delta: &Value, finish: Option<&str>| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        format!("data: {}\n\n", envelope("chat.completion.chunk", &choices))
    };
    format!("{}{}data: [DONE]\n\n", chunk(message, None), chunk(&json!({}), Some(finish)))
}
