//! Sessions and their lives.

use http::Method;
use paddock_api::http::{ApiDeleted, ApiSession, ApiStatus, ErrorCode};
use serde_json::json;

use super::OF_OBJECT;
use crate::openapi::operation::{Body, Content, Header, Operation, Tag, schema_of};
use crate::openapi::parameters::{idempotency_key, number, prefer_wait, text, wait, word};
use crate::routes::create::Fields;
use crate::routes::router::{AGENT_SESSION, RESTART, RESUME, SESSION, SESSIONS, STOP, SUSPEND};
use crate::routes::sessions::LIMIT;

const SESSION_JSON: Content = Content::Json(schema_of::<ApiSession>);

pub fn create() -> Operation {
    Operation::new(Method::POST, AGENT_SESSION, Tag::Sessions, "Makes a session of an agent")
        .takes([
            wait("How long the answer is held until the session is ready; at most an hour."),
            prefer_wait(),
            idempotency_key("The same key for the same agent is the same session."),
        ])
        .reads(Body {
            schema: schema_of::<Fields<'static>>,
            required_members: &[],
            required: false,
            examples: vec![("titled", json!({"title": "A first one", "initial_prompt": "Say hello."}))],
        })
        .answers(200, SESSION_JSON, "The session, `creating` or already `ready`.")
        .fails(OF_OBJECT)
        .fails(&[ErrorCode::Unsupported, ErrorCode::SessionMismatch])
}

pub fn list() -> Operation {
    Operation::new(Method::GET, SESSIONS, Tag::Sessions, "Lists sessions, the newest first")
        .takes([
            text("agent_id", "Only those of this agent."),
            word::<ApiStatus>("status", "Only those with this status."),
            number(&LIMIT, "How many at most."),
            text("cursor", "Where to go on; the `Link` header has it."),
        ])
        .answers(200, Content::Json(schema_of::<Vec<ApiSession>>), "A page of them.")
        .with([Header {
            name: "link",
            required: false,
            description: "The next page, where there is one.",
            schema: json!({"type": "string", "pattern": "^<[^>]+>; rel=\"next\"$"}),
        }])
}

pub fn get() -> Operation {
    Operation::new(Method::GET, SESSION, Tag::Sessions, "Shows a session")
        .answers(200, SESSION_JSON, "The session.")
        .fails(OF_OBJECT)
}

pub fn delete() -> Operation {
    ends(Operation::new(Method::DELETE, SESSION, Tag::Sessions, "Stops a session; its record stays"))
}

pub fn stop() -> Operation {
    ends(Operation::new(Method::POST, STOP, Tag::Sessions, "The same as DELETE"))
}

fn ends(operation: Operation) -> Operation {
    operation
        .answers(200, Content::Json(schema_of::<ApiDeleted>), "It is told to stop, or had ended before.")
        .fails(OF_OBJECT)
}

pub fn suspend() -> Operation {
    const SUMMARY: &str = "Gives a session's pod back and keeps its persistent workspace";
    changes(Operation::new(Method::POST, SUSPEND, Tag::Sessions, SUMMARY))
        .takes([wait("How long it is waited for; 30 s where nothing is said."), prefer_wait()])
        .fails(&[ErrorCode::WorkspaceNotPersistent, ErrorCode::Failed, ErrorCode::Dead])
        .fails_with(409, &[ErrorCode::Creating])
}

pub fn resume() -> Operation {
    changes(Operation::new(
        Method::POST,
        RESUME,
        Tag::Sessions,
        "Goes on with a suspended session in a new pod",
    ))
    .takes([wait("How long it is waited for; 60 s where nothing is said."), prefer_wait()])
    .fails(&[ErrorCode::StartFailed, ErrorCode::Failed, ErrorCode::Dead])
}

pub fn restart() -> Operation {
    changes(Operation::new(Method::POST, RESTART, Tag::Sessions, "Gives a session a new pod"))
        .explained("It keeps its id and its conversation, and the files of a persistent workspace. Ended sessions can be restarted too.")
        .takes([
            wait("How long it is waited for; the session's startup timeout where nothing is said."),
            prefer_wait(),
        ])
        .fails(&[ErrorCode::StartFailed, ErrorCode::Dead])
        .fails_with(409, &[ErrorCode::Creating])
}

fn changes(operation: Operation) -> Operation {
    operation
        .answers(200, SESSION_JSON, "The session as it is now.")
        .fails(OF_OBJECT)
        .fails(&[ErrorCode::Superseded, ErrorCode::WaitExpired])
}
