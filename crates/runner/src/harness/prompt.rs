//! What a client may ask in a turn of a harness that takes text, images, and words added to its instructions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use paddock_runnerapi::TurnRequest;
use paddock_runnerapi::passage::{Action, Passage, passage};
use serde_json::{Map, Value, json};

use super::{BadParts, Task};

/// The images that models take, Anthropic's and OpenAI's alike.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Reads a request. `own` is the session's conversation.
pub(super) fn prepare(own: &str, request: &TurnRequest) -> Result<Task, BadParts> {
    let Some(call) = &request.call else { return Ok(Task::message(parts(&request.parts)?)) };
    let Passage::Turn { conversation, action } = passage("POST", &call.path) else {
        return Err(BadParts("the path begins no turn".to_owned()));
    };
    if !matches!(action, Action::Message | Action::MessageAsync) {
        let text = "this harness takes messages only; its commands are messages that begin with a slash";
        return Err(BadParts(text.to_owned()));
    }
    let given = call.body.get("parts").and_then(Value::as_array);
    let given = given.ok_or_else(|| BadParts("parts: must be an array of message parts".to_owned()))?;
    // What would change the reply and cannot be done is refused; who is asked (`agent`, `model`) the Agent says.
    if call.body.get("noReply").is_some_and(|wanted| *wanted != json!(false)) {
        return Err(BadParts("noReply: this harness answers every message".to_owned()));
    }
    if call.body.contains_key("format") {
        return Err(BadParts("format: this harness answers in text only".to_owned()));
    }
    let mut options = Map::new();
    if let Some(system) = call.body.get("system") {
        let system = system.as_str().ok_or_else(|| BadParts("system: must be a string".to_owned()))?;
        options.insert("system".to_owned(), json!(system));
    }
    let conversation = (conversation != own).then_some(conversation);
    Ok(Task { conversation, action, parts: parts(given)?, options, attended: true })
}

/// Checks the parts and keeps only what is allowed.
fn parts(given: &[Value]) -> Result<Vec<Value>, BadParts> {
    let mut prepared = Vec::new();
    for (index, part) in given.iter().enumerate() {
        let part = one(part).map_err(|what| BadParts(format!("parts[{index}]{what}")))?;
        // The model's API refuses a text that is empty.
        let is_blank = part["text"].as_str().is_some_and(|text| text.trim().is_empty());
        prepared.extend(Some(part).filter(|_| !is_blank));
    }
    if prepared.is_empty() {
        return Err(BadParts("parts: needs at least one part with text or an image".to_owned()));
    }
    Ok(prepared)
}

fn one(part: &Value) -> Result<Value, String> {
    let part = part.as_object().ok_or(" is not an object")?;
    let string = |field: &str| {
        part.get(field).and_then(Value::as_str).ok_or_else(|| format!(".{field} is not a string"))
    };
    match string("type")? {
        "text" => Ok(json!({"type": "text", "text": string("text")?})),
        "file" => {
            let url = string("url")?;
            let mime = image(url)?;
            let mut file = json!({"type": "file", "mime": mime, "url": url});
            if let Some(name) = part.get("filename").and_then(Value::as_str) {
                file["filename"] = json!(name);
            }
            Ok(file)
        }
        _ => Err(".type is not one of text, file".to_owned()),
    }
}

/// The type of the image in a data: URL.
fn image(url: &str) -> Result<&'static str, String> {
    let unfit = || {
        format!(
            ".url is no image as a data: URL; this harness takes {} and no other files",
            IMAGES.join(", ")
        )
    };
    let (head, data) = url.split_once(',').ok_or_else(unfit)?;
    let is = |mime: &&&str| head.eq_ignore_ascii_case(&format!("data:{mime};base64"));
    let mime = IMAGES.iter().find(is).ok_or_else(unfit)?;
    STANDARD.decode(data).map_err(|_| ".url is not valid base64 after its comma".to_owned())?;
    Ok(mime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_runnerapi::HarnessCall;

    const IMAGE: &str = "data:image/png;base64,iVBORw0KGgo=";

    fn call(path: &str, body: &Value) -> Result<Task, BadParts> {
        let call = HarnessCall { path: path.into(), body: body.as_object().unwrap().clone() };
        prepare("ses_own", &TurnRequest { call: Some(call), ..TurnRequest::message("t", vec![]) })
    }

    #[test]
    fn text_and_images_are_taken_and_nothing_else_of_them() {
        let given = json!([
            {"type": "text", "text": "look", "synthetic": true},
            {"type": "text", "text": " "},
            {"type": "file", "mime": "x", "filename": "a.png", "url": IMAGE},
        ]);
        let task = prepare("s", &TurnRequest::message("t", given.as_array().unwrap().clone())).unwrap();
        let expected = json!([
            {"type": "text", "text": "look"},
            {"type": "file", "mime": "image/png", "filename": "a.png", "url": IMAGE},
        ]);
        assert_eq!(Value::from(task.parts), expected);
        assert_eq!(task.conversation, None);
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        for (part, named) in [
            (json!("x"), "parts[0] is"),
            (json!({"text": "x"}), "parts[0].type"),
            (json!({"type": "text"}), "parts[0].text"),
            (json!({"type": "text", "text": ""}), "parts: needs"),
            (json!({"type": "agent", "name": "x"}), "parts[0].type"),
            (json!({"type": "file", "url": "file:///etc/passwd"}), "parts[0].url is no image"),
            (json!({"type": "file", "url": "https://x/a.png"}), "parts[0].url is no image"),
            (json!({"type": "file", "url": "data:text/plain;base64,eA=="}), "parts[0].url is no image"),
            (json!({"type": "file", "url": "data:image/svg+xml;base64,eA=="}), "parts[0].url is no image"),
            (json!({"type": "file", "url": "data:image/png;base64,%"}), "parts[0].url is not valid base64"),
        ] {
            let error = parts(&[part]).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }

    #[test]
    fn a_client_s_own_call_is_a_message_with_words_for_the_system_prompt() {
        let text = json!([{"type": "text", "text": "hi"}]);
        let body = json!({"parts": text, "system": "be brief", "model": {"modelID": "y"}, "noReply": false});
        let task = call("/session/ses_own/prompt_async", &body).unwrap();
        assert_eq!((task.conversation, task.options["system"].as_str()), (None, Some("be brief")));
        let task = call("/session/ses_other/message", &body).unwrap();
        assert_eq!(task.conversation.as_deref(), Some("ses_other"));
        for (path, body, named) in [
            ("/session/ses_own/shell", json!({"parts": text}), "this harness takes messages only"),
            ("/session/ses_own/fork", json!({"parts": text}), "the path"),
            ("/session/ses_own/message", json!({}), "parts:"),
            ("/session/ses_own/message", json!({"parts": text, "system": 1}), "system:"),
            ("/session/ses_own/message", json!({"parts": text, "noReply": true}), "noReply:"),
            ("/session/ses_own/message", json!({"parts": text, "format": {}}), "format:"),
        ] {
            let error = call(path, &body).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
