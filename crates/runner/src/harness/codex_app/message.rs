//! From Codex's turns to messages in opencode's form: the user's, and one reply for the whole turn.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use super::item::{Item, What};

/// A turn, as Codex keeps it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Turn {
    pub(super) id: String,
    #[serde(default)]
    pub(super) items: Vec<Item>,
    pub(super) status: Status,
    #[serde(default)]
    pub(super) error: Option<Failure>,
    /// Seconds since 1970; nothing where Codex ended before the turn.
    #[serde(default)]
    pub(super) completed_at: Option<u64>,
    /// Codex does not keep it with the turn.
    #[serde(skip)]
    pub(super) tokens: Tokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Status {
    Completed,
    Interrupted,
    Failed,
    #[serde(other)]
    InProgress,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    message: String,
    #[serde(default)]
    codex_error_info: Value,
}

/// What a turn has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Tokens {
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_input_tokens: u64,
    output_tokens: u64,
    reasoning_output_tokens: u64,
}

impl Tokens {
    /// Adds those of one more request.
    pub(super) fn add(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.cached_input_tokens += other.cached_input_tokens;
        self.cache_write_input_tokens += other.cache_write_input_tokens;
        self.output_tokens += other.output_tokens;
        self.reasoning_output_tokens += other.reasoning_output_tokens;
    }

    fn told(self) -> Value {
        json!({
            "input": self.input_tokens.saturating_sub(self.cached_input_tokens),
            "output": self.output_tokens.saturating_sub(self.reasoning_output_tokens),
            "reasoning": self.reasoning_output_tokens,
            "cache": {"read": self.cached_input_tokens, "write": self.cache_write_input_tokens},
        })
    }
}

/// What messages of a conversation have in common.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The conversation's id, as clients know it.
    pub(super) conversation: String,
    pub(super) model: String,
    pub(super) workspace: PathBuf,
}

/// The id of the reply to this message. It sorts after the message and before the next one.
pub(super) fn reply_id(message: &str) -> String {
    format!("{message}_reply")
}

impl Turn {
    /// The id of the user's message. Each turn of ours has one.
    pub(super) fn message_id(&self) -> Option<String> {
        self.items.iter().find_map(Item::message_id)
    }

    /// The user's message and the reply. Nothing of a turn that no message began.
    pub(super) fn messages(&self, setting: &Setting) -> Vec<Value> {
        let Some(user) = self.items.iter().find_map(|item| setting.user(item)) else { return Vec::new() };
        vec![user, self.reply(setting)]
    }

    /// The reply, as far as it has come.
    pub(super) fn reply(&self, setting: &Setting) -> Value {
        let message = self.message_id().unwrap_or_default();
        let ended = self.status != Status::InProgress;
        let parts: Value = self.items.iter().filter_map(|item| setting.part(&message, item, ended)).collect();
        json!({"info": self.info(setting), "parts": parts})
    }

    /// What is known of the reply beside its parts.
    pub(super) fn info(&self, setting: &Setting) -> Value {
        let message = self.message_id().unwrap_or_default();
        let begun = self.items.first().and_then(|item| item.started_at_ms).unwrap_or(0);
        let latest = self.items.iter().filter_map(|item| item.completed_at_ms).max().unwrap_or(begun);
        let mut info = json!({
            "id": reply_id(&message),
            "sessionID": setting.conversation,
            "role": "assistant",
            "parentID": message,
            "time": {"created": begun},
            "providerID": "paddock",
            "modelID": setting.model,
            "mode": "build",
            "path": {"cwd": setting.workspace, "root": setting.workspace},
            "cost": 0,
            "tokens": self.tokens.told(),
        });
        // What was cut off has no end.
        let Some(completed) = self.completed_at else { return info };
        info["time"]["completed"] = json!(latest.max(completed * 1000));
        let error = match self.status {
            Status::Completed | Status::InProgress => None,
            Status::Interrupted => {
                Some(json!({"name": "MessageAbortedError", "data": {"message": "The turn was aborted"}}))
            }
            Status::Failed => Some(self.error.as_ref().map_or_else(unknown, Failure::told)),
        };
        info["finish"] = json!(if error.is_some() { "error" } else { "stop" });
        if let Some(error) = error {
            info["error"] = error;
        }
        info
    }
}

impl Item {
    /// Its id as a message, where it is the user's.
    pub(super) fn message_id(&self) -> Option<String> {
        let What::UserMessage { client_id, .. } = &self.what else { return None };
        Some(client_id.clone().unwrap_or_else(|| format!("msg_{}", self.id)))
    }
}

impl Setting {
    /// The user's message, where the item is one.
    pub(super) fn user(&self, item: &Item) -> Option<Value> {
        let id = item.message_id()?;
        let What::UserMessage { content, .. } = &item.what else { return None };
        let parts = content.iter().filter_map(said).enumerate().map(|(index, mut part)| {
            part["id"] = json!(part_id(&id, &format!("{:05}", index + 1)));
            part["sessionID"] = json!(self.conversation);
            part["messageID"] = json!(id);
            part
        });
        let parts: Value = parts.collect();
        let created = item.started_at_ms.unwrap_or(0);
        let info =
            json!({"id": id, "sessionID": self.conversation, "role": "user", "time": {"created": created}});
        Some(json!({"info": info, "parts": parts}))
    }

    /// A part of the reply to this message. `ended` says that its turn has.
    pub(super) fn part(&self, message: &str, item: &Item, ended: bool) -> Option<Value> {
        let mut part = item.part(ended)?;
        part["id"] = json!(self.reply_part_id(message, item));
        part["sessionID"] = json!(self.conversation);
        part["messageID"] = json!(reply_id(message));
        Some(part)
    }

