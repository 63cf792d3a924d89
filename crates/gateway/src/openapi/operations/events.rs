//! What happens in a session, as it happens.

use http::Method;
use paddock_api::http::{ErrorCode, HarnessEvent};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use super::{NOT_READY, OF_OBJECT, messages};
use crate::openapi::operation::{Content, NamesTurn, Operation, Shape, Tag, schema_of};
use crate::openapi::parameters::{idempotency_key, prefer_wait, query, resumes, stream_headers, wait};
use crate::routes::router::{EVENTS, MESSAGE_STREAM, STREAM};
use crate::streams::dialect::{Plain, Wrapped};

const WRAPPED: Content = Content::Events(schema_of::<Wrapped<'static>>);
/// What goes wrong when a session's pod shall tell its events.
const OF_EVENTS: &[ErrorCode] = &[
    ErrorCode::TerminalOnly,
    ErrorCode::QueueFull,
    ErrorCode::TooManyStreams,
    ErrorCode::Unreachable,
    ErrorCode::Misrouted,
    ErrorCode::NotReady,
];

pub fn message() -> Operation {
    const SUMMARY: &str = "Sends a message and tells its turn as it goes";
    Operation::new(Method::POST, MESSAGE_STREAM, Tag::Events, SUMMARY)
        .explained(
            "The message is taken as by `message`. The stream ends with `done` once the reply is stored, or with an `error` whose \
             code is one that `message` answers with.",
        )
        .takes([
            wait("How long the message is held until its session is ready."),
            prefer_wait(),
            idempotency_key("Names the turn: a retry with it joins the turn."),
        ])
        .takes(resumes())
        .reads(messages::message())
        .names_turn(NamesTurn::Always)
        .answers(200, WRAPPED, "The data of each event is JSON of this schema.")
        .like(json!({"type": "harness_event", "event": {"type": "session.idle"}}))
        .with(stream_headers())
        .fails(OF_OBJECT)
        .fails(NOT_READY)
        .fails(&[ErrorCode::TerminalOnly, ErrorCode::TooManyStreams, ErrorCode::NotReady])
}

pub fn follow() -> Operation {
    const SUMMARY: &str = "Tells what happens in a session that is ready, from now on";
    Operation::new(Method::GET, EVENTS, Tag::Events, SUMMARY)
        .takes(resumes())
        .answers(200, WRAPPED, "The data of each event is JSON of this schema.")
        .like(json!({"type": "harness_event", "event": {"type": "session.idle"}}))
        .with(stream_headers())
        .fails(OF_OBJECT)
        .fails(OF_EVENTS)
        .fails(&[ErrorCode::Dead])
        .fails_with(409, NOT_READY)
}

pub fn harness() -> Operation {
    const SUMMARY: &str = "Tells the harness's own events, up to the end of a turn";
    let switch = Shape::Like(json!({"enum": ["1", "0", "true", "false"], "default": "0"}));
    Operation::new(Method::GET, STREAM, Tag::Events, SUMMARY)
        .explained("A session that is not ready yet is waited for, up to 60 s.")
        .takes([query("follow", switch, "Whether it goes on after the end of a turn.")])
        .takes(resumes())
        .answers(200, Content::Events(plain), "The data of each event is JSON of this schema.")
        .like(json!({"type": "session.idle"}))
        .with(stream_headers())
        .fails(OF_OBJECT)
        .fails(OF_EVENTS)
        .fails(&[ErrorCode::Dead, ErrorCode::WaitExpired])
        .fails_with(410, &[ErrorCode::Failed, ErrorCode::Dead])
}

/// The gateway's own notices, and the harness's events between them.
fn plain(generator: &mut SchemaGenerator) -> Schema {
    let notice = generator.subschema_for::<Plain<'static>>();
    let event = generator.subschema_for::<HarnessEvent>();
    json_schema!({"anyOf": [notice, event]})
}
