//! What a client may ask in a turn, and how the server is asked: text and, where its template declares it, images.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use paddock_runnerapi::passage::Action;
use paddock_runnerapi::{Attachments, TurnRequest};
use serde_json::{Value, json};

use crate::harness::wire::{self, parts};
use crate::harness::{BadParts, Task, TurnNames};

/// The images that an `image` part may hold.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Reads a request. `own` is the session's conversation.
pub(super) fn prepare(
    own: &str,
    request: &TurnRequest,
    attachments: Option<Attachments>,
) -> Result<Task, BadParts> {
    let task = wire::task::prepare(own, request, &|given| prepare_parts(given, attachments))?;
    if !matches!(task.action, Action::Message | Action::MessageAsync) {
        return Err(BadParts("this harness takes messages only".to_owned()));
    }
    Ok(task)
}

fn prepare_parts(given: &[Value], attachments: Option<Attachments>) -> Result<Vec<Value>, BadParts> {
    if attachments == Some(Attachments::FileParts) {
        return parts::prepare(given);
    }
    let mut prepared = Vec::new();
    for (index, part) in given.iter().enumerate() {
        let bad = |what: String| BadParts(format!("parts[{index}]{what}"));
        let part = match part["type"].as_str() {
            Some("text") => match part["text"].as_str() {
                // An empty one says nothing, and models refuse it.
                Some(text) if text.trim().is_empty() => continue,
                Some(text) => json!({"type": "text", "text": text}),
                None => return Err(bad(".text is not a string".to_owned())),
            },
            Some("file" | "image") if attachments.is_none() => {
                return Err(bad(" is an attachment, and this session's harness takes text only".to_owned()));
            }
            Some("file") => from_url(part["url"].as_str().unwrap_or_default()).map_err(bad)?,
            Some("image") => image(&part["source"]).map_err(bad)?,
            _ => return Err(bad(".type is not one of text, file, image".to_owned())),
        };
        prepared.push(part);
    }
    if prepared.is_empty() {
        return Err(BadParts("parts: needs at least one part with text or an image".to_owned()));
    }
    Ok(prepared)
}

fn unfit(field: &str) -> String {
    format!("{field}; this session's harness takes {} and no other files", IMAGES.join(", "))
}

/// opencode's file part, where it holds an image.
fn from_url(url: &str) -> Result<Value, String> {
    let no_image = || unfit(".url is no image as a data: URL");
    let (head, data) = url.split_once(',').ok_or_else(no_image)?;
    let is = |mime: &&&str| head.eq_ignore_ascii_case(&format!("data:{mime};base64"));
    let mime = IMAGES.iter().find(is).ok_or_else(no_image)?;
    image(&json!({"type": "base64", "media_type": mime, "data": data}))
}

/// An image as Anthropic's API has it.
fn image(source: &Value) -> Result<Value, String> {
    let mime = source["media_type"].as_str().filter(|mime| IMAGES.contains(mime));
    let (Some(mime), Some(data), Some("base64")) = (mime, source["data"].as_str(), source["type"].as_str())
    else {
        return Err(unfit(".source is no image in base64"));
    };
    STANDARD.decode(data).map_err(|_| "'s image is not valid base64".to_owned())?;
    Ok(json!({"type": "image", "source": {"type": "base64", "media_type": mime, "data": data}}))
}

/// What a message says beside its parts.
pub(super) struct Saying<'a> {
    /// Who works.
    pub(super) provider: &'a str,
    /// See `provider`.
    pub(super) model: &'a str,
    /// The agent's.
    pub(super) prompt: Option<&'a str>,
    /// What was said in a conversation before this one.
    pub(super) before: Option<String>,
}

