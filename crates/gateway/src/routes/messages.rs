//! `GET /sessions/{id}/messages`: the whole conversation.
//!
//! While the session has a pod its harness is asked, which also knows what no turn stands for. Without one, or where it does not
//! answer, the store is.

use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use paddock_api::Session;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::MESSAGES;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::call::{self, Call};
use crate::relay::connections::Reply;
use crate::relay::lookup;
use crate::relay::target::{self, Target};
use crate::transcripts::{SaveError, conversation};

/// Largest conversation of a harness that is read here, and not passed on as it comes.
const MOST_BYTES: usize = 64 << 20;

/// Serves the route.
pub async fn list(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let session = lookup::find(gateway, id.as_str()).await?;
    Ok(match live(gateway, ask, &session, async |answer| Ok(answer)).await? {
        Some(answer) => Answer::relayed(answer),
        None => Answer::json(&stored(gateway, &session).await?),
    })
}

/// The same conversation, each of its messages read as a `T`. One that is none is left out.
///
/// # Errors
/// Neither pod nor store show it.
pub async fn read<T: DeserializeOwned>(
    gateway: &Gateway,
    ask: &Ask,
    session: &Session,
) -> Result<Vec<T>, ApiError> {
    let whole = async |answer: Response<Reply>| {
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| not_shown(&error.to_string()))?.to_bytes();
        serde_json::from_slice::<Vec<Box<RawValue>>>(&body).map_err(|error| not_shown(&error.to_string()))
    };
    let messages = match live(gateway, ask, session, whole).await? {
        Some(messages) => messages,
        None => stored(gateway, session).await?,
    };
    Ok(messages.iter().filter_map(|message| serde_json::from_str(message.get()).ok()).collect())
}

/// What `take` makes of the pod's answer; nothing where the store is to be asked instead.
async fn live<T>(
    gateway: &Gateway,
    ask: &Ask,
    session: &Session,
    take: impl AsyncFnOnce(Response<Reply>) -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    let Some(target) = Target::of_pod(session) else { return Ok(None) };
    if target::terminal_only(session).is_err() {
        // Nothing was said to it; its time line is told all the same.
        return Ok(None);
    }
    let call = Call::get(MESSAGES, &ask.request_id);
    let shown = match call::send(gateway, &target, &call).await {
        Ok(answer) if answer.status() == StatusCode::OK => take(answer).await,
        Ok(answer) => Err(not_shown(&format!("it answered HTTP {}", answer.status().as_u16()))),
        Err(error) => Err(not_shown(&error.to_string())),
    };
    match shown {
        Ok(shown) => Ok(Some(shown)),
        Err(error) if gateway.transcripts.is_none() => Err(error),
        Err(error) => {
            tracing::debug!(%error, session = session.metadata.name, "the pod does not show its conversation; what is stored is shown");
            Ok(None)
        }
    }
}

async fn stored(gateway: &Gateway, session: &Session) -> Result<Vec<Box<RawValue>>, ApiError> {
    match (&gateway.transcripts, &session.metadata.uid) {
        (Some(keeper), Some(uid)) => {
            conversation::read(keeper.store(), uid).await.map_err(|error| SaveError::of_reading(&error))
        }
        _ => Ok(Vec::new()),
    }
}

fn not_shown(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Unreachable, format!("the session's pod does not show its conversation: {what}"))
}
