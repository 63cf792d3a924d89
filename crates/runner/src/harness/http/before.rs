//! What was said in earlier conversations of the session. The wire cannot put messages into a conversation, so they are told as
//! text before the next message.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::harness::home::write_private;

const BEGIN: &str = "<previous_session_history>\n";
const END: &str = "</previous_session_history>\n\n";
/// How much of what a tool was given, or gave, is told.
const LONGEST_OF_TOOL: usize = 2000;

/// The text, until it has been told. On the disk: the container may restart before.
pub(super) struct Before {
    path: PathBuf,
}

impl Before {
    /// In this folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join("before.txt") }
    }

    /// Keeps these messages, in the wire's form, until they are told.
    pub(super) fn keep(&self, messages: &[Box<RawValue>]) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        write_private(&partial, &told(messages))?;
        fs::rename(&partial, &self.path)
    }

    /// What is still to be told.
    pub(super) fn text(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// It has been told.
    pub(super) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn told(messages: &[Box<RawValue>]) -> String {
    let mut text = BEGIN.to_owned();
    for message in messages {
        let Ok(message) = serde_json::from_str::<Value>(message.get()) else { continue };
        let role = message["info"]["role"].as_str().unwrap_or("somebody");
        for part in message["parts"].as_array().into_iter().flatten() {
            let said = match part["type"].as_str() {
                Some("text") => without_before(part["text"].as_str().unwrap_or_default()).to_owned(),
                Some("tool") => tool(part),
                Some("file" | "image") => "(an attachment)".to_owned(),
                _ => continue,
            };
            if !said.trim().is_empty() {
                // What was said cannot end the history.
                text.push_str(&format!("{role}: {}\n\n", said.replace(END.trim(), "")));
            }
        }
    }
    text + END
}

fn tool(part: &Value) -> String {
    let state = &part["state"];
    let name = part["tool"].as_str().unwrap_or("a tool");
    let input = state["input"].to_string();
    let output = state["output"].as_str().or(state["error"].as_str()).unwrap_or_default();
    format!("(ran {name} with {}: {})", cut(&input), cut(output))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_OF_TOOL)]
}

/// What a person said, without what was told before it.
fn without_before(text: &str) -> &str {
    match text.strip_prefix(BEGIN).and_then(|rest| rest.split_once(END.trim_end())) {
        Some((_, said)) => said.trim_start_matches('\n'),
        None => text,
    }
}

/// Messages as the people of the session know them.
pub(super) fn taken_out_of_each(messages: Vec<Box<RawValue>>) -> Vec<Box<RawValue>> {
    messages.into_iter().map(|message| changed(&message).unwrap_or(message)).collect()
}

/// As [`taken_out_of_each`], for a conversation as the server tells it.
pub(super) fn taken_out_of(history: Bytes) -> Bytes {
    let messages: Option<Vec<Box<RawValue>>> = serde_json::from_slice(&history).ok();
    let shown = messages.and_then(|messages| serde_json::to_vec(&taken_out_of_each(messages)).ok());
    shown.map_or(history, Bytes::from)
}

fn changed(message: &RawValue) -> Option<Box<RawValue>> {
    // Told in one piece, and rarely there.
    if !message.get().contains(BEGIN.trim_end()) {
        return None;
    }
    let mut message: Value = serde_json::from_str(message.get()).ok()?;
    let parts = message.get_mut("parts")?.as_array_mut()?;
    for part in parts.iter_mut() {
        if let Some(text) = part["text"].as_str() {
            part["text"] = without_before(text).into();
        }
    }
    parts.retain(|part| part["type"] != "text" || part["text"] != "");
    to_raw_value(&message).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(role: &str, parts: &Value) -> Box<RawValue> {
        to_raw_value(&json!({"info": {"id": "m", "role": role}, "parts": parts})).unwrap()
    }

    #[test]
    fn messages_are_told_as_text_and_only_once() {
        let tool =
            json!({"type": "tool", "tool": "bash", "state": {"input": {"command": "ls"}, "output": "a\n"}});
        let said = [
            message("user", &json!([{"type": "text", "text": "list it </previous_session_history>"}])),
            message(
                "assistant",
                &json!([{"type": "reasoning", "text": "hm"}, tool, {"type": "text", "text": "done"}]),
            ),
        ];
        let text = told(&said);
        let expected = "<previous_session_history>\nuser: list it \n\nassistant: (ran bash with {\"command\":\"ls\"}: a\n)\n\n\
                        assistant: done\n\n</previous_session_history>\n\n";
        assert_eq!(text, expected);
        // Servers may join the parts of a message.
        for parts in [
            json!([{"type": "text", "text": text}, {"type": "text", "text": "next"}]),
            json!([{"type": "text", "text": format!("{text}\nnext")}]),
            json!([{"type": "text", "text": format!("{}\nnext", text.trim_end())}]),
        ] {
            let shown = taken_out_of(Bytes::from(format!("[{}]", message("user", &parts).get())));
            let shown: Value = serde_json::from_slice(&shown).unwrap();
            assert_eq!(shown[0]["parts"], json!([{"type": "text", "text": "next"}]), "{parts}");
            let again = told(&[message("user", &parts)]);
            assert_eq!(again, "<previous_session_history>\nuser: next\n\n</previous_session_history>\n\n");
        }
    }

    #[test]
    fn what_is_to_be_told_outlives_a_restart() {
        let folder = std::env::temp_dir().join(format!("paddock-before-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let before = Before::new(&folder);
        assert_eq!(before.text().unwrap(), None);
        before.keep(&[message("user", &json!([{"type": "text", "text": "hi"}]))]).unwrap();
        assert!(Before::new(&folder).text().unwrap().unwrap().contains("user: hi"));
        before.forget().unwrap();
        before.forget().unwrap();
        assert_eq!(before.text().unwrap(), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
