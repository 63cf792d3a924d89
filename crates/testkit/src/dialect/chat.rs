//! OpenAI chat completions.

use serde_json::{Value, json};

use super::{Frame, Meta, Pace, data};
use crate::conversation::{Conversation, Tool, text_of};
use crate::reply::{Content, Reply};

pub(super) fn read(body: &Value) -> Conversation {
    let mut conversation = Conversation::default();
    for message in body["messages"].as_array().into_iter().flatten() {
        let text = text_of(&message["content"]);
        match message["role"].as_str() {
            Some("system" | "developer") => conversation.system(&text),
            Some("user") => conversation.user_content(&message["content"]),
            Some("tool") => conversation.tool_outputs.push(text),
            _ => {}
        }
    }
    conversation.tools = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            let function = &tool["function"];
            let name = function["name"].as_str()?.to_owned();
            Some(Tool { name, schema: function["parameters"].clone() })
        })
        .collect();
    conversation
}

fn usage(reply: &Reply, meta: &Meta<'_>) -> Value {
    let (input, output) = (meta.input_tokens(), reply.tokens());
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn finish(reply: &Reply) -> &'static str {
    match reply.content {
        Content::Text(_) => "stop",
        Content::Call { .. } => "tool_calls",
    }
}

pub(super) fn document(reply: &Reply, meta: &Meta<'_>) -> Value {
    let mut message = json!({"role": "assistant"});
    match &reply.content {
        Content::Text(_) => message["content"] = json!(reply.text()),
        Content::Call { name, arguments } => {
            message["content"] = Value::Null;
            let function = json!({"name": name, "arguments": arguments.to_string()});
            message["tool_calls"] = json!([{"id": meta.call_id(), "type": "function", "function": function}]);
        }
    }
    if let Some(thinking) = &reply.thinking {
        message["reasoning_content"] = json!(thinking);
    }
    json!({
        "id": format!("chatcmpl-{}", meta.order),
        "object": "chat.completion",
        "created": 0,
        "model": meta.asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish(reply)}],
        "usage": usage(reply, meta),
    })
}

pub(super) fn stream(reply: &Reply, meta: &Meta<'_>) -> Vec<Frame> {
    let chunk = |choices: Value| {
        json!({
            "id": format!("chatcmpl-{}", meta.order),
            "object": "chat.completion.chunk",
            "created": 0,
            "model": meta.asked.model,
            "choices": choices,
        })
    };
    let delta = |delta: Value, finish: Option<&str>, pace| {
        data(&chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}])), pace)
    };
    let mut frames = vec![delta(json!({"role": "assistant", "content": ""}), None, Pace::Immediate)];
    if let Some(thinking) = &reply.thinking {
        frames.push(delta(json!({"reasoning_content": thinking}), None, Pace::Immediate));
    }
    match &reply.content {
        Content::Text(pieces) => {
            frames.extend(pieces.iter().map(|piece| delta(json!({"content": piece}), None, Pace::Paused)));
        }
        Content::Call { name, arguments } => {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            let call = json!({"index": 0, "id": meta.call_id(), "type": "function", "function": function});
            frames.push(delta(json!({"tool_calls": [call]}), None, Pace::Paused));
        }
    }
    frames.push(delta(json!({}), Some(finish(reply)), Pace::Immediate));
    let mut last = chunk(json!([]));
    last["usage"] = usage(reply, meta);
    frames.push(data(&last, Pace::Immediate));
    frames.push(Frame { text: "data: [DONE]\n\n".to_owned(), pace: Pace::Immediate });
    frames
}
