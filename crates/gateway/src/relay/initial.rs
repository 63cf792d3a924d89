//! The reply to a session's initial prompt, as its runner has it, or the transcript store.

use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use paddock_api::Session;
use paddock_runnerapi::{TURNS, TurnState, TurnStatus};
use paddock_transcripts::EntryKind;
use serde_json::{Value, json};

use super::call::{self, Call};
use super::target::Target;
use super::turn;
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;

/// Largest reply that is shown with a session.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// `{"parts": [...]}`; nothing where the session has no initial prompt, it has not been answered, or the
/// runner does not say so in time. A client that reads a session must not fail because of it.
pub async fn reply(gateway: &Gateway, session: &Session, request_id: &RequestId) -> Option<Value> {
    session.spec.prompt.as_ref()?;
    let find = async {
        let live = match Target::of(session) {
            Ok(target) => ask(gateway, session, &target, request_id).await,
            Err(_) => None,
        };
        match live {
            Some(reply) => Some(reply),
            None => stored(gateway, session).await,
        }
    };
    tokio::time::timeout(gateway.relay.initial_reply, find).await.ok()?
}

/// As it was told in an earlier pod.
async fn stored(gateway: &Gateway, session: &Session) -> Option<Value> {
    let (keeper, uid) = (gateway.transcripts.as_ref()?, session.metadata.uid.as_ref()?);
    let turn = keeper.store().turn(uid, &turn_id(uid)).await.ok()?;
    let (_, end) = turn.into_iter().rfind(|(_, entry)| entry.kind == EntryKind::Ended)?;
    let mut end: Value = serde_json::from_str(&end.body).ok()?;
    let parts = end.get_mut("reply")?.get_mut("parts")?.take();
    Some(json!({ "parts": parts }))
}

async fn ask(gateway: &Gateway, session: &Session, target: &Target, request_id: &RequestId) -> Option<Value> {
    let call = Call::get(format!("{TURNS}/{}", turn_id(&target.session_uid)), request_id);
    let answer = match call::send(gateway, target, &call).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "cannot ask for the reply to an initial prompt");
            return None;
        }
    };
    if answer.status() != StatusCode::OK {
        return None;
    }
    let through = turn::position(&answer);
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await.ok()?.to_bytes();
    let status: TurnStatus = serde_json::from_slice(&body).ok()?;
    if status.state != TurnState::Completed {
        return None;
    }
    // What is shown is not lost any more.
    if let (Some(keeper), Some(through)) = (&gateway.transcripts, through) {
        keeper.save(gateway, session, target, through, request_id).await.ok()?;
    }
    let parts = status.reply?.get_mut("parts")?.take();
    Some(json!({ "parts": parts }))
}

/// The id of the initial turn of the session with this UID, as the controller gives it to the runner.
fn turn_id(session_uid: &str) -> String {
    format!("initial-{session_uid}")
}
