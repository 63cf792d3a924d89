//! What a harness says, as far as clients may count on it. It is passed on as it came, so these are schemas and no types: the
//! gateway neither builds nor reads such a value as a whole.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A message of the conversation: the user's, or the agent's reply.
#[derive(Debug)]
pub struct HarnessMessage;

/// A part of a message.
#[derive(Debug)]
pub struct HarnessPart;

/// The reply to a session's first prompt.
#[derive(Debug)]
pub struct HarnessReply;

/// Something that happened in the harness.
#[derive(Debug)]
pub struct HarnessEvent;

impl JsonSchema for HarnessMessage {
    fn schema_name() -> Cow<'static, str> {
        "HarnessMessage".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<HarnessPart>();
        json_schema!({
            "description": "A message as the harness tells it. It has more fields than these.",
            "type": "object", "required": ["info", "parts"], "additionalProperties": true,
            "properties": {
                "info": {"type": "object", "additionalProperties": true},
                "parts": {"type": "array", "items": part},
            },
        })
    }
}

impl JsonSchema for HarnessReply {
    fn schema_name() -> Cow<'static, str> {
        "HarnessReply".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<HarnessPart>();
        json_schema!({
            "description": "The reply to a session's first prompt.",
            "type": "object", "required": ["parts"],
            "properties": {"parts": {"type": "array", "items": part}},
        })
    }
}

impl JsonSchema for HarnessPart {
    fn schema_name() -> Cow<'static, str> {
        "HarnessPart".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A part of a message in the harness's own form; one of the type `text` has a `text`.",
            "type": "object", "required": ["type"], "additionalProperties": true,
            "properties": {"type": {"type": "string"}},
        })
    }
}

impl JsonSchema for HarnessEvent {
    fn schema_name() -> Cow<'static, str> {
        "HarnessEvent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An event in the harness's own form.",
            "type": "object", "required": ["type"], "additionalProperties": true,
            "properties": {"type": {"type": "string"}},
        })
    }
}
