//! `GET /sessions/{id}/events` and `GET /sessions/{id}/stream`: what happens in a session, for those who only read.

use std::sync::Arc;

use http::Response;
use paddock_api::Session;
use paddock_api::http::{ApiStatus, ErrorCode};
use tokio::time::Instant;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::query::invalid;
use crate::relay::lookup;
use crate::relay::target::Target;
use crate::streams::dialect::Dialect;
use crate::streams::tail::{self, Until};
use crate::streams::{resume, sse};

/// Serves `/events`, of a session that is ready.
pub async fn events(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    id: &ObjectName,
) -> Result<Response<Answer>, ApiError> {
    let session = lookup::find(gateway, id.as_str()).await?;
    let target = match Target::of(&session) {
        Ok(target) => target,
        // The index may be a moment behind; nobody is turned away on its word alone.
        Err(_) => Target::of(&*lookup::read_again(gateway, &session).await?).map_err(not_ready)?,
    };
    begin(gateway, ask, id, &target, Dialect::Wrapped, Until::Forever).await
}

/// Serves `/stream`, which waits for its session.
pub async fn harness(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    id: &ObjectName,
) -> Result<Response<Answer>, ApiError> {
    let until = match ask.query.get("follow")? {
        None | Some("0" | "false") => Until::Rest,
        Some("1" | "true") => Until::Forever,
        Some(_) => return Err(invalid("follow", "1 or 0")),
    };
    let target = once_ready(gateway, id).await?;
    begin(gateway, ask, id, &target, Dialect::Plain, until).await
}

async fn begin(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    id: &ObjectName,
    target: &Target,
    dialect: Dialect,
    until: Until,
) -> Result<Response<Answer>, ApiError> {
    let after = resume::after(&ask.query, &ask.head.headers)?;
    let (pod, at) = crate::relay::events::follow(gateway, target, after, &ask.request_id).await?;
    let (writer, response) = sse::open(gateway, dialect, at);
    tokio::spawn(tail::run(gateway.clone(), id.to_string(), pod, writer, until));
    Ok(response)
}

/// Whoever asks for a session as it is now is told so by 409.
fn not_ready(error: ApiError) -> ApiError {
    match error.code {
        ErrorCode::Creating | ErrorCode::Suspended | ErrorCode::Failed | ErrorCode::Dead => {
            error.as_conflict()
        }
        _ => error,
    }
}

/// Where the session is, once it is ready.
async fn once_ready(gateway: &Gateway, id: &ObjectName) -> Result<Target, ApiError> {
    let deadline = Instant::now() + gateway.relay.stream_ready;
    let mut session = lookup::find(gateway, id.as_str()).await?;
    if ApiStatus::of(&session) != ApiStatus::Ready {
        session = lookup::read_again(gateway, &session).await?;
    }
    if !is_settled(&session) {
        let same = |now: &Session| now.metadata.uid == session.metadata.uid;
        let enough = |now: Option<&Session>| now.is_none_or(|now| !same(now) || is_settled(now));
        let now = gateway.index.session_when(id.as_str(), deadline, enough).await;
        session = lookup::same(&session, now)?;
    }
    if !is_settled(&session) {
        return Err(ApiError::new(
            ErrorCode::WaitExpired,
            format!(
                "session {id} was not ready within {} s; follow it again later",
                gateway.relay.stream_ready.as_secs()
            ),
        ));
    }
    Target::of(&session).map_err(|mut error| {
        if matches!(error.code, ErrorCode::Failed | ErrorCode::Dead) {
            error.status = 410;
        }
        error
    })
}

/// Whether waiting changes nothing any more.
fn is_settled(session: &Session) -> bool {
    matches!(ApiStatus::of(session), ApiStatus::Ready | ApiStatus::Failed | ApiStatus::Dead)
}
