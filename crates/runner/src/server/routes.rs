//! The routes of the runner protocol.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use paddock_runnerapi::passage::{HARNESS_API, PASSED_ON, Passage, passage};
use paddock_runnerapi::{
    ABORT, ACTIVATE, ACTIVITY, ActivateRequest, CONVERSATION, ConversationRequest, EVENTS, ErrorBody,
    ErrorCode, LIVEZ, MAX_TURN_WAIT_MS, MESSAGES, QUIESCE, QuiesceRequest, READYZ, Scope, TERMINAL,
    TRANSCRIPT, TURNS, TurnRequest, TurnState,
};
use paddock_websocket::handshake;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::Upgrade;
use super::answer::{self, Answer};
use super::limits::Limits;
use super::request::{bearer, bounded, check_head, percent_decoded, prefers_async, read};
use crate::activation;
use crate::app::{App, Phase};
use crate::bound::Bound;
use crate::turns::{Engine, Outcome, Ticket};

/// Why a request does not get the answer of its route.
enum Refused {
    /// The route takes this method only.
    Method(Method),
    Error(ErrorBody),
}

impl From<ErrorBody> for Refused {
    fn from(error: ErrorBody) -> Self {
        Self::Error(error)
    }
}

pub(super) async fn route(
    request: Request<Incoming>,
    app: &App,
    limits: &Limits,
    upgrade: &Upgrade,
) -> Answer {
    respond(request, app, limits, upgrade).await.unwrap_or_else(|refused| match refused {
        Refused::Method(allowed) => answer::method_not_allowed(&allowed),
        Refused::Error(error) => answer::error(&error),
    })
}

async fn respond(
    request: Request<Incoming>,
    app: &App,
    limits: &Limits,
    upgrade: &Upgrade,
) -> Result<Answer, Refused> {
    check_head(&request)?;
    let path = request.uri().path().to_owned();
    let turn = path.strip_prefix(TURNS).and_then(|rest| rest.strip_prefix('/'));
    let passes = path.strip_prefix(HARNESS_API).filter(|rest| rest.starts_with('/'));
    let asked = request.method().clone();
    let takes = |method: Method| if asked == method { Ok(()) } else { Err(Refused::Method(method)) };
    if let Some(within) = passes {
        return Ok(pass(request, within, app, limits).await?);
    }
    match (path.as_str(), turn) {
        (LIVEZ, _) => {
            takes(Method::GET)?;
            Ok(probe(app.is_alive(), app))
        }
        (READYZ, _) => {
            takes(Method::GET)?;
            Ok(probe(app.phase() == Phase::Ready && app.is_alive(), app))
        }
        (ACTIVATE, _) => {
            takes(Method::POST)?;
            Ok(activate(request, app, limits).await?)
        }
        (ACTIVITY, _) => {
            takes(Method::GET)?;
            Ok(activity(&request, app).await?)
        }
        (QUIESCE, _) => {
            takes(Method::POST)?;
            Ok(quiesce(request, app, limits).await?)
        }
        (TRANSCRIPT, _) => {
            takes(Method::GET)?;
            Ok(transcript(&request, app, limits).await?)
        }
        (ABORT, _) => {
            takes(Method::POST)?;
            Ok(abort(&request, app, limits).await?)
        }
        (CONVERSATION, _) => {
            takes(Method::POST)?;
            Ok(conversation(request, app, limits).await?)
        }
        (MESSAGES, _) => {
            takes(Method::GET)?;
            Ok(messages(&request, app, limits).await?)
        }
        (TERMINAL, _) => {
            takes(Method::GET)?;
            Ok(terminal(&request, app, upgrade)?)
        }
        (EVENTS, _) => {
            takes(Method::GET)?;
            Ok(events(&request, app).await?)
        }
        (TURNS, _) => {
            takes(Method::POST)?;
            Ok(run_turn(request, app, limits).await?)
        }
        (_, Some(id)) => {
            takes(Method::GET)?;
            Ok(show_turn(&request, id, app, limits).await?)
        }
        _ => Err(error(ErrorCode::NotFound, "reading the request: there is no such path").into()),
    }
}

fn error(code: ErrorCode, text: &str) -> ErrorBody {
    ErrorBody { code, error: text.to_owned() }
}

fn probe(good: bool, app: &App) -> Answer {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, &json!({"phase": format!("{:?}", app.phase()).to_lowercase()}))
}

async fn activate(request: Request<Incoming>, app: &App, limits: &Limits) -> Result<Answer, ErrorBody> {
    let subject = app.authenticate(bearer(&request), Scope::Control)?;
    let activator = app.activator()?;
    let _room = limits.request()?;
    let _body = limits.body(&request)?;
    let body: ActivateRequest = read(request).await?;
    if body.session.uid != subject {
        let text = "activating the pod: the token is for another session than the request";
        return Err(error(ErrorCode::Unauthorized, text));
    }
    Ok(match activator.activate(body).await? {
        activation::Answer::Done(response) => answer::json(StatusCode::OK, &response),
        activation::Answer::Going(progress) => answer::json(StatusCode::ACCEPTED, &progress),
    })
}

