//! What was said in earlier pods. Codex takes it into what the model sees, and into no history of its own: that is kept beside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::harness::home::write_private;

/// Where it is kept, below the home.
const FOLDER: &str = ".paddock/codex-app-server";

/// What was said in a thread before it was this pod's.
pub(super) struct Restored(PathBuf);

impl Restored {
    /// That of a thread.
    pub(super) fn of(home: &Path, thread: &str) -> Self {
        Self(home.join(FOLDER).join(format!("{thread}.json")))
    }

    /// The messages, in opencode's form.
    pub(super) fn read(&self) -> io::Result<Vec<Value>> {
        match fs::read(&self.0) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Keeps them.
    pub(super) fn write(&self, messages: &[Value]) -> io::Result<()> {
        let partial = self.0.with_extension("partial");
        if let Some(folder) = partial.parent() {
            fs::create_dir_all(folder)?;
        }
        write_private(&partial, &json!(messages).to_string())?;
        fs::rename(&partial, &self.0)
    }
}

/// The messages as those of this conversation.
pub(super) fn taken_over(
    messages: &[Box<RawValue>],
    conversation: &str,
) -> Result<Vec<Value>, serde_json::Error> {
    let own = |raw: &RawValue| {
        let mut message: Value = serde_json::from_str(raw.get())?;
        message["info"]["sessionID"] = json!(conversation);
        for part in message["parts"].as_array_mut().into_iter().flatten() {
            part["sessionID"] = json!(conversation);
        }
        Ok(message)
    };
    messages.iter().map(|raw| own(raw)).collect()
}

/// The same as items of OpenAI's Responses API.
pub(super) fn items(messages: &[Value]) -> Vec<Value> {
    let mut items = Vec::new();
    for message in messages {
        let parts = message["parts"].as_array().into_iter().flatten();
        if message["info"]["role"] == "user" {
            let content: Vec<Value> = parts.filter_map(input).collect();
            if !content.is_empty() {
                items.push(json!({"type": "message", "role": "user", "content": content}));
            }
            continue;
        }
        for part in parts {
            match part["type"].as_str() {
                Some("text") => {
                    let content = json!([{"type": "output_text", "text": part["text"]}]);
                    items.push(json!({"type": "message", "role": "assistant", "content": content}));
                }
                Some("tool") => items.extend(call(part, items.len())),
                _ => {}
            }
        }
    }
    items
}

fn input(part: &Value) -> Option<Value> {
    match part["type"].as_str()? {
        "text" => Some(json!({"type": "input_text", "text": part["text"]})),
        "file" => {
            let url = part["url"].as_str().filter(|url| url.starts_with("data:image/"));
            Some(match url {
                Some(url) => json!({"type": "input_image", "image_url": url}),
                None => {
                    json!({"type": "input_text", "text": format!("[{}]", part["filename"].as_str().unwrap_or("file"))})
                }
            })
        }
        _ => None,
    }
}

/// A tool's call and what came of it. `number` tells it from others.
fn call(part: &Value, number: usize) -> [Value; 2] {
    let state = &part["state"];
    let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let name = part["tool"].as_str().unwrap_or("tool").replace(|character| !is_of_a_name(character), "_");
    let output = state["output"].as_str().or(state["error"].as_str()).unwrap_or("It was interrupted");
    let id = format!("call_before_{number}");
    let arguments = state["input"].to_string();
    [
        json!({"type": "function_call", "name": name, "arguments": arguments, "call_id": id}),
        json!({"type": "function_call_output", "call_id": id, "output": output}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_becomes_what_the_model_is_shown() {
        let messages = json!([
            {"info": {"role": "user"}, "parts": [
                {"type": "text", "text": "look"}, {"type": "file", "url": "data:image/png;base64,AA", "mime": "image/png"},
                {"type": "file", "url": "data:text/plain;base64,AA", "filename": "a.txt"}]},
            {"info": {"role": "assistant"}, "parts": [
                {"type": "step-start"}, {"type": "reasoning", "text": "hm"},
                {"type": "tool", "tool": "my.tool", "state": {"status": "completed", "input": {"a": 1}, "output": "x"}},
                {"type": "tool", "tool": "bash", "state": {"status": "error", "input": {}, "error": "gone"}},
                {"type": "text", "text": "seen"}]},
            {"info": {"role": "user"}, "parts": []},
        ]);
        let expected = json!([
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "data:image/png;base64,AA"},
                {"type": "input_text", "text": "[a.txt]"}]},
            {"type": "function_call", "name": "my_tool", "arguments": "{\"a\":1}", "call_id": "call_before_1"},
            {"type": "function_call_output", "call_id": "call_before_1", "output": "x"},
            {"type": "function_call", "name": "bash", "arguments": "{}", "call_id": "call_before_3"},
            {"type": "function_call_output", "call_id": "call_before_3", "output": "gone"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "seen"}]},
        ]);
        assert_eq!(json!(items(messages.as_array().unwrap())), expected);
    }
}
