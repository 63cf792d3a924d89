//! Reads a message and makes the runner's `TurnRequest` of it.
//!
//! Parts are checked where they lie in the body and passed on as they came: nothing is built from them, so a
//! message costs the gateway its own size, whatever is in it.

use std::borrow::Cow;

use bytes::Bytes;
use paddock_api::http::HarnessPart;
use schemars::JsonSchema;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::http::body;
use crate::http::idempotency::Key;

const MAX_ATTACHMENTS: usize = 10;
const MAX_ATTACHMENT_BYTES: usize = 5 * 1024 * 1024;
const MAX_ATTACHMENT_NAME: usize = 255;
const ATTACHMENT_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// A message: either `text`, which may come with `attachments`, or `parts`.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Message", extend("oneOf" = json!([
    {"required": ["text"]},
    {"required": ["parts"], "not": {"required": ["attachments"]}},
])))]
pub struct Fields<'a> {
    /// What is said; more than white space.
    #[serde(borrow, default)]
    #[schemars(with = "String", length(min = 1), extend("pattern" = r"\S"))]
    text: Option<&'a RawValue>,
    /// The message in the harness's own parts, passed on as they are.
    #[serde(borrow, default)]
    #[schemars(with = "Vec<HarnessPart>", length(min = 1))]
    parts: Option<&'a RawValue>,
    /// Pictures that go with `text`.
    #[serde(borrow, default)]
    #[schemars(with = "Vec<Attachment<'static>>", length(max = MAX_ATTACHMENTS))]
    attachments: Option<&'a RawValue>,
    /// Names the turn, as the header `Idempotency-Key` does.
    #[serde(borrow, default)]
    #[schemars(with = "Key")]
    message_id: Option<&'a RawValue>,
}

/// A checked message, borrowed from the request's body.
#[derive(Debug)]
pub struct Message<'a> {
    /// The client's id for the turn.
    pub id: Option<Key>,
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    Parts(&'a RawValue),
    Text { text: String, attachments: Vec<Attachment<'a>> },
}

/// A picture.
#[derive(Debug, Deserialize, JsonSchema)]
struct Attachment<'a> {
    /// Its file's name.
    #[serde(default)]
    #[schemars(length(max = MAX_ATTACHMENT_NAME))]
    name: Option<String>,
    /// Its kind.
    #[schemars(extend("enum" = ATTACHMENT_TYPES))]
    mime_type: String,
    /// Its content in standard base64 with padding.
    #[serde(borrow)]
    #[schemars(length(min = 4, max = MAX_ATTACHMENT_BYTES.div_ceil(3) * 4), extend("contentEncoding" = "base64"))]
    base64: Cow<'a, str>,
}

/// A part that the gateway makes.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Part<'a> {
    Text {
        text: &'a str,
    },
    File {
        mime: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a str>,
        url: String,
    },
}

/// `paddock_runnerapi::TurnRequest`, with the parts in whatever form they are at hand.
#[derive(Serialize)]
struct TurnRequest<'a, P: Serialize> {
    id: &'a str,
    parts: P,
}

impl<'a> Message<'a> {
    /// Reads and checks the body of a message.
    ///
    /// # Errors
    /// `bad_request`, naming the field.
    pub fn read(bytes: &'a [u8]) -> Result<Self, ApiError> {
        let fields: Fields<'a> = body::fields(bytes)?;
        let id = fields
            .message_id
            .map(|raw| Key::parse(&body::string("message_id", raw)?, "message_id"))
            .transpose()?;
        let content = match (fields.text, fields.parts) {
            (Some(_), Some(_)) => Err(bad("text, parts: give one of the two, not both")),
            (None, None) => Err(bad("text, parts: one of the two is required")),
            (Some(text), None) => Ok(Content::Text {
                text: non_empty(body::string("text", text)?)?,
                attachments: attachments(fields.attachments)?,
            }),
            (None, Some(_)) if fields.attachments.is_some() => {
                Err(bad("attachments: go with text; with parts, send files as parts of their own"))
            }
            (None, Some(parts)) => parts_checked(parts).map(Content::Parts),
        }?;
        Ok(Self { id, content })
    }

