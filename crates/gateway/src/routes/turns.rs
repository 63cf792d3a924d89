//! `GET /sessions/{id}/turns/{turn}`: where a turn is, and its reply or error once it has ended.
//!
//! | the session has | what is told |
//! | --- | --- |
//! | a pod that knows the turn | what the pod says, an end once it is stored |
//! | a pod that does not know it, or no pod | what is stored; `interrupted` where no end is |
//! | a pod that does not answer | the end where it is stored, else that the pod cannot be asked |
//! | no pod yet, after one that it has lost | the same, once the wait has passed |

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use paddock_api::Session;
use paddock_api::http::{ApiStatus, ErrorCode};
use tokio::time::Instant;

use super::Ask;
use super::answer::Answer;
use super::record::Record;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::idempotency::Key;
use crate::http::{segment, wait};
use crate::relay::outcome::{self, Stored, TurnView};
use crate::relay::target::Target;
use crate::relay::{lookup, stand};

/// When to ask again for a turn of a session whose next pod is coming up.
const COMING_RETRY: Duration = Duration::from_secs(2);
/// Through how many pods of its session a turn is looked for within one request.
const MAX_PODS: usize = 4;

/// Serves the route.
pub async fn get(
    gateway: &Gateway,
    ask: &Ask,
    id: &ObjectName,
    encoded: &str,
    record: &mut Record,
) -> Result<Response<Answer>, ApiError> {
    let deadline = Instant::now() + wait::of_look(&ask.query)?;
    let turn = Key::parse(&segment::decode(encoded).unwrap_or_default(), "the turn's id in the path")?;
    record.turn(turn.clone());
    let mut session = lookup::find(gateway, id.as_str()).await?;
    // The index may be a moment behind; nothing but a pod's own word is told on its word alone.
    let mut is_confirmed = false;
    for _ in 0..MAX_PODS {
        let told = match look(gateway, ask, &session, &turn, deadline).await {
            Look::Told(view) => return Ok(Answer::json(&view)),
            Look::Untold(_) if !is_confirmed => {
                is_confirmed = true;
                session = lookup::read_again(gateway, &session).await?;
                continue;
            }
            Look::Untold(told) => told,
        };
        let is_coming = |session: &Session| {
            ApiStatus::of(session) == ApiStatus::Creating && stand::is_coming_back(session)
        };
        if !is_coming(&session) {
            return told.map(|view| Answer::json(&view));
        }
        let seen =
            gateway.index.session_when(id.as_str(), deadline, |seen| !seen.is_some_and(&is_coming)).await;
        session = lookup::same(&session, seen)?;
        if is_coming(&session) {
            return Err(coming(id));
        }
    }
    Err(coming(id))
}

/// What one look at a session has brought.
enum Look {
    /// This is how it is.
    Told(TurnView),
    /// This is all that is known where the session has no other pod.
    Untold(Result<TurnView, ApiError>),
}

async fn look(gateway: &Gateway, ask: &Ask, session: &Arc<Session>, turn: &Key, deadline: Instant) -> Look {
    let asked = match Target::of_pod(session) {
        Some(target) => {
            let wait = deadline.saturating_duration_since(Instant::now());
            outcome::of_pod(gateway, session, &target, turn, wait, &ask.request_id).await
        }
        None => Ok(None),
    };
    let cause = match asked {
        Ok(Some(view)) => return Look::Told(view),
        Ok(None) => None,
        Err(error) => Some(error),
    };
    let uid = session.metadata.uid.as_deref().unwrap_or_default();
    match (outcome::stored(gateway, uid, turn).await, cause) {
        (Ok(Stored::Ended(view)), _) => Look::Told(view),
        (_, Some(error)) | (Err(error), None) => Look::Untold(Err(error)),
        (Ok(Stored::Begun), None) => Look::Untold(Ok(TurnView::lost(turn))),
        (Ok(Stored::Nothing), None) => Look::Untold(Err(unknown(session, turn))),
    }
}

fn unknown(session: &Session, turn: &Key) -> ApiError {
    let name = session.metadata.name.as_deref().unwrap_or_default();
    ApiError::new(ErrorCode::NotFound, format!("session {name} has no turn {turn:?}", turn = turn.as_str()))
}

fn coming(id: &ObjectName) -> ApiError {
    ApiError::new(
        ErrorCode::NotReady,
        format!("session {id} is getting another pod, which will tell what became of the turn; ask again"),
    )
    .retry_after(COMING_RETRY)
}
