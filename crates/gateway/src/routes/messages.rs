//! `GET /sessions/{id}/messages`: the whole conversation.
//!
//! While the session has a pod its harness is asked, which also knows what no turn stands for. Without one, or where it does not
//! answer, the store is.

use http::{Response, StatusCode};
use paddock_api::Session;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::MESSAGES;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::call::{self, Call};
use crate::relay::lookup;
use crate::relay::target::Target;
use crate::transcripts::{SaveError, conversation};

/// Serves the route.
pub async fn list(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let session = lookup::find(gateway, id.as_str()).await?;
    if let Some(target) = Target::of_pod(&session) {
        match live(gateway, ask, &target).await {
            Ok(answer) => return Ok(answer),
            Err(error) if gateway.transcripts.is_none() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, session = %id, "the pod does not show its conversation; what is stored is shown");
            }
        }
    }
    stored(gateway, &session).await
}

async fn live(gateway: &Gateway, ask: &Ask, target: &Target) -> Result<Response<Answer>, ApiError> {
    let call = Call::get(MESSAGES, &ask.request_id);
    let failed = |what: String| {
        ApiError::new(
            ErrorCode::Unreachable,
            format!("the session's pod does not show its conversation: {what}"),
        )
    };
    let answer = call::send(gateway, target, &call).await.map_err(|error| failed(error.to_string()))?;
    if answer.status() != StatusCode::OK {
        return Err(failed(format!("it answered HTTP {}", answer.status().as_u16())));
    }
    Ok(Answer::relayed(answer))
}

async fn stored(gateway: &Gateway, session: &Session) -> Result<Response<Answer>, ApiError> {
    let messages = match (&gateway.transcripts, &session.metadata.uid) {
        (Some(keeper), Some(uid)) => {
            conversation::read(keeper.store(), uid).await.map_err(|error| SaveError::of_reading(&error))?
        }
        _ => Vec::new(),
    };
    Ok(Answer::json(&messages))
}
