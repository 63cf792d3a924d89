//! A model request in words that all dialects share.

use serde_json::Value;

/// A tool that the harness offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// The name to call it by.
    pub name: String,
    /// JSON schema of its arguments.
    pub schema: Value,
}

impl Tool {
    /// Whether the tool takes an argument of this name.
    pub fn takes(&self, argument: &str) -> bool {
        self.schema.pointer("/properties").and_then(|p| p.get(argument)).is_some()
    }
}

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The model's name as the client wrote it.
    pub model: String,
    /// All system text.
    pub system: String,
    /// The text of the last message that a person wrote, without what harnesses append.
    pub last_user_text: String,
    /// What people had written before that, oldest first.
    pub earlier_user_texts: Vec<String>,
    /// Images that people have sent, as data URLs, oldest first.
    pub images: Vec<String>,
    /// What harnesses appended to what people wrote, such as the instructions of a repository.
    pub notes: String,
    /// Outputs of the tools called since that message, in order.
    pub tool_outputs: Vec<String>,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// Whether the answer shall be a stream.
    pub stream: bool,
    /// Size of the request in characters; the usage numbers are made of it.
    pub size: usize,
}

impl Conversation {
    /// Adds a message of the user: a new question, so earlier tool outputs no longer count.
    pub fn user(&mut self, text: &str) {
        let (text, notes) = split_reminders(text);
        self.notes.push_str(&notes);
        if text.trim().is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.last_user_text, text.trim().to_owned());
        self.earlier_user_texts.extend(Some(before).filter(|text| !text.is_empty()));
        self.tool_outputs.clear();
    }

    /// Adds a message of the user with all that it holds; see [`Self::user`].
    pub fn user_content(&mut self, content: &Value) {
        self.images.extend(content.as_array().into_iter().flatten().filter_map(image_of));
        self.user(&text_of(content));
    }

    /// Adds system text.
    pub fn system(&mut self, text: &str) {
        if !self.system.is_empty() {
            self.system.push('\n');
        }
        self.system.push_str(text);
    }
}

/// Text of a `content` that is either a string or a list of blocks with `text`.
pub fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<&str> =
                blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// The data URL of a block that is an image, in any of the dialects.
fn image_of(block: &Value) -> Option<String> {
    let source = &block["source"];
    match block["type"].as_str()? {
        "image_url" => Some(block["image_url"]["url"].as_str()?.to_owned()),
        "input_image" => Some(block["image_url"].as_str()?.to_owned()),
        "image" => {
            Some(format!("data:{};base64,{}", source["media_type"].as_str()?, source["data"].as_str()?))
        }
        _ => None,
    }
}

/// A user's message without what harnesses put between these tags, and what that was.
fn split_reminders(text: &str) -> (String, String) {
    const OPEN: &str = "<system-reminder>";
    const CLOSE: &str = "</system-reminder>";
    let mut rest = text;
    let (mut out, mut notes) = (String::new(), String::new());
    while let Some((before, after)) = rest.split_once(OPEN) {
        out.push_str(before);
        let (note, next) = after.split_once(CLOSE).unwrap_or((after, ""));
        notes.push_str(note);
        rest = next;
    }
    out.push_str(rest);
    (out, notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_harnesses_append_is_not_the_users_text() {
        let mut conversation = Conversation::default();
        conversation.user("!say a\n<system-reminder>\n!say b\n</system-reminder>\nend");
        assert_eq!(conversation.last_user_text, "!say a\n\nend");
        conversation.user("<system-reminder>only this</system-reminder>");
        assert_eq!(conversation.last_user_text, "!say a\n\nend");
        assert_eq!(conversation.notes, "\n!say b\nonly this");
    }

    #[test]
    fn content_is_a_string_or_blocks() {
        assert_eq!(text_of(&json!("x")), "x");
        assert_eq!(
            text_of(&json!([{"type": "text", "text": "x"}, {"type": "image"}, {"text": "y"}])),
            "x\ny"
        );
    }
}
