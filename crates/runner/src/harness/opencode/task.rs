//! How opencode is asked for what a client may ask of it.

use paddock_runnerapi::passage::Action;
use serde_json::{Value, json};

use super::config::{MODEL, PROVIDER};
use crate::harness::{Task, TurnNames};

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
    use paddock_runnerapi::{HarnessCall, TurnRequest};

    use super::*;
    use crate::harness::BadParts;
    use crate::harness::wire::{parts, task};

    fn call(path: &str, body: &Value) -> Result<Task, BadParts> {
        let call = HarnessCall { path: path.into(), body: body.as_object().unwrap().clone() };
        let request = TurnRequest { call: Some(call), ..TurnRequest::message("t", vec![]) };
        task::prepare("ses_own", &request, &parts::prepare)
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
}
