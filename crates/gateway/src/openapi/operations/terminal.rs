//! A session's terminal.

use http::Method;
use paddock_api::http::ErrorCode;
use serde_json::json;

use super::messages::OF_POD;
use super::{NOT_READY, OF_OBJECT};
use crate::openapi::operation::{Content, Header, Operation, Tag};
use crate::routes::router::TTY;

pub fn attach() -> Operation {
    let header = |name, description, schema| Header { name, required: true, description, schema };
    Operation::new(Method::GET, TTY, Tag::Sessions, "Attaches to a session's terminal, over a WebSocket (RFC 6455)")
        .explained(
            "Binary messages are keystrokes one way and the terminal's bytes the other. Text that is a JSON object is \
             `{\"type\": \"resize\", \"cols\", \"rows\"}` or `{\"type\": \"ping\"}`; other text is keystrokes.",
        )
        .token_in_query()
        .answers(101, Content::Nothing, "The connection is a WebSocket now.")
        .with([
            header("upgrade", "What the connection is now.", json!({"const": "websocket"})),
            header("sec-websocket-accept", "The other side of the client's key.", json!({"type": "string"})),
        ])
        .fails(OF_OBJECT)
        .fails(NOT_READY)
        .fails(OF_POD)
        .fails(&[ErrorCode::NoTerminal, ErrorCode::UpgradeRequired, ErrorCode::TooManyStreams])
}