/// Clients cannot crowd out the controller: what it asks here takes none of their room.
async fn activity(request: &Request<Incoming>, app: &App) -> Result<Answer, ErrorBody> {
    let bound = session(request, app, Scope::Control)?;
    Ok(answer::json(StatusCode::OK, &bound.activity().await?))
}

async fn quiesce(request: Request<Incoming>, app: &App, limits: &Limits) -> Result<Answer, ErrorBody> {
    let bound = session(&request, app, Scope::Control)?;
    let _body = limits.body(&request)?;
    let body: QuiesceRequest = read(request).await?;
    Ok(answer::json(StatusCode::OK, &bound.quiesce(body).await?))
}

async fn transcript(request: &Request<Incoming>, app: &App, limits: &Limits) -> Result<Answer, ErrorBody> {
    let bound = session(request, app, Scope::Turn)?;
    let _room = limits.request()?;
    let after = request.uri().query().map(|query| {
        query.strip_prefix("after=").and_then(|after| after.parse().ok()).ok_or_else(|| {
            error(ErrorCode::BadRequest, "reading the transcript: the query must be ?after=<number>")
        })
    });
    Ok(answer::json(StatusCode::OK, &bound.transcript(after.transpose()?).await?))
}

async fn abort(request: &Request<Incoming>, app: &App, limits: &Limits) -> Result<Answer, ErrorBody> {
    let turns = session(request, app, Scope::Turn)?.turns()?;
    let _room = limits.request()?;
    turns.engine.abort_running().await?;
    Ok(answer::json(StatusCode::OK, &json!({})))
}

async fn conversation(request: Request<Incoming>, app: &App, limits: &Limits) -> Result<Answer, ErrorBody> {
    let turns = session(&request, app, Scope::Turn)?.turns()?;
    let _room = limits.request()?;
    let _body = limits.body(&request)?;
    let body: ConversationRequest = read(request).await?;
    turns.engine.go_on_with(body).await?;
    Ok(answer::json(StatusCode::OK, &json!({})))
}

async fn messages(request: &Request<Incoming>, app: &App, limits: &Limits) -> Result<Answer, ErrorBody> {
    let turns = session(request, app, Scope::Turn)?.turns()?;
    let _room = limits.request()?;
    Ok(answer::raw(StatusCode::OK, turns.engine.messages().await?))
}

/// A client's own request to the harness. What begins work is a turn and has a path of its own.
async fn pass(
    request: Request<Incoming>,
    path: &str,
    app: &App,
    limits: &Limits,
) -> Result<Answer, ErrorBody> {
    let engine = &session(&request, app, Scope::Turn)?.turns()?.engine;
    let room = limits.passage()?;
    let method = request.method().clone();
    let own = engine.conversation();
    // Reading is no activity.
    let _busy = match passage(method.as_str(), path) {
        Passage::Live => None,
        Passage::Change => Some(engine.busy()),
        Passage::Deletion { conversation } if conversation != own => Some(engine.busy()),
        Passage::Deletion { .. } => {
            let text =
                "asking the harness: this is the session's own conversation; delete the session instead";
            return Err(error(ErrorCode::Closed, text));
        }
        Passage::Turn { .. } => {
            return Err(error(ErrorCode::BadRequest, "asking the harness: this is a turn"));
        }
        Passage::Closed => {
            let text = "asking the harness: this part of its API is not open; what the agent may do is set in its Agent";
            return Err(error(ErrorCode::Closed, text));
        }
        Passage::Malformed => {
            return Err(error(ErrorCode::BadRequest, "asking the harness: its API has no such paths"));
        }
    };
    engine.has_conversation()?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut passed = Request::builder().method(method).uri(format!("{path}{query}"));
    for name in PASSED_ON {
        if let Some(value) = request.headers().get(name) {
            passed = passed.header(name, value);
        }
    }
    let _body = limits.body(&request)?;
    let body = bounded(request).await?;
    let passed = passed
        .body(body)
        .map_err(|_| error(ErrorCode::BadRequest, "asking the harness: its API has no such paths"))?;
    Ok(answer::harness(engine.pass(passed).await?, room))
}

/// Those who follow the session have a room of their own, so that they cannot keep turns out.
async fn events(request: &Request<Incoming>, app: &App) -> Result<Answer, ErrorBody> {
    let turns = session(request, app, Scope::Turn)?.turns()?;
    let after = match request.uri().query() {
        None => None,
        Some(query) => {
            let id = query.strip_prefix("after=").and_then(|after| after.parse().ok());
            Some(id.ok_or_else(|| {
                error(ErrorCode::BadRequest, "reading the events: the query must be ?after=<id of an event>")
            })?)
        }
    };
    Ok(answer::lines(turns.events.reader(after).await?))
}