    /// Its id, by which clients sort the parts of a message.
    pub(super) fn reply_part_id(&self, message: &str, item: &Item) -> String {
        part_id(&reply_id(message), &format!("{:013}_{}", item.started_at_ms.unwrap_or(0), item.id))
    }
}

/// The id of a message's part.
pub(super) fn part_id(message: &str, suffix: &str) -> String {
    format!("prt_{}_{suffix}", message.strip_prefix("msg_").unwrap_or(message))
}

/// A part of the user's message.
fn said(input: &Value) -> Option<Value> {
    match input["type"].as_str()? {
        "text" => Some(json!({"type": "text", "text": input["text"]})),
        "image" => {
            let url = input["url"].as_str()?;
            let mime =
                url.strip_prefix("data:").and_then(|rest| rest.split(';').next()).unwrap_or("image/png");
            Some(json!({"type": "file", "mime": mime, "url": url}))
        }
        _ => None,
    }
}

fn unknown() -> Value {
    json!({"name": "UnknownError", "data": {"message": "Codex does not say why the turn failed"}})
}

impl Failure {
    /// In opencode's form.
    fn told(&self) -> Value {
        // The text is often the answer of the model's API as it came.
        let answer: Option<Value> = serde_json::from_str(&self.message).ok();
        let inner = answer.as_ref().and_then(|answer| answer["error"]["message"].as_str());
        let message = inner.unwrap_or(&self.message);
        let info = &self.codex_error_info;
        let variant = info.as_object().and_then(|variants| variants.iter().next());
        let kind = variant.map(|(kind, _)| kind.as_str()).or(info.as_str());
        let status = variant.and_then(|(_, fields)| fields["httpStatusCode"].as_u64());
        let retryable = matches!(
            kind,
            Some(
                "serverOverloaded"
                    | "internalServerError"
                    | "rateLimitExceeded"
                    | "httpConnectionFailed"
                    | "responseStreamConnectionFailed"
                    | "responseStreamDisconnected"
                    | "responseTooManyFailedAttempts"
            )
        );
        let mut data = json!({"message": message, "isRetryable": retryable});
        if let Some(kind) = kind {
            data["kind"] = json!(kind);
        }
        if let Some(status) = status {
            data["statusCode"] = json!(status);
        }
        json!({"name": "APIError", "data": data})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(more: Value) -> Turn {
        let user = json!({"type": "userMessage", "id": "u", "clientId": "msg_1", "startedAtMs": 1_000,
            "completedAtMs": 1_000, "content": [{"type": "text", "text": "hi", "text_elements": []},
            {"type": "image", "url": "data:image/png;base64,AAAA"}]});
        let text = json!({"type": "agentMessage", "id": "msg_7", "text": "ho", "startedAtMs": 1_500, "completedAtMs": 1_700});
        let mut turn = json!({"id": "t", "status": "completed", "completedAt": 1, "items": [user, text]});
        turn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(turn).unwrap()
    }

    fn setting() -> Setting {
        Setting { conversation: "ses_1".into(), model: "m".into(), workspace: "/w".into() }
    }

    #[test]
    fn a_turn_is_a_message_and_its_reply() {
        let messages = turn(json!({})).messages(&setting());
        let [user, reply] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((&user["info"]["id"], &user["info"]["role"]), (&json!("msg_1"), &json!("user")));
        assert_eq!(user["parts"][1]["mime"], "image/png");
        let info = &reply["info"];
        assert_eq!((&info["id"], &info["parentID"]), (&json!("msg_1_reply"), &json!("msg_1")));
        assert_eq!(
            (&info["finish"], &info["time"]),
            (&json!("stop"), &json!({"created": 1_000, "completed": 1_700}))
        );
        assert_eq!(reply["parts"].as_array().unwrap().len(), 1);
        assert_eq!(reply["parts"][0]["id"], "prt_1_reply_0000000001500_msg_7");
    }

    #[test]
    fn an_abort_has_an_error_and_what_was_cut_off_has_no_end() {
        let aborted = turn(json!({"status": "interrupted"})).info(&setting());
        assert_eq!(aborted["error"]["name"], "MessageAbortedError");
        assert!(aborted["time"]["completed"].is_number());
        let cut = turn(json!({"status": "interrupted", "completedAt": null})).info(&setting());
        assert_eq!((&cut["error"], &cut["finish"]), (&Value::Null, &Value::Null));
        assert!(cut["time"]["completed"].is_null());
    }

    #[test]
    fn an_error_of_the_model_is_told_in_its_own_words() {
        let said = r#"{"error":{"code":"400","message":"too long"}}"#;
        let failed = turn(json!({"status": "failed", "error": {"message": said, "codexErrorInfo": "other"}}));
        let error = &failed.info(&setting())["error"];
        let expected = json!({"name": "APIError", "data": {"message": "too long", "isRetryable": false, "kind": "other"}});
        assert_eq!(*error, expected);
        let info = json!({"responseStreamDisconnected": {"httpStatusCode": 503}});
        let failed = turn(json!({"status": "failed", "error": {"message": "gone", "codexErrorInfo": info}}));
        let data = &failed.info(&setting())["error"]["data"];
        assert_eq!((&data["statusCode"], &data["isRetryable"]), (&json!(503), &json!(true)));
    }

    #[test]
    fn tokens_of_all_requests_are_counted_once() {
        let request = Tokens {
            input_tokens: 100,
            cached_input_tokens: 60,
            output_tokens: 10,
            reasoning_output_tokens: 4,
            ..Tokens::default()
        };
        let mut all = Tokens::default();
        all.add(request);
        all.add(request);
        let expected = json!({"input": 80, "output": 12, "reasoning": 8, "cache": {"read": 120, "write": 0}});
        assert_eq!(all.told(), expected);
    }
}
