//! The reply to a session's initial prompt, as its runner has it, or the transcript store.

use std::time::Duration;

use paddock_api::Session;
use serde_json::{Value, json};

use super::outcome::{self, Stored, TurnView};
use super::target::Target;
use crate::gateway::Gateway;
use crate::http::idempotency::Key;
use crate::http::request_id::RequestId;

/// `{"parts": [...]}`; nothing where the session has no initial prompt, it has not been answered, or the
/// runner does not say so in time. A client that reads a session must not fail because of it.
pub async fn reply(gateway: &Gateway, session: &Session, request_id: &RequestId) -> Option<Value> {
    session.spec.prompt.as_ref()?;
    let uid = session.metadata.uid.as_deref()?;
    let turn = turn_id(uid)?;
    let find = async {
        let live = match Target::of(session) {
            Ok(target) => outcome::of_pod(gateway, session, &target, &turn, Duration::ZERO, request_id)
                .await
                .ok()
                .flatten(),
            Err(_) => None,
        };
        let stored = async || match outcome::stored(gateway, uid, &turn).await {
            Ok(Stored::Ended(view)) => parts(view),
            Ok(Stored::Nothing | Stored::Begun) | Err(_) => None,
        };
        match live.and_then(parts) {
            Some(reply) => Some(reply),
            // As it was told in an earlier pod.
            None => stored().await,
        }
    };
    tokio::time::timeout(gateway.relay.initial_reply, find).await.ok()?
}

fn parts(view: TurnView) -> Option<Value> {
    let mut reply: Value = serde_json::from_str(view.reply?.get()).ok()?;
    let parts = reply.get_mut("parts")?.take();
    Some(json!({ "parts": parts }))
}

/// The id of the initial turn of the session with this UID, as the controller gives it to the runner.
fn turn_id(session_uid: &str) -> Option<Key> {
    Key::parse(&format!("initial-{session_uid}"), "initial turn").ok()
}
