//! OpenAI responses.

use serde_json::{Value, json};

use super::{Frame, Meta, Pace, named};
use crate::conversation::{Conversation, Tool, text_of};
use crate::reply::{Content, Reply};

pub(super) fn read(body: &Value) -> Conversation {
    let mut conversation = Conversation::default();
    conversation.system(body["instructions"].as_str().unwrap_or_default());
    if let Some(text) = body["input"].as_str() {
        conversation.user(text);
    }
    for item in body["input"].as_array().into_iter().flatten() {
        match (item["type"].as_str(), item["role"].as_str()) {
            (Some("function_call_output"), _) => {
                let output = &item["output"];
                conversation
                    .tool_outputs
                    .push(output.as_str().map_or_else(|| text_of(output), str::to_owned));
            }
            (_, Some("system" | "developer")) => conversation.system(&text_of(&item["content"])),
            (_, Some("user")) => conversation.user_content(&item["content"]),
            _ => {}
        }
    }
    conversation.tools = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            Some(Tool { name: tool["name"].as_str()?.to_owned(), schema: tool["parameters"].clone() })
        })
        .collect();
    conversation
}

fn items(reply: &Reply, meta: &Meta<'_>) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(thinking) = &reply.thinking {
        let summary = json!([{"type": "summary_text", "text": thinking}]);
        items.push(json!({"type": "reasoning", "id": format!("rs_{}", meta.order), "summary": summary}));
    }
    items.push(match &reply.content {
        Content::Text(_) => json!({
            "type": "message",
            "id": format!("msg_{}", meta.order),
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": reply.text(), "annotations": []}],
        }),
        Content::Call { name, arguments } => json!({
            "type": "function_call",
            "id": format!("fc_{}", meta.order),
            "call_id": meta.call_id(),
            "name": name,
            "arguments": arguments.to_string(),
            "status": "completed",
        }),
    });
    items
}

fn envelope(status: &str, output: &[Value], meta: &Meta<'_>) -> Value {
    json!({
        "id": format!("resp_{}", meta.order),
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": meta.asked.model,
        "output": output,
        "error": null,
        "incomplete_details": null,
        "usage": null,
    })
}

pub(super) fn document(reply: &Reply, meta: &Meta<'_>) -> Value {
    let (input, output) = (meta.input_tokens(), reply.tokens());
    let mut document = envelope("completed", &items(reply, meta), meta);
    document["usage"] = json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    });
    document
}

/// The deltas of one item: (event, fields), between its `added` and `done`.
fn deltas(item: &Value, reply: &Reply) -> Vec<(Value, Pace)> {
    let id = &item["id"];
    match item["type"].as_str() {
        Some("reasoning") => {
            let text = &item["summary"][0]["text"];
            let empty = json!({"type": "summary_text", "text": ""});
            vec![
                (
                    json!({"type": "response.reasoning_summary_part.added", "item_id": id, "summary_index": 0, "part": empty}),
                    Pace::Immediate,
                ),
                (
                    json!({"type": "response.reasoning_summary_text.delta", "item_id": id, "summary_index": 0, "delta": text}),
                    Pace::Immediate,
                ),
                (
                    json!({"type": "response.reasoning_summary_text.done", "item_id": id, "summary_index": 0, "text": text}),
                    Pace::Immediate,
                ),
                (
                    json!({"type": "response.reasoning_summary_part.done", "item_id": id, "summary_index": 0, "part": item["summary"][0]}),
                    Pace::Immediate,
                ),
            ]
        }
        Some("function_call") => vec![
            (
                json!({"type": "response.function_call_arguments.delta", "item_id": id, "delta": item["arguments"]}),
                Pace::Paused,
            ),
            (
                json!({"type": "response.function_call_arguments.done", "item_id": id, "arguments": item["arguments"]}),
                Pace::Immediate,
            ),
        ],
        _ => {
            let empty = json!({"type": "output_text", "text": "", "annotations": []});
            let mut events = vec![(
                json!({"type": "response.content_part.added", "item_id": id, "content_index": 0, "part": empty}),
                Pace::Immediate,
            )];
            if let Content::Text(pieces) = &reply.content {
                events.extend(pieces.iter().map(|piece| {
                    (json!({"type": "response.output_text.delta", "item_id": id, "content_index": 0, "delta": piece}), Pace::Paused)
                }));
            }
            let part = &item["content"][0];
            events.push((
                json!({"type": "response.output_text.done", "item_id": id, "content_index": 0, "text": part["text"]}),
                Pace::Immediate,
            ));
            events.push((
                json!({"type": "response.content_part.done", "item_id": id, "content_index": 0, "part": part}),
                Pace::Immediate,
            ));
            events
        }
    }
}

/// The item as it is announced, before its content.
fn announced(item: &Value) -> Value {
    let mut item = item.clone();
    match item["type"].as_str() {
        Some("reasoning") => item["summary"] = json!([]),
        Some("function_call") => {
            item["arguments"] = json!("");
            item["status"] = json!("in_progress");
        }
        _ => {
            item["content"] = json!([]);
            item["status"] = json!("in_progress");
        }
    }
    item
}

pub(super) fn stream(reply: &Reply, meta: &Meta<'_>) -> Vec<Frame> {
    let mut events = Vec::new();
    let started = envelope("in_progress", &[], meta);
    events.push((json!({"type": "response.created", "response": started}), Pace::Immediate));
    events.push((json!({"type": "response.in_progress", "response": started}), Pace::Immediate));
    for (index, item) in items(reply, meta).iter().enumerate() {
        let added =
            json!({"type": "response.output_item.added", "output_index": index, "item": announced(item)});
        events.push((added, Pace::Immediate));
        events.extend(deltas(item, reply).into_iter().map(|(mut event, pace)| {
            event["output_index"] = json!(index);
            (event, pace)
        }));
        let done = json!({"type": "response.output_item.done", "output_index": index, "item": item});
        events.push((done, Pace::Immediate));
    }
    events.push((json!({"type": "response.completed", "response": document(reply, meta)}), Pace::Immediate));
    events
        .into_iter()
        .enumerate()
        .map(|(number, (mut event, pace))| {
            event["sequence_number"] = json!(number);
            named(&event, pace)
        })
        .collect()
}