    /// The runner's request for the turn `id`.
    ///
    /// # Errors
    /// None that a client could cause.
    pub fn turn_request(&self, id: &Key) -> Result<Bytes, ApiError> {
        let id = id.as_str();
        let bytes = match &self.content {
            Content::Parts(parts) => serde_json::to_vec(&TurnRequest { id, parts }),
            Content::Text { text, attachments } => {
                let mut parts = vec![Part::Text { text }];
                parts.extend(attachments.iter().map(Attachment::part));
                serde_json::to_vec(&TurnRequest { id, parts })
            }
        };
        bytes.map(Bytes::from).map_err(|error| bad(format!("body: {error}")))
    }
}

impl Attachment<'_> {
    fn check(&self, at: &str) -> Result<(), ApiError> {
        if !ATTACHMENT_TYPES.contains(&self.mime_type.as_str()) {
            return Err(bad(format!("{at}.mime_type: must be one of {}", ATTACHMENT_TYPES.join(", "))));
        }
        if self.name.as_ref().is_some_and(|name| name.chars().count() > MAX_ATTACHMENT_NAME) {
            return Err(bad(format!("{at}.name: must have at most {MAX_ATTACHMENT_NAME} characters")));
        }
        match base64_len(&self.base64) {
            None | Some(0) => Err(bad(format!("{at}.base64: must be standard base64 with padding"))),
            Some(length) if length > MAX_ATTACHMENT_BYTES => {
                Err(bad(format!("{at}.base64: must hold at most {MAX_ATTACHMENT_BYTES} bytes")))
            }
            Some(_) => Ok(()),
        }
    }

    fn part(&self) -> Part<'_> {
        Part::File {
            mime: &self.mime_type,
            filename: self.name.as_deref(),
            url: format!("data:{};base64,{}", self.mime_type, self.base64),
        }
    }
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(message)
}

/// opencode takes an empty message for "the last one once more".
fn non_empty(text: String) -> Result<String, ApiError> {
    if text.trim().is_empty() { Err(bad("text: must not be empty")) } else { Ok(text) }
}

fn parts_checked(raw: &RawValue) -> Result<&RawValue, ApiError> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(rename = "type", borrow, default)]
        kind: Option<&'a RawValue>,
    }
    let count = each("parts", raw, |index, part| {
        let kind = part.get().starts_with('{').then(|| serde_json::from_str::<Typed<'_>>(part.get()));
        match kind {
            None => Err(bad(format!("parts[{index}]: must be an object"))),
            Some(Ok(Typed { kind: Some(kind) })) if kind.get().starts_with('"') => Ok(()),
            Some(_) => Err(bad(format!("parts[{index}].type: must be a string"))),
        }
    })?;
    if count == 0 { Err(bad("parts: must not be empty")) } else { Ok(raw) }
}

fn attachments(raw: Option<&RawValue>) -> Result<Vec<Attachment<'_>>, ApiError> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let mut attachments = Vec::new();
    each("attachments", raw, |index, raw| {
        let at = format!("attachments[{index}]");
        if index >= MAX_ATTACHMENTS {
            return Err(bad(format!("attachments: at most {MAX_ATTACHMENTS} are taken")));
        }
        if !raw.get().starts_with('{') {
            return Err(bad(format!("{at}: must be an object")));
        }
        let attachment: Attachment<'_> = serde_json::from_str(raw.get()).map_err(|_| {
            bad(format!("{at}: needs the strings mime_type and base64, and may have the string name"))
        })?;
        attachment.check(&at)?;
        attachments.push(attachment);
        Ok(())
    })?;
    Ok(attachments)
}

/// How many bytes `text` decodes to; nothing if it is no standard base64 with padding.
fn base64_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let padding = bytes.iter().rev().take(2).take_while(|b| **b == b'=').count();
    let digits = &bytes[..bytes.len() - padding];
    let digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    digits.iter().all(digit).then(|| bytes.len() / 4 * 3 - padding)
}

