//! What a client may ask in a turn.
//!
//! The agent's model holds whatever a client names, and `tools` is left out: it would replace the conversation's permissions.

use paddock_runnerapi::passage::{Action, Passage, passage};
use paddock_runnerapi::{HarnessCall, TurnRequest};
use serde_json::{Map, Value};

use crate::harness::{BadParts, Task};

/// Checks a message's parts and keeps of them what is allowed.
pub(in crate::harness) type Parts<'a> = &'a dyn Fn(&[Value]) -> Result<Vec<Value>, BadParts>;

/// Reads a request. `own` is the session's conversation.
///
/// # Errors
/// [`BadParts`], for the client.
pub(in crate::harness) fn prepare(
    own: &str,
    request: &TurnRequest,
    parts: Parts<'_>,
) -> Result<Task, BadParts> {
    match &request.call {
        None => Ok(Task::message(parts(&request.parts)?)),
        Some(call) => of_call(own, call, parts),
    }
}

fn of_call(own: &str, call: &HarnessCall, prepared: Parts<'_>) -> Result<Task, BadParts> {
    let Passage::Turn { conversation, action } = passage("POST", &call.path) else {
        return Err(BadParts("the path begins no turn".to_owned()));
    };
    let options = Options(&call.body);
    let (fields, parts) = match action {
        Action::Message | Action::MessageAsync => {
            let parts = call.body.get("parts").and_then(Value::as_array);
            let parts =
                parts.ok_or_else(|| BadParts("parts: must be an array of message parts".to_owned()))?;
            let texts = options.optional(&["agent", "system", "variant"], Value::is_string, "a string")?;
            let no_reply = options.optional(&["noReply"], Value::is_boolean, "true or false")?;
            let format = options.optional(&["format"], Value::is_object, "an object")?;
            (texts.into_iter().chain(no_reply).chain(format).collect(), prepared(parts)?)
        }
        Action::Command => {
            let mut fields = options.optional(&["agent", "variant"], Value::is_string, "a string")?;
            fields.extend(options.required(&["command", "arguments"])?);
            (fields, Vec::new())
        }
        Action::Shell => (options.required(&["agent", "command"])?, Vec::new()),
        Action::Init => (Map::new(), Vec::new()),
        Action::Summarize => (options.optional(&["auto"], Value::is_boolean, "true or false")?, Vec::new()),
    };
    let conversation = (conversation != own).then_some(conversation);
    Ok(Task { conversation, action, parts, options: fields, attended: true })
}

/// The fields of a call, each taken by name.
struct Options<'a>(&'a Map<String, Value>);

impl Options<'_> {
    fn optional(
        &self,
        names: &[&str],
        fits: fn(&Value) -> bool,
        form: &str,
    ) -> Result<Map<String, Value>, BadParts> {
        let given = names.iter().filter_map(|name| Some((*name, self.0.get(*name)?)));
        given
            .map(|(name, value)| match fits(value) {
                true => Ok((name.to_owned(), value.clone())),
                false => Err(BadParts(format!("{name}: must be {form}"))),
            })
            .collect()
    }

    fn required(&self, names: &[&str]) -> Result<Map<String, Value>, BadParts> {
        if let Some(missing) = names.iter().find(|name| !self.0.contains_key(**name)) {
            return Err(BadParts(format!("{missing}: is needed here")));
        }
        self.optional(names, Value::is_string, "a string")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harness::wire::parts;

    fn call(path: &str, body: &Value) -> Result<Task, BadParts> {
        let call = HarnessCall { path: path.into(), body: body.as_object().unwrap().clone() };
        let request = TurnRequest { call: Some(call), ..TurnRequest::message("t", vec![]) };
        prepare("ses_own", &request, &parts::prepare)
    }

    #[test]
    fn the_session_s_own_conversation_is_nobody_else_s() {
        let body = json!({"parts": [{"type": "text", "text": "hi"}]});
        assert_eq!(call("/session/ses_own/prompt_async", &body).unwrap().conversation, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (path, body, named) in [
            ("/session/ses_own/message", json!({}), "parts:"),
            ("/session/ses_own/message", json!({"parts": "x"}), "parts:"),
            (
                "/session/ses_own/message",
                json!({"parts": [{"type": "text", "text": "a"}], "agent": 1}),
                "agent:",
            ),
            (
                "/session/ses_own/message",
                json!({"parts": [{"type": "text", "text": "a"}], "noReply": 1}),
                "noReply:",
            ),
            ("/session/ses_own/shell", json!({"agent": "build"}), "command:"),
            ("/session/ses_own/command", json!({"command": "x"}), "arguments:"),
            ("/session/ses_own/fork", json!({}), "the path"),
        ] {
            let error = call(path, &body).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
