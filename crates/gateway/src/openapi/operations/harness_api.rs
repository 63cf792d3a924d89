//! The harness's own API.

use http::Method;
use paddock_api::http::ErrorCode;

use super::messages::{OF_POD, OF_TURN};
use super::{NOT_READY, OF_OBJECT};
use crate::openapi::operation::{NamesTurn, Operation, Tag};
use crate::routes::router::HARNESS_API;

pub fn any() -> Operation {
    let operation = Operation::new(
        Method::GET,
        HARNESS_API,
        Tag::Messages,
        "The harness's own API, for opencode's SDK and CLI",
    );
    let methods = vec![Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    Operation { methods, ..operation }
        .explained(
            "What begins work there is a turn as any other. Everything else passes as it is, or is refused where it would change \
             what the agent may do. A turn takes `wait` and `Idempotency-Key` as a message does.",
        )
        .relays("What the harness itself answers.")
        .names_turn(NamesTurn::OnceKnown)
        .fails(OF_OBJECT)
        .fails(NOT_READY)
        .fails(OF_POD)
        .fails(OF_TURN)
        .fails(&[ErrorCode::Forbidden, ErrorCode::TooManyStreams])
}
