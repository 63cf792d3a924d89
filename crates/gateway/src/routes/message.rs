//! `POST /sessions/{id}/message`: the main route.
//!
//! The turn lives in the runner. Once a message is complete it is delivered by a task of its own, so a client
//! that leaves, or whose deadline passes, neither cancels the turn nor cuts its delivery short.

use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use paddock_api::Session;
use paddock_api::http::{BASE_PATH, ErrorCode};
use paddock_runnerapi::{RESPOND_ASYNC, TurnState};
use tokio::task::{JoinError, JoinHandle};
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
use crate::http::{prefer, segment};
use crate::relay::call::AnswerAt;
use crate::relay::connections::Reply;
use crate::relay::hold::{self, Patience};
use crate::relay::lookup;
use crate::relay::outcome::TurnView;
use crate::relay::turn::{self, Turn};

/// When to ask again for a turn that outlasted the client's deadline.
const EXPIRED_RETRY: Duration = Duration::from_secs(5);
/// Longest body of a runner's word that it has accepted a turn.
const MOST_ACCEPTED_BYTES: usize = 64 * 1024;

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
    let Accepted { session, mut turn, deadline } = accept(gateway, ask, incoming, id, record).await?;
    if prefer::respond_async(&ask.head.headers) {
        turn.answer = AnswerAt::Acceptance;
    }
    let (turn_id, answer) = (turn.id.clone(), turn.answer);
    let task = deliver(gateway, session, turn);
    let joined = match deadline {
        None => task.await,
        Some(deadline) => match tokio::time::timeout_at(deadline, task).await {
            Ok(joined) => joined,
            Err(_) => return Err(expired()),
        },
    };
    let reply = delivered(joined)?;
    Ok(match answer {
        AnswerAt::End => Answer::relayed(reply),
        AnswerAt::Acceptance => accepted(id, &turn_id, reply).await,
    })
}

/// 202, with where the turn's outcome will be.
async fn accepted(id: &ObjectName, turn: &Key, told: Response<Reply>) -> Response<Answer> {
    let state = match told.status() {
        StatusCode::ACCEPTED => {
            let body = Limited::new(told.into_body(), MOST_ACCEPTED_BYTES).collect().await;
            let view = body.ok().and_then(|body| serde_json::from_slice::<TurnView>(&body.to_bytes()).ok());
            // It is accepted whatever became of the rest of the answer.
            view.map_or(TurnState::Queued, |view| view.state)
        }
        // A runner of before knows no such preference, and has answered with the reply.
        _ => TurnState::Completed,
    };
    let mut response = Answer::json(&TurnView::on_its_way(turn, state));
    *response.status_mut() = StatusCode::ACCEPTED;
    let location = format!("{BASE_PATH}/sessions/{id}/turns/{}", segment::encode(turn.as_str()));
    // Neither a name nor what is encoded holds a character that a header must not.
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert("preference-applied", HeaderValue::from_static(RESPOND_ASYNC));
    response
}

/// A message that was read and checked, and whose session takes it.
pub struct Accepted {
    /// The session.
    pub session: Arc<Session>,
    /// The turn that the message asks for.
    pub turn: Turn,
    /// The client's own.
    pub deadline: Option<Instant>,
}

/// Reads a message, and holds it until its session takes it. Nothing is delivered yet.
///
/// # Errors
/// What is wrong with the message, or with the session.
pub async fn accept(
    gateway: &Gateway,
    ask: &Ask,
    incoming: Incoming,
    id: &ObjectName,
    record: &mut Record,
) -> Result<Accepted, ApiError> {
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
        answer: AnswerAt::End,
    };
    drop(message);
    drop(bytes);

    let session = lookup::find(gateway, id.as_str()).await?;
    // Said here, and not by the relay, whose answer the client's own deadline may cut short: nothing is delivered.
    let patience = Patience::from(begun, wait.ready);
    let session = hold::until_it_takes(gateway, session, patience, None).await?;
    Ok(Accepted { session, turn, deadline: wait.answer.map(|patience| begun + patience) })
}

/// Delivers a turn, whoever waits for it.
pub fn deliver(
    gateway: &Arc<Gateway>,
    session: Arc<Session>,
    turn: Turn,
) -> JoinHandle<Result<Response<Reply>, ApiError>> {
    let gateway = gateway.clone();
    tokio::spawn(async move { turn::relay(&gateway, session, &turn).await })
}

/// What came of [`deliver`].
///
/// # Errors
/// The turn's own, or a defect of the gateway.
pub fn delivered(
    joined: Result<Result<Response<Reply>, ApiError>, JoinError>,
) -> Result<Response<Reply>, ApiError> {
    joined.map_err(|error| {
        tracing::error!(%error, "relaying a turn failed");
        ApiError::new(ErrorCode::Internal, "the gateway failed while it relayed the message")
    })?
}

/// The client's own deadline has passed, and its turn has not ended.
pub fn expired() -> ApiError {
    ApiError::new(
        ErrorCode::WaitExpired,
        "the turn has not ended within Prefer: wait; it goes on. Send the message again with the Idempotency-Key \
         that x-paddock-turn-id names to get its reply",
    )
    .retry_after(EXPIRED_RETRY)
}
