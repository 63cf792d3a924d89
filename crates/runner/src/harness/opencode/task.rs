//! What a client may ask of opencode in a turn, and how opencode is asked.
//!
//! The agent's model holds whatever a client names, and `tools` is left out: it would replace the conversation's permissions.

use paddock_runnerapi::passage::{Action, Passage, passage};
use paddock_runnerapi::{HarnessCall, TurnRequest};
use serde_json::{Map, Value, json};

use super::config::{MODEL, PROVIDER};
use super::parts;
use crate::harness::{BadParts, Task, TurnNames};

/// Reads a request. `own` is the session's conversation.
pub(super) fn prepare(own: &str, request: &TurnRequest) -> Result<Task, BadParts> {
    match &request.call {
        None => Ok(Task::message(parts::prepare(&request.parts)?)),
        Some(call) => of_call(own, call),
    }
}

fn of_call(own: &str, call: &HarnessCall) -> Result<Task, BadParts> {
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
            (texts.into_iter().chain(no_reply).chain(format).collect(), parts::prepare(parts)?)
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

/// Path and body of the request that has opencode do it. `prompt` is the agent's.
pub(super) fn request(
    conversation: &str,
    names: &TurnNames,
    task: Task,
    prompt: Option<&str>,
) -> (String, Value) {
    let Task { action, parts, options, .. } = task;
    let mut body = Value::Object(options);
    let model = json!({"providerID": PROVIDER, "modelID": MODEL});
    let verb = match action {
        Action::Message | Action::MessageAsync => {
            let named = parts.into_iter().zip(&names.parts).map(|(mut part, id)| {
                part["id"] = json!(id);
                part
            });
            body["parts"] = named.collect();
            body["model"] = model;
            let system: Vec<&str> = prompt.into_iter().chain(body["system"].as_str()).collect();
            if !system.is_empty() {
                body["system"] = json!(system.join("\n\n"));
            }
            "message"
        }
        Action::Command => {
            body["model"] = json!(format!("{PROVIDER}/{MODEL}"));
            "command"
        }
        Action::Shell => {
            body["model"] = model;
            "shell"
        }
        Action::Init | Action::Summarize => {
            body["providerID"] = json!(PROVIDER);
            body["modelID"] = json!(MODEL);
            if action == Action::Init { "init" } else { "summarize" }
        }
    };
    if action != Action::Summarize {
        body["messageID"] = json!(names.message);
    }
    (format!("/session/{conversation}/{verb}"), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(path: &str, body: &Value) -> Result<Task, BadParts> {
        let call = HarnessCall { path: path.into(), body: body.as_object().unwrap().clone() };
        prepare("ses_own", &TurnRequest { call: Some(call), ..TurnRequest::message("t", vec![]) })
    }

    fn names() -> TurnNames {
        TurnNames { conversation: None, message: "msg_1".into(), parts: vec!["prt_1".into()] }
    }

    #[test]
    fn a_message_keeps_what_it_may_say_and_the_agent_s_model_holds() {
        let body = json!({
            "messageID": "msg_theirs", "model": {"providerID": "x", "modelID": "y"}, "tools": {"bash": true},
            "agent": "plan", "system": "be brief", "noReply": false, "parts": [{"type": "text", "text": "hi", "id": "prt_x"}],
        });
        let task = call("/session/ses_other/message", &body).unwrap();
        assert_eq!(task.conversation.as_deref(), Some("ses_other"));
        let (path, body) = request("ses_other", &names(), task, Some("You are an agent."));
        assert_eq!(path, "/session/ses_other/message");
        let expected = json!({
            "agent": "plan", "system": "You are an agent.\n\nbe brief", "noReply": false, "messageID": "msg_1",
            "model": {"providerID": PROVIDER, "modelID": MODEL},
            "parts": [{"type": "text", "text": "hi", "id": "prt_1"}],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn the_session_s_own_conversation_is_nobody_else_s() {
        let body = json!({"parts": [{"type": "text", "text": "hi"}]});
        assert_eq!(call("/session/ses_own/prompt_async", &body).unwrap().conversation, None);
    }

    #[test]
    fn other_work_names_the_agent_s_model_in_its_own_way() {
        let task =
            call("/session/ses_own/command", &json!({"command": "review", "arguments": "", "model": "a/b"}));
        let (path, body) = request("ses_own", &names(), task.unwrap(), Some("unused"));
        assert_eq!(path, "/session/ses_own/command");
        let model = format!("{PROVIDER}/{MODEL}");
        assert_eq!(body, json!({"command": "review", "arguments": "", "model": model, "messageID": "msg_1"}));
        let task = call("/session/ses_own/summarize", &json!({"providerID": "a", "modelID": "b"})).unwrap();
        let (path, body) = request("ses_own", &names(), task, None);
        assert_eq!(path, "/session/ses_own/summarize");
        assert_eq!(body, json!({"providerID": PROVIDER, "modelID": MODEL}));
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