/// The body of `POST /session/{id}/message`.
pub(super) fn body(names: &TurnNames, task: Task, saying: Saying<'_>) -> Value {
    let mut body = Value::Object(task.options);
    let named = task.parts.into_iter().zip(&names.parts).map(|(mut part, id)| {
        part["id"] = json!(id);
        part
    });
    let before = saying.before.map(|text| json!({"type": "text", "text": text}));
    body["parts"] = before.into_iter().chain(named).collect();
    body["model"] = json!({"providerID": saying.provider, "modelID": saying.model});
    body["messageID"] = json!(names.message);
    let system: Vec<&str> = saying.prompt.into_iter().chain(body["system"].as_str()).collect();
    if !system.is_empty() {
        body["system"] = json!(system.join("\n\n"));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_runnerapi::HarnessCall;

    const IMAGE: &str = "data:image/png;base64,iVBORw0KGgo=";

    fn image_part() -> Value {
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}})
    }

    fn prepared(parts: &Value, attachments: Option<Attachments>) -> Result<Value, String> {
        let request = TurnRequest::message("t", parts.as_array().unwrap().clone());
        prepare("own", &request, attachments).map(|task| task.parts.into()).map_err(|bad| bad.0)
    }

    #[test]
    fn images_come_in_the_form_that_the_server_takes() {
        let file = json!({"type": "file", "mime": "image/png", "url": IMAGE});
        let parts =
            json!([{"type": "text", "text": "see", "synthetic": true}, {"type": "text", "text": " "}, file]);
        let text = json!({"type": "text", "text": "see"});
        assert_eq!(prepared(&parts, Some(Attachments::Images)), Ok(json!([text, image_part()])));
        assert_eq!(prepared(&json!([image_part()]), Some(Attachments::Images)), Ok(json!([image_part()])));
        let as_files = prepared(&json!([text, file]), Some(Attachments::FileParts));
        assert_eq!(as_files, Ok(json!([text, file])));
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let images = Some(Attachments::Images);
        let path = json!({"type": "file", "mime": "image/png", "url": "file:///etc/passwd"});
        let broken =
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%"}});
        for (part, attachments, named) in [
            (json!("x"), images, "parts[0].type"),
            (json!({"type": "text"}), images, "parts[0].text"),
            (json!({"type": "text", "text": ""}), images, "parts: needs"),
            (json!({"type": "agent", "name": "x"}), images, "parts[0].type"),
            (path.clone(), images, "parts[0].url is no image"),
            (path, Some(Attachments::FileParts), "parts[0].url"),
            (json!({"type": "image", "source": {"type": "url"}}), images, "parts[0].source"),
            (broken, images, "parts[0]'s image"),
            (image_part(), None, "parts[0] is an attachment"),
            (image_part(), Some(Attachments::FileParts), "parts[0].type"),
        ] {
            let error = prepared(&json!([part]), attachments).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
    }

    #[test]
    fn a_message_names_model_and_prompt_and_takes_what_a_client_adds() {
        let call = HarnessCall {
            path: "/session/own/prompt_async".into(),
            body: json!({"parts": [{"type": "text", "text": "hi"}], "system": "be brief", "model": 1})
                .as_object()
                .unwrap()
                .clone(),
        };
        let request = TurnRequest { call: Some(call), ..TurnRequest::message("t", vec![]) };
        let task = prepare("own", &request, None).unwrap();
        let names = TurnNames { conversation: None, message: "msg_1".into(), parts: vec!["prt_1".into()] };
        let saying =
            Saying { provider: "litellm", model: "m", prompt: Some("Be kind."), before: Some("once".into()) };
        let expected = json!({
            "model": {"providerID": "litellm", "modelID": "m"}, "messageID": "msg_1", "system": "Be kind.\n\nbe brief",
            "parts": [{"type": "text", "text": "once"}, {"type": "text", "text": "hi", "id": "prt_1"}],
        });
        assert_eq!(body(&names, task, saying), expected);
        let command = HarnessCall {
            path: "/session/own/shell".into(),
            body: json!({"agent": "a", "command": "ls"}).as_object().unwrap().clone(),
        };
        let request = TurnRequest { call: Some(command), ..TurnRequest::message("t", vec![]) };
        assert_eq!(prepare("own", &request, None).unwrap_err().0, "this harness takes messages only");
    }
}