/// Viewers have a room of their own too.
fn terminal(request: &Request<Incoming>, app: &App, upgrade: &Upgrade) -> Result<Answer, ErrorBody> {
    let view = session(request, app, Scope::Turn)?.terminal()?.view()?;
    let answer = handshake::accept(request).map_err(|refusal| {
        let code = match refusal {
            handshake::Refusal::UpgradeRequired => ErrorCode::UpgradeRequired,
            handshake::Refusal::Key | handshake::Refusal::Body => ErrorCode::BadRequest,
        };
        error(code, &format!("attaching: {refusal}"))
    })?;
    upgrade.takes(view);
    Ok(answer.map(|()| answer::nothing()))
}

/// The session of this pod, if the token is for it.
fn session<'a>(request: &Request<Incoming>, app: &'a App, scope: Scope) -> Result<&'a Arc<Bound>, ErrorBody> {
    let subject = app.authenticate(bearer(request), scope)?;
    let bound = app.activator()?.bound();
    let bound = bound
        .ok_or_else(|| error(ErrorCode::NotActivated, "asking for the session: the pod has none yet"))?;
    if bound.session_uid() != subject {
        let text =
            "asking for the session: the pod serves another than the token's; look its address up again";
        return Err(error(ErrorCode::BoundToOther, text));
    }
    Ok(bound)
}

async fn run_turn(request: Request<Incoming>, app: &App, limits: &Limits) -> Result<Answer, ErrorBody> {
    let at_acceptance = prefers_async(&request);
    let Accepted { id, ticket, engine, _room } = accept_turn(request, app, limits).await?;
    let response = match ticket {
        Ok(_) if at_acceptance => accepted(&engine, &id).await,
        Ok(ticket) => ticket.outcome().await.map(|reply| answer::raw(StatusCode::OK, reply)),
        Err(refused) => Err(refused),
    };
    let response = response.unwrap_or_else(|error| answer::error(&error));
    Ok(answer::about_turn(response, &id, engine.position()))
}

/// The answer to a client that does not wait for the end of its turn, which is in the journal.
async fn accepted(engine: &Engine, id: &str) -> Result<Answer, ErrorBody> {
    let (state, _) = engine.status(id).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &status(id, state, None)))
}

/// A turn that was read, and what the engine said to it.
struct Accepted {
    id: String,
    ticket: Result<Ticket, ErrorBody>,
    engine: Engine,
    _room: OwnedSemaphorePermit,
}

async fn accept_turn(request: Request<Incoming>, app: &App, limits: &Limits) -> Result<Accepted, ErrorBody> {
    let turns = session(&request, app, Scope::Turn)?.turns()?;
    let room = limits.request()?;
    // The session is not given back while somebody speaks to it.
    let _busy = turns.engine.busy();
    // Given back once the engine has the message: it counts by itself what waits there.
    let body = limits.body(&request)?;
    let turn: TurnRequest = read(request).await?;
    let id = turn.id.clone();
    let ticket = turns.engine.accept(turn, body).await;
    Ok(Accepted { id, ticket, engine: turns.engine.clone(), _room: room })
}

/// [`paddock_runnerapi::TurnStatus`] with the reply as it came.
#[derive(Serialize)]
struct Status<'a> {
    id: &'a str,
    state: TurnState,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorBody>,
}

async fn show_turn(
    request: &Request<Incoming>,
    encoded: &str,
    app: &App,
    limits: &Limits,
) -> Result<Answer, ErrorBody> {
    let turns = session(request, app, Scope::Turn)?.turns()?;
    let _room = limits.request()?;
    let id = percent_decoded(encoded)
        .ok_or_else(|| error(ErrorCode::BadRequest, "reading the request: the turn's id is malformed"))?;
    let wait = match request.uri().query() {
        None => 0,
        Some(query) => {
            query.strip_prefix("wait_ms=").and_then(|wait| wait.parse().ok()).ok_or_else(|| {
                error(ErrorCode::BadRequest, "looking up the turn: the query must be ?wait_ms=<number>")
            })?
        }
    };
    let wait = Duration::from_millis(u64::min(wait, MAX_TURN_WAIT_MS));
    let response = match turns.engine.status_within(&id, wait).await {
        Ok((state, outcome)) => answer::json(StatusCode::OK, &status(&id, state, outcome.as_ref())),
        Err(error) => answer::error(&error),
    };
    Ok(answer::about_turn(response, &id, turns.engine.position()))
}

fn status<'a>(id: &'a str, state: TurnState, outcome: Option<&'a Outcome>) -> Status<'a> {
    let (reply, error) = match outcome {
        Some(Outcome::Completed(reply)) => (serde_json::from_slice(reply).ok(), None),
        Some(Outcome::Failed(error) | Outcome::Interrupted(error)) => (None, Some(error)),
        None => (None, None),
    };
    Status { id, state, reply, error }
}
