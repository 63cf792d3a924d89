//! Why a session does not do as it should.

use http::Method;
use paddock_api::http::ErrorCode;
use serde_json::json;

use super::OF_OBJECT;
use crate::diagnosis::view::Diagnosis;
use crate::openapi::operation::{Content, Header, Operation, Tag, schema_of};
use crate::openapi::parameters::number;
use crate::routes::log::LogEntry;
use crate::routes::router::{DIAGNOSE, LOG, SANDBOX_LOGS};
use crate::routes::sandbox_logs::{SINCE_SECONDS, TAIL_LINES};

pub fn log() -> Operation {
    Operation::new(Method::GET, LOG, Tag::Looks, "The time line of a session, for people")
        .answers(200, Content::Json(schema_of::<Vec<LogEntry>>), "What happened, the first first.")
        .like(json!([
            {"id": "s1:created", "kind": "created", "at": "2026-01-01T00:00:00Z", "title": "Session created"},
        ]))
        .fails(OF_OBJECT)
        .fails(&[ErrorCode::Unreachable, ErrorCode::TranscriptUnavailable])
}

pub fn sandbox_logs() -> Operation {
    Operation::new(Method::GET, SANDBOX_LOGS, Tag::Looks, "What the harness's container has written")
        .takes([
            number(&SINCE_SECONDS, "Only what was written within the last so many seconds."),
            number(&TAIL_LINES, "Only so many of the last lines."),
        ])
        .answers(200, Content::Text, "The container's output, at most 8 MiB of it.")
        .with([Header {
            name: "x-content-type-options",
            required: true,
            description: "It is text and nothing else.",
            schema: json!({"const": "nosniff"}),
        }])
        .fails(OF_OBJECT)
        .fails(&[ErrorCode::Suspended, ErrorCode::Failed, ErrorCode::Dead, ErrorCode::NotReady])
}

pub fn diagnose() -> Operation {
    Operation::new(
        Method::GET,
        DIAGNOSE,
        Tag::Looks,
        "All that is known about a session, and what is wrong with it",
    )
    .answers(
        200,
        Content::Json(schema_of::<Diagnosis>),
        "A part that could not be read says so in its place.",
    )
    .fails(OF_OBJECT)
}
