//! `POST /sessions/{id}/message`: the main route.
//!
//! The turn lives in the runner. Once a message is complete it is delivered by a task of its own, so a client
//! that leaves, or whose deadline passes, neither cancels the turn nor cuts its delivery short.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response};
use hyper::body::Incoming;
use paddock_api::http::ErrorCode;
use tokio::time::Instant;

use super::Ask;
use super::answer::Answer;
use super::message_body::Message;
use super::record::Record;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::body::{self, Presence};
use crate::http::idempotency::Key;
use crate::http::wait::Wait;
use crate::relay::hold::{self, Patience};
use crate::relay::lookup;
use crate::relay::turn::{self, Turn};

/// When to ask again for a turn that outlasted the client's deadline.
const EXPIRED_RETRY: Duration = Duration::from_secs(5);

/// Names the turn before anything of the request is judged: every answer names one, also one that refuses the
/// message, and a retry can use the name as its key.
pub fn announce(headers: &HeaderMap, record: &mut Record) {
    match Key::of(headers) {
        Ok(Some(key)) => record.turn(key),
        // A malformed key is refused later.
        Ok(None) | Err(_) => record.turn(Key::fresh()),
    }
}

/// Serves the route.
pub async fn send(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    incoming: Incoming,
    id: &ObjectName,
    record: &mut Record,
) -> Result<Response<Answer>, ApiError> {
    let begun = Instant::now();
    let header = Key::of(&ask.head.headers)?;
    let wait = Wait::of(&ask.query, &ask.head.headers)?;
    let bytes = body::read(&ask.head.headers, incoming, gateway.body_limits(), Presence::Required).await?;
    let message = Message::read(&bytes)?;
    let turn_id = match (header, &message.id) {
        (Some(header), Some(field)) if header != *field => {
            return Err(ApiError::bad_request(
                "message_id: differs from the Idempotency-Key header; send one of the two",
            ));
        }
        (Some(key), _) => key,
        (None, Some(key)) => key.clone(),
        (None, None) => record.turn_id(),
    };
    record.turn(turn_id.clone());
    let turn = Turn {
        body: message.turn_request(&turn_id)?,
        id: turn_id,
        request_id: ask.request_id.clone(),
        patience: wait.ready,
    };
    drop(message);
    drop(bytes);

    let session = lookup::find(gateway, id.as_str()).await?;
    // Said here, and not by the relay, whose answer the client's own deadline may cut short: nothing is delivered.
    let patience = Patience::from(begun, wait.ready);
    let session = hold::until_it_takes(gateway, session, patience, None).await?;
    let task = tokio::spawn({
        let gateway = gateway.clone();
        async move { turn::relay(&gateway, session, &turn).await }
    });
    let joined = match wait.answer {
        None => task.await,
        Some(patience) => match tokio::time::timeout_at(begun + patience, task).await {
            Ok(joined) => joined,
            Err(_) => return Err(expired()),
        },
    };
    let reply = joined.map_err(|error| {
        tracing::error!(%error, "relaying a turn failed");
        ApiError::new(ErrorCode::Internal, "the gateway failed while it relayed the message")
    })??;
    Ok(Answer::relayed(reply))
}

fn expired() -> ApiError {
    ApiError::new(
        ErrorCode::WaitExpired,
        "the turn has not ended within Prefer: wait; it goes on. Send the message again with the Idempotency-Key \
         that x-paddock-turn-id names to get its reply",
    )
    .retry_after(EXPIRED_RETRY)
}
