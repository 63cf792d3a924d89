//! What each route takes and answers.
//!
//! A route that takes several methods names them in `Operation::methods`. A template that ends in `{path}` takes the rest of a
//! path, and `Operation::relays` says that the answer is somebody else's.

mod agents;
mod events;
mod harness_api;
mod looks;
mod messages;
mod sessions;
mod terminal;

use http::Method;
use paddock_api::http::{ApiClusterHealth, ErrorCode};
use serde_json::json;

use super::operation::{Content, Header, Operation, Parameter, Place, Shape, Tag, schema_of};
use crate::routes::router::{self, RouteKind};

/// Errors of whatever looks for one object.
const OF_OBJECT: &[ErrorCode] = &[ErrorCode::NotFound, ErrorCode::ClusterUnavailable];
/// Errors of whatever needs a session that is ready.
const NOT_READY: &[ErrorCode] =
    &[ErrorCode::Creating, ErrorCode::Suspended, ErrorCode::Failed, ErrorCode::Dead];

/// What the route takes and answers.
pub fn of(kind: RouteKind) -> Operation {
    match kind {
        RouteKind::ListAgents => agents::list(),
        RouteKind::CreateAgent => agents::create(),
        RouteKind::GetAgent => agents::get(),
        RouteKind::UpdateAgent => agents::update(),
        RouteKind::DeleteAgent => agents::delete(),
        RouteKind::CreateSession => sessions::create(),
        RouteKind::ListSessions => sessions::list(),
        RouteKind::GetSession => sessions::get(),
        RouteKind::DeleteSession => sessions::delete(),
        RouteKind::StopSession => sessions::stop(),
        RouteKind::SuspendSession => sessions::suspend(),
        RouteKind::ResumeSession => sessions::resume(),
        RouteKind::RestartSession => sessions::restart(),
        RouteKind::SendMessage => messages::send(),
        RouteKind::AbortSession => messages::abort(),
        RouteKind::ListMessages => messages::list(),
        RouteKind::GetTurn => messages::turn(),
        RouteKind::StreamMessage => events::message(),
        RouteKind::FollowEvents => events::follow(),
        RouteKind::FollowHarness => events::harness(),
        RouteKind::HarnessApi => harness_api::any(),
        RouteKind::AttachTerminal => terminal::attach(),
        RouteKind::SessionLog => looks::log(),
        RouteKind::SandboxLogs => looks::sandbox_logs(),
        RouteKind::Diagnose => looks::diagnose(),
        RouteKind::ClusterHealth => cluster_health(),
        RouteKind::OpenApi => open_api(),
    }
}

fn cluster_health() -> Operation {
    let health = Content::Json(schema_of::<ApiClusterHealth>);
    Operation::new(Method::GET, router::HEALTH, Tag::Gateway, "Whether the API server answers this gateway")
        .answers(200, health, "It does.")
        .answers(503, health, "It does not, or this gateway cannot say.")
}

fn open_api() -> Operation {
    let headers = || {
        [
            Header {
                name: "etag",
                required: true,
                description: "Names this version.",
                schema: json!({"type": "string"}),
            },
            Header {
                name: "cache-control",
                required: true,
                description: "It may be kept, and has to be asked for each time.",
                schema: json!({"const": "no-cache"}),
            },
        ]
    };
    let document =
        Content::Json(|_| schemars::json_schema!({"type": "object", "additionalProperties": true}));
    Operation::new(Method::GET, router::OPENAPI, Tag::Gateway, "This document")
        .public()
        .takes([Parameter {
            name: "If-None-Match",
            place: Place::Header,
            description: "The `etag` of the version that the client has.".to_owned(),
            shape: Shape::Like(json!({"type": "string"})),
        }])
        .answers(200, document, "The document.")
        .with(headers())
        .answers(304, Content::Nothing, "The client has it.")
        .with(headers())
}
