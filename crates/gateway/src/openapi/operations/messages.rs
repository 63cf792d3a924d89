//! What is said in a session.

use http::Method;
use paddock_api::http::{ApiAborted, ErrorCode, HarnessMessage};
use paddock_runnerapi::RESPOND_ASYNC;
use serde_json::{Value, json};

use super::{NOT_READY, OF_OBJECT};
use crate::openapi::operation::{Body, Content, Header, NamesTurn, Operation, Tag, schema_of};
use crate::openapi::parameters::{idempotency_key, prefer_async, wait};
use crate::relay::outcome::TurnView;
use crate::routes::message_body::Fields;
use crate::routes::router::{ABORT, MESSAGE, MESSAGES, TURN};

/// What goes wrong between the gateway and a session's pod.
pub const OF_POD: &[ErrorCode] =
    &[ErrorCode::Unreachable, ErrorCode::Misrouted, ErrorCode::NotReady, ErrorCode::QueueFull];

/// What goes wrong with a turn.
pub const OF_TURN: &[ErrorCode] = &[
    ErrorCode::TerminalOnly,
    ErrorCode::TurnMismatch,
    ErrorCode::TurnLost,
    ErrorCode::HarnessFailed,
    ErrorCode::TurnTimeout,
    ErrorCode::Interrupted,
    ErrorCode::JournalFailed,
    ErrorCode::TranscriptUnavailable,
    ErrorCode::WaitExpired,
];

pub fn send() -> Operation {
    Operation::new(Method::POST, MESSAGE, Tag::Messages, "Sends a message and answers with the agent's reply")
        .explained(
            "There is no byte before the agent has finished. A session runs one turn at a time; further messages wait in line. A \
             client that goes away does not cancel its turn.",
        )
        .takes([
            wait("How long the message is held until its session is ready."),
            prefer_async(),
            idempotency_key("Names the turn: a retry with it joins the turn or gets its result."),
        ])
        .reads(message())
        .names_turn(NamesTurn::Always)
        .answers(200, Content::Json(schema_of::<HarnessMessage>), "The reply, word for word.")
        .like(reply())
        .answers(202, Content::Json(schema_of::<TurnView>), "The turn is accepted, as `Prefer` has asked.")
        .like(json!({"id": "fix-1", "state": "running"}))
        .with([
            Header {
                name: "location",
                required: true,
                description: "Where the turn's outcome will be.",
                schema: json!({"type": "string"}),
            },
            Header {
                name: "preference-applied",
                required: true,
                description: "What was preferred.",
                schema: json!({"const": RESPOND_ASYNC}),
            },
        ])
        .fails(OF_OBJECT)
        .fails(NOT_READY)
        .fails(OF_POD)
        .fails(OF_TURN)
}

fn reply() -> Value {
    let info = json!({"id": "msg_1", "role": "assistant"});
    json!({"info": info, "parts": [{"type": "text", "text": "The test is fixed."}]})
}

/// The body of a message.
pub fn message() -> Body {
    let picture: Value = json!({"mime_type": "image/png", "base64": "iVBORw0KGgo="});
    Body {
        schema: schema_of::<Fields<'static>>,
        required_members: &[],
        required: true,
        examples: vec![
            ("text", json!({"text": "Fix the failing test."})),
            ("picture", json!({"text": "What is on this picture?", "attachments": [picture]})),
            ("parts", json!({"parts": [{"type": "text", "text": "Fix the failing test."}]})),
        ],
    }
}

pub fn abort() -> Operation {
    Operation::new(Method::POST, ABORT, Tag::Messages, "Stops the turn that runs")
        .explained("The turn's own request is answered as the harness ends it, and turns that wait go on.")
        .answers(200, Content::Json(schema_of::<ApiAborted>), "It is stopped, or none ran.")
        .fails(OF_OBJECT)
        .fails(NOT_READY)
        .fails(OF_POD)
        .fails(&[ErrorCode::TerminalOnly, ErrorCode::HarnessFailed])
}

pub fn list() -> Operation {
    Operation::new(Method::GET, MESSAGES, Tag::Messages, "Shows the whole conversation")
        .answers(
            200,
            Content::Json(schema_of::<Vec<HarnessMessage>>),
            "All messages, steps and tools included.",
        )
        .fails(OF_OBJECT)
        .fails(&[ErrorCode::Unreachable, ErrorCode::TranscriptUnavailable])
}

pub fn turn() -> Operation {
    Operation::new(Method::GET, TURN, Tag::Messages, "Shows a turn, with its reply once it has ended")
        .takes([wait("How long the end of the turn is waited for; at most 60 s.")])
        .answers(200, Content::Json(schema_of::<TurnView>), "Where the turn is.")
        .like(json!({"id": "fix-1", "state": "completed", "reply": reply()}))
        .names_turn(NamesTurn::OnceKnown)
        .fails(OF_OBJECT)
        .fails(OF_POD)
        .fails(&[ErrorCode::Dead, ErrorCode::TurnLost, ErrorCode::TranscriptUnavailable])
}