/// Calls `check` with every element of the array in `raw`, up to the first that is refused; returns how many
/// there are. No element is kept.
fn each<'a>(
    field: &str,
    raw: &'a RawValue,
    check: impl FnMut(usize, &'a RawValue) -> Result<(), ApiError>,
) -> Result<usize, ApiError> {
    struct Each<F>(F);

    impl<'de, F: FnMut(usize, &'de RawValue) -> Result<(), ApiError>> Visitor<'de> for Each<F> {
        type Value = Result<usize, ApiError>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut count = 0;
            let mut verdict = Ok(());
            while let Some(element) = array.next_element::<&RawValue>()? {
                if verdict.is_ok() {
                    verdict = (self.0)(count, element);
                }
                count += 1;
            }
            Ok(verdict.map(|()| count))
        }
    }

    impl<'de, F: FnMut(usize, &'de RawValue) -> Result<(), ApiError>> DeserializeSeed<'de> for Each<F> {
        type Value = Result<usize, ApiError>;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(self)
        }
    }

    Each(check)
        .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
        .map_err(|_| bad(format!("{field}: must be an array")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_runnerapi::TurnRequest as RunnerRequest;
    use serde_json::{Value, json};

    fn request(body: &Value) -> RunnerRequest {
        let bytes = serde_json::to_vec(body).unwrap();
        let turn = Message::read(&bytes).unwrap().turn_request(&Key::parse("t1", "key").unwrap()).unwrap();
        serde_json::from_slice(&turn).unwrap()
    }

    fn refusal(body: &str) -> String {
        Message::read(body.as_bytes()).unwrap_err().message
    }

    #[test]
    fn text_becomes_one_part_and_parts_stay_as_they_are() {
        assert_eq!(
            request(&json!({"text": "hi", "parts": null, "unknown": 1})),
            RunnerRequest::message("t1", vec![json!({"type": "text", "text": "hi"})])
        );
        let parts = json!([{"type": "text", "text": "a"}, {"type": "x", "deep": {"n": [1.5, null]}}]);
        assert_eq!(request(&json!({"parts": parts})).parts, *parts.as_array().unwrap());
    }

    #[test]
    fn attachments_become_file_parts() {
        let body = json!({"text": "see", "attachments": [{"name": "a.png", "mime_type": "image/png", "base64": "aGk="}]});
        assert_eq!(
            request(&body).parts[1],
            json!({"type": "file", "mime": "image/png", "filename": "a.png", "url": "data:image/png;base64,aGk="})
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, names) in [
            (r#"{}"#, "text, parts: one"),
            (r#"{"text":null}"#, "text, parts: one"),
            (r#"{"text":"a","parts":[{"type":"text"}]}"#, "text, parts: give one"),
            (r#"{"text":""}"#, "text: must not be empty"),
            (r#"{"text":" \n"}"#, "text: must not be empty"),
            (r#"{"text":5}"#, "text: must be a string"),
            (r#"{"parts":[]}"#, "parts: must not be empty"),
            (r#"{"parts":{}}"#, "parts: must be an array"),
            (r#"{"parts":[{"type":"text"},"x"]}"#, "parts[1]: must be an object"),
            (r#"{"parts":[{"type":1}]}"#, "parts[0].type"),
            (r#"{"parts":[{}]}"#, "parts[0].type"),
            (r#"{"text":"a","message_id":""}"#, "message_id"),
            (r#"{"text":"a","message_id":7}"#, "message_id: must be a string"),
            (r#"{"text":"a","attachments":[1]}"#, "attachments[0]: must be an object"),
            (r#"{"text":"a","attachments":[{}]}"#, "attachments[0]: needs"),
            (
                r#"{"text":"a","attachments":[{"mime_type":"text/html","base64":"aGk="}]}"#,
                "attachments[0].mime_type",
            ),
            (
                r#"{"text":"a","attachments":[{"mime_type":"image/png","base64":"a*k="}]}"#,
                "attachments[0].base64",
            ),
            (
                r#"{"text":"a","attachments":[{"mime_type":"image/png","base64":""}]}"#,
                "attachments[0].base64",
            ),
            (r#"{"parts":[{"type":"a"}],"attachments":[]}"#, "attachments: go with text"),
            (r#"{"text":"a","text":"b"}"#, "duplicate field `text`"),
            (r#"{"text":"#, "malformed JSON"),
        ] {
            let message = refusal(body);
            assert!(message.contains(names), "{body}: {message}");
        }
        let eleven = json!({"text": "a", "attachments": vec![json!({"mime_type": "image/png", "base64": "aGk="}); 11]});
        assert!(refusal(&eleven.to_string()).contains("at most 10"));
        let large = "A".repeat(MAX_ATTACHMENT_BYTES / 3 * 4 + 8);
        let large = json!({"text": "a", "attachments": [{"mime_type": "image/png", "base64": large}]});
        assert!(refusal(&large.to_string()).contains("at most 5242880 bytes"));
    }

    #[test]
    fn an_error_never_repeats_what_the_client_sent() {
        assert!(!refusal(r#"{"parts":[{"type":{"secret":"hunter2"}}]}"#).contains("hunter2"));
        assert!(!refusal(r#"{"text":"a","attachments":[{"base64":"hunter2"}]}"#).contains("hunter2"));
    }
}
