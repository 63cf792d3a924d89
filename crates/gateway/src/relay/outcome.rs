//! What is known of one turn: its runner's word while the session has a pod, and what is stored of it.

use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use paddock_api::Session;
use paddock_api::http::{ErrorCode, HarnessMessage};
use paddock_runnerapi::{TURNS, TurnState};
use paddock_transcripts::EntryKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::call::{self, Call};
use super::target::Target;
use super::{turn, verdict};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::idempotency::Key;
use crate::http::request_id::RequestId;
use crate::http::segment;
use crate::transcripts::conversation::TurnError;
use crate::transcripts::{SaveError, Unsaved};

/// Largest answer that is read: a reply of the largest size that a runner keeps, and more.
const MAX_BYTES: usize = 64 << 20;
/// So much longer than it was asked to wait a runner may take for its answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A turn as its client sees it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Turn")]
pub struct TurnView {
    /// Its id.
    #[serde(default)]
    pub id: String,
    /// Where it is.
    pub state: TurnState,
    /// The harness's reply, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HarnessMessage")]
    pub reply: Option<Box<RawValue>>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TurnError")]
    pub error: Option<TurnError>,
}

impl TurnView {
    /// A turn that has come only so far.
    pub fn on_its_way(id: &Key, state: TurnState) -> Self {
        Self { id: id.to_string(), state, reply: None, error: None }
    }

    /// A turn whose end nobody saw.
    pub fn lost(id: &Key) -> Self {
        let error = "the session's pod ended before the turn did; it may have had effects. The session's next pod tells its \
                     reply where its harness still has it; otherwise send the message again under a new key";
        let error = TurnError { code: ErrorCode::Interrupted.as_str().to_owned(), error: error.to_owned() };
        Self { error: Some(error), ..Self::on_its_way(id, TurnState::Interrupted) }
    }

    /// Whether nothing more becomes of it.
    pub fn has_ended(&self) -> bool {
        !matches!(self.state, TurnState::Queued | TurnState::Running)
    }
}

/// What the runner at `target` says of a turn, once it has ended or `wait` has passed; nothing where it knows no such turn. An
/// end is stored before it is told.
///
/// # Errors
/// The runner does not answer, or the end cannot be stored.
pub async fn of_pod(
    gateway: &Gateway,
    session: &Session,
    target: &Target,
    turn: &Key,
    wait: Duration,
    request_id: &RequestId,
) -> Result<Option<TurnView>, ApiError> {
    let path = format!("{TURNS}/{}?wait_ms={}", segment::encode(turn.as_str()), wait.as_millis());
    let call = Call::get(path, request_id);
    let asked = async {
        let answer =
            call::send(gateway, target, &call).await.map_err(|error| unreachable(&error.to_string()))?;
        let named = verdict::is_about(&answer, turn.as_str());
        match answer.status() {
            StatusCode::OK if named => {}
            StatusCode::NOT_FOUND if named => return Ok(None),
            _ => {
                let error = verdict::error_of(answer).await;
                return Err(error.unwrap_or_else(|| unreachable("it answered, but not about this turn")));
            }
        }
        let (head, body) = answer.into_parts();
        let body =
            Limited::new(body, MAX_BYTES).collect().await.map_err(|error| unreachable(&error.to_string()))?;
        let view: TurnView =
            serde_json::from_slice(&body.to_bytes()).map_err(|error| unreachable(&error.to_string()))?;
        Ok(Some((http::Response::from_parts(head, ()), view)))
    };
    let told = tokio::time::timeout(wait + ANSWER_TIME, asked).await;
    let Some((head, view)) = told.map_err(|_| unreachable("it did not answer in time"))?? else {
        return Ok(None);
    };
    if view.has_ended() {
        turn::keep(gateway, session, target, turn, &head, request_id)
            .await
            .map_err(|error| error.of_turn(turn.as_str(), Unsaved::Outcome))?;
    }
    Ok(Some(view))
}

/// What is stored of a turn.
#[derive(Debug)]
pub enum Stored {
    /// Nothing.
    Nothing,
    /// That it was accepted.
    Begun,
    /// How it ended.
    Ended(TurnView),
}

/// What the store has of a turn of the session with this UID.
///
/// # Errors
/// The store's.
pub async fn stored(gateway: &Gateway, session_uid: &str, turn: &Key) -> Result<Stored, ApiError> {
    let Some(keeper) = &gateway.transcripts else { return Ok(Stored::Nothing) };
    let read = keeper.store().turn(session_uid, turn.as_str()).await;
    let entries = read.map_err(|error| SaveError::of_reading(&error))?;
    let Some((_, end)) = entries.iter().rfind(|(_, entry)| entry.kind == EntryKind::Ended) else {
        return Ok(if entries.is_empty() { Stored::Nothing } else { Stored::Begun });
    };
    match serde_json::from_str::<TurnView>(&end.body) {
        Ok(view) => Ok(Stored::Ended(TurnView { id: turn.to_string(), ..view })),
        Err(error) => {
            tracing::error!(%turn, seq = end.seq, %error, "the stored end of a turn cannot be read");
            Err(ApiError::new(
                ErrorCode::Internal,
                "the turn has ended, and what is stored of its end cannot be read",
            ))
        }
    }
}

fn unreachable(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Unreachable,
        format!("the session's pod does not tell of its turns: {what}; ask again"),
    )
}
