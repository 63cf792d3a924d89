//! `ANY /sessions/{id}/opencode/{path}`: the harness's own API, for opencode's SDK and CLI.
//!
//! What begins work there is a turn as any other: in the journal before the harness sees it, in line behind the ones before, and
//! its reply is saved before it is given out. Everything else passes as it is, or is closed (`paddock_runnerapi::passage`).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use hyper::body::Incoming;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::passage::{Action, HARNESS_API, PASSED_ON, Passage, passage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Ask;
use super::answer::Answer;
use super::message;
use super::record::Record;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::body::{self, Presence};
use crate::http::idempotency::Key;
use crate::http::wait::Wait;
use crate::relay::call::{AnswerAt, Call};
use crate::relay::hold::{self, Patience};
use crate::relay::lookup;
use crate::relay::passage::pass;
use crate::relay::turn::Turn;

/// Whether a request is a turn, which every answer names.
pub fn is_turn(method: &Method, path: &str) -> bool {
    matches!(passage(method.as_str(), path), Passage::Turn { .. })
}

/// Serves the route.
pub async fn serve(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    incoming: Incoming,
    id: &ObjectName,
    path: &str,
    record: &mut Record,
) -> Result<Response<Answer>, ApiError> {
    match passage(ask.head.method.as_str(), path) {
        Passage::Turn { action, .. } => turn(gateway, ask, incoming, id, path, action, record).await,
        Passage::Live => pass_on(gateway, ask, incoming, id, path, Wakes::Nobody).await,
        // Whether a conversation is the session's own is known in its pod.
        Passage::Change | Passage::Deletion { .. } => {
            pass_on(gateway, ask, incoming, id, path, Wakes::TheSession).await
        }
        Passage::Closed => Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "{} {path} of the harness's API is not open to clients: what the harness may do is set in the Agent",
                ask.head.method
            ),
        )),
        Passage::Malformed => Err(ApiError::new(ErrorCode::NotFound, "the harness's API has no such path")),
    }
}

/// What a request does to a session that rests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wakes {
    Nobody,
    /// As a message does.
    TheSession,
}

async fn pass_on(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    incoming: Incoming,
    id: &ObjectName,
    path: &str,
    wakes: Wakes,
) -> Result<Response<Answer>, ApiError> {
    let begun = Instant::now();
    let method = &ask.head.method;
    let body = body::collect(incoming, gateway.body_limits()).await?;
    let mut session = lookup::find(gateway, id.as_str()).await?;
    if wakes == Wakes::TheSession {
        session = hold::until_it_takes(gateway, session, Patience::from(begun, None), None).await?;
    }
    let query = ask.head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let call = Call::of(method.clone(), format!("{HARNESS_API}{path}{query}"), body, &ask.request_id)
        .with_headers(headers_of(&ask.head.headers));
    Ok(Answer::passed(gateway, pass(gateway, session, &call).await?))
}

fn headers_of(headers: &HeaderMap) -> HeaderMap {
    let named = PASSED_ON.iter().filter_map(|name| {
        let value: &HeaderValue = headers.get(*name)?;
        Some((HeaderName::from_static(name), value.clone()))
    });
    named.collect()
}

/// What is read here of a call's body; the rest is for the harness.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, rename = "messageID")]
    message: Option<&'a RawValue>,
}

/// [`paddock_runnerapi::TurnRequest`] with a call whose body is passed on as it came.
#[derive(Serialize)]
struct TurnRequest<'a> {
    id: &'a str,
    call: HarnessCall<'a>,
}

#[derive(Serialize)]
struct HarnessCall<'a> {
    path: &'a str,
    body: &'a RawValue,
}

async fn turn(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    incoming: Incoming,
    id: &ObjectName,
    path: &str,
    action: Action,
    record: &mut Record,
) -> Result<Response<Answer>, ApiError> {
    let begun = Instant::now();
    let header = Key::of(&ask.head.headers)?;
    let wait = Wait::of(&ask.query, &ask.head.headers)?;
    let bytes = body::read(&ask.head.headers, incoming, gateway.body_limits(), Presence::Optional).await?;
    let fields: Fields<'_> = body::fields(&bytes)?;
    let named = match fields.message {
        Some(raw) => Some(Key::parse(&body::string("messageID", raw)?, "messageID")?),
        None => None,
    };
    // A client that names its message sends it again under the same name.
    let turn_id = header.or(named).unwrap_or_else(|| record.turn_id());
    record.turn(turn_id.clone());
    let answer = if action == Action::MessageAsync { AnswerAt::Acceptance } else { AnswerAt::End };
    let call = HarnessCall { path, body: body::fields(&bytes)? };
    let request = serde_json::to_vec(&TurnRequest { id: turn_id.as_str(), call })
        .map_err(|error| ApiError::bad_request(format!("body: {error}")))?;
    let turn = Turn {
        id: turn_id,
        body: request.into(),
        request_id: ask.request_id.clone(),
        patience: wait.ready,
        answer,
    };
    drop(bytes);
    let session = lookup::find(gateway, id.as_str()).await?;
    let session = hold::until_it_takes(gateway, session, Patience::from(begun, wait.ready), None).await?;
    let reply = message::delivered(message::deliver(gateway, session, turn).await)?;
    Ok(match answer {
        AnswerAt::End => Answer::relayed(reply),
        AnswerAt::Acceptance => Answer::no_content(),
    })
}
