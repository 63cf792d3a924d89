//! The model of warm-up turns: it calls the shell tool once, so that this path is warm too, and then says
//! one word.

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Body, answer as respond, failure};

/// The prompt of a warm-up turn.
pub const WARM_TOOL_PROMPT: &str = "warm-up";

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

/// Answers a request by itself.
pub(super) fn answer(body: &[u8]) -> Response<Body> {
    let Ok(asked) = serde_json::from_slice::<Asked>(body) else {
        return failure(StatusCode::BAD_REQUEST, "bad_request", "the request is not a chat completion");
    };
    let is_new = asked.messages.last().is_some_and(|last| last.role == "user");
    let has_shell = asked.tools.iter().any(|tool| tool.function.name == "bash");
    let (message, finish) = if is_new && has_shell { (call(), "tool_calls") } else { (text(), "stop") };
    if asked.stream {
        respond(StatusCode::OK, "text/event-stream", stream(&message, finish))
    } else {
        let choice = json!({"index": 0, "message": message, "finish_reason": finish});
        let document = envelope("chat.completion", &json!([choice]));
        respond(StatusCode::OK, "application/json", document.to_string())
    }
}

fn text() -> Value {
    json!({"role": "assistant", "content": "ready"})
}

fn call() -> Value {
    let arguments = json!({"command": "true", "description": "Warm-up"}).to_string();
    let function = json!({"name": "bash", "arguments": arguments});
    json!({"role": "assistant", "content": null, "tool_calls": [
        {"index": 0, "id": "call_warm", "type": "function", "function": function}
    ]})
}

fn envelope(object: &str, choices: &Value) -> Value {
    json!({
        "id": "chatcmpl-warm",
        "object": object,
        "created": 0,
        "model": "warm-up",
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
