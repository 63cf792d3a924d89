//! Anthropic messages.

use serde_json::{Value, json};

use super::{Frame, Meta, Pace, named};
use crate::conversation::{Conversation, Tool, text_of};
use crate::reply::{Content, Reply};

pub(super) fn read(body: &Value) -> Conversation {
    let mut conversation = Conversation::default();
    conversation.system(&text_of(&body["system"]));
    for message in body["messages"].as_array().into_iter().flatten() {
        if message["role"] != "user" {
            continue;
        }
        let results = message["content"].as_array().into_iter().flatten();
        // A message with tool results goes on with the turn; text beside them is the harness's.
        let outputs: Vec<String> = results
            .filter(|block| block["type"] == "tool_result")
            .map(|block| text_of(&block["content"]))
            .collect();
        if outputs.is_empty() {
            conversation.user_content(&message["content"]);
        }
        conversation.tool_outputs.extend(outputs);
    }
    conversation.tools = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            Some(Tool { name: tool["name"].as_str()?.to_owned(), schema: tool["input_schema"].clone() })
        })
        .collect();
    conversation
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply.content {
        Content::Text(_) => "end_turn",
        Content::Call { .. } => "tool_use",
    }
}

fn blocks(reply: &Reply, meta: &Meta<'_>) -> Vec<Value> {
    let mut blocks = Vec::new();
    if let Some(thinking) = &reply.thinking {
        blocks.push(json!({"type": "thinking", "thinking": thinking, "signature": "scripted"}));
    }
    blocks.push(match &reply.content {
        Content::Text(_) => json!({"type": "text", "text": reply.text()}),
        Content::Call { name, arguments } => {
            json!({"type": "tool_use", "id": format!("toolu_{}", meta.order), "name": name, "input": arguments})
        }
    });
    blocks
}

fn envelope(content: &[Value], stop: Option<&str>, output: usize, meta: &Meta<'_>) -> Value {
    json!({
        "id": format!("msg_{}", meta.order),
        "type": "message",
        "role": "assistant",
        "model": meta.asked.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": null,
        "usage": {
            "input_tokens": meta.input_tokens(),
            "output_tokens": output,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    })
}

pub(super) fn document(reply: &Reply, meta: &Meta<'_>) -> Value {
    envelope(&blocks(reply, meta), Some(stop_reason(reply)), reply.tokens(), meta)
}

pub(super) fn stream(reply: &Reply, meta: &Meta<'_>) -> Vec<Frame> {
    let started = json!({"type": "message_start", "message": envelope(&[], None, 1, meta)});
    let mut frames = vec![named(&started, Pace::Immediate)];
    for (index, block) in blocks(reply, meta).iter().enumerate() {
        let mut empty = block.clone();
        let mut deltas = Vec::new();
        match block["type"].as_str() {
            Some("thinking") => {
                empty["thinking"] = json!("");
                empty["signature"] = json!("");
                deltas.push((
                    json!({"type": "thinking_delta", "thinking": block["thinking"]}),
                    Pace::Immediate,
                ));
                let signature = json!({"type": "signature_delta", "signature": block["signature"]});
                deltas.push((signature, Pace::Immediate));
            }
            Some("tool_use") => {
                empty["input"] = json!({});
                let partial = json!({"type": "input_json_delta", "partial_json": block["input"].to_string()});
                deltas.push((partial, Pace::Paused));
            }
            _ => {
                empty["text"] = json!("");
                if let Content::Text(pieces) = &reply.content {
                    deltas.extend(
                        pieces.iter().map(|p| (json!({"type": "text_delta", "text": p}), Pace::Paused)),
                    );
                }
            }
        }
        let start = json!({"type": "content_block_start", "index": index, "content_block": empty});
        frames.push(named(&start, Pace::Immediate));
        frames.extend(deltas.into_iter().map(|(delta, pace)| {
            named(&json!({"type": "content_block_delta", "index": index, "delta": delta}), pace)
        }));
        frames.push(named(&json!({"type": "content_block_stop", "index": index}), Pace::Immediate));
    }
    let delta = json!({"stop_reason": stop_reason(reply), "stop_sequence": null});
    let usage = json!({"output_tokens": reply.tokens()});
    frames.push(named(&json!({"type": "message_delta", "delta": delta, "usage": usage}), Pace::Immediate));
    frames.push(named(&json!({"type": "message_stop"}), Pace::Immediate));
    frames
}

pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}
