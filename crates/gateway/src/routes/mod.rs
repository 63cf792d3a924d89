//! One request, from head to answer: hygiene, key, route, and what every answer carries.

pub mod abort;
pub mod access;
pub mod agent_body;
pub mod agent_env;
mod agent_equipment;
pub mod agent_write;
pub mod agents;
pub mod answer;
pub mod create;
pub mod diagnose;
pub mod follow;
pub mod harness_api;
pub mod health;
pub mod lifecycle;
pub mod log;
pub mod message;
pub mod message_body;
pub mod message_stream;
pub mod messages;
pub mod openapi;
pub mod record;
pub mod router;
pub mod sandbox_logs;
pub mod sessions;
pub mod terminal;
pub mod turns;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::TRANSFER_ENCODING;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use paddock_api::http::{ErrorCode, tty_url};

use crate::auth::{self, Access, Admitted};
use crate::error::{ApiError, close_after};
use crate::gateway::Gateway;
use crate::http::hygiene;
use crate::http::query::Query;
use crate::http::request_id::{REQUEST_ID_HEADER, RequestId};
use crate::server::drain::Stage;
use crate::server::io::ActivityGuard;
use crate::server::upgrade::Upgrade;
use answer::{Answer, Tracked};
use record::Record;
use router::{Resolved, Route};

/// When to try again after a gateway that is starting or stopping said no.
const RETRY: Duration = Duration::from_secs(1);

/// What a route gets of a request, its body apart.
pub struct Ask {
    /// The head.
    pub head: Parts,
    /// The query parameters.
    pub query: Query,
    /// The request's id.
    pub request_id: RequestId,
    /// What its key allows. What the path names is judged already; whatever else a route shows has to be asked for here.
    pub access: Access,
}

/// Serves one request. `activity` lives until the last byte of the answer is handed over. Where the answer is 101, `upgrade`
/// tells what the connection becomes.
pub async fn serve(
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
    activity: ActivityGuard,
    upgrade: Upgrade,
) -> Result<Response<Tracked>, Infallible> {
    let (head, body) = request.into_parts();
    let request_id = RequestId::of(&head.headers);
    // What follows a chunked body is not watched for its framing, so nothing may follow.
    let chunked = head.headers.contains_key(TRANSFER_ENCODING);
    let in_flight = gateway.metrics.request_begun();
    let resolved = router::resolve(&head.method, head.uri.path());
    let mut record = Record::new(gateway.metrics.clone(), &head.method, &resolved, request_id.clone());
    let is_turn = match &resolved {
        Resolved::Route(Route::SendMessage(_) | Route::StreamMessage(_)) => true,
        Resolved::Route(Route::HarnessApi(_, path)) => harness_api::is_turn(&head.method, path),
        _ => false,
    };
    if is_turn {
        message::announce(&head.headers, &mut record);
    }

    let query = Query::parse(head.uri.query());
    let (outcome, place) = if router::is_api(head.uri.path()) {
        match admit(&gateway, &head, &query, &resolved, &mut record) {
            Ok(Admitted { access, place }) => {
                let ask = Ask { query, head, request_id: request_id.clone(), access };
                (answer(&gateway, ask, body, resolved, &mut record).await, place)
            }
            Err(error) => (Err(error), None),
        }
    } else {
        (outside(&head, resolved), None)
    };
    let mut response = outcome.unwrap_or_else(|mut error| {
        if error.code == ErrorCode::TerminalOnly {
            error.tty_url = record.session_name().map(tty_url);
        }
        record.failed(&error);
        Answer::error(&error, &request_id)
    });
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID_HEADER, request_id.header());
    record.turn_id_into(headers);
    let marks = (in_flight, place);
    if let Answer::Upgrade(_) = response.body() {
        record.done(response.status());
        return Ok(response.map(|answer| {
            if let Answer::Upgrade(take_over) = answer {
                upgrade.becomes(take_over.holding(marks));
            }
            Tracked::nothing(activity)
        }));
    }
    if chunked || gateway.drain.stage() >= Stage::Leaving {
        close_after(response.headers_mut());
    }
    record.done(response.status());
    Ok(response.map(|body| Tracked::new(body, activity, marks)))
}

/// Lets a request in: its head is sound, its key is known and has not been used too much.
fn admit(
    gateway: &Gateway,
    head: &Parts,
    query: &Query,
    resolved: &Resolved,
    record: &mut Record,
) -> Result<Admitted, ApiError> {
    hygiene::check(head)?;
    let access = match resolved {
        Resolved::Route(Route::AttachTerminal(_)) => {
            gateway.keys().authenticate_terminal(&head.headers, query)?
        }
        _ => gateway.keys().authenticate(&head.headers)?,
    };
    record.access(&access);
    auth::admit(access)
}

/// What is outside of the API, for which no key is needed: its description, and nothing else.
fn outside(head: &Parts, resolved: Resolved) -> Result<Response<Answer>, ApiError> {
    hygiene::check(head)?;
    match resolved {
        Resolved::Route(Route::OpenApi) => Ok(openapi::get(&head.headers)),
        Resolved::WrongMethod { allow, .. } => Err(wrong_method(allow)),
        Resolved::Route(_) | Resolved::Unknown => Err(no_such_path()),
    }
}

async fn answer(
    gateway: &Arc<Gateway>,
    ask: Ask,
    body: Incoming,
    resolved: Resolved,
    record: &mut Record,
) -> Result<Response<Answer>, ApiError> {
    let route = match resolved {
        Resolved::Route(route) => route,
        Resolved::WrongMethod { allow, .. } => return Err(wrong_method(allow)),
        Resolved::Unknown => return Err(no_such_path()),
    };
    if gateway.drain.stage() == Stage::Closing {
        return Err(ApiError::new(
            ErrorCode::Draining,
            "this gateway is shutting down; send the request again on a new connection",
        )
        .retry_after(RETRY));
    }
    if let Route::ClusterHealth = route {
        return Ok(health::cluster(gateway).await);
    }
    if !gateway.index.synced() {
        return Err(ApiError::new(
            ErrorCode::NotSynced,
            "this gateway has not read the cluster's state yet; try again shortly",
        )
        .retry_after(RETRY));
    }
    access::check(gateway, &ask.access, &route).await?;
    let ask = &ask;
    // Each of its own size: a connection would otherwise have room for the largest while the smallest waits.
    let answer: BoxFuture<'_, Result<Response<Answer>, ApiError>> = match route {
        Route::ClusterHealth => async move { Ok(health::cluster(gateway).await) }.boxed(),
        Route::OpenApi => async move { Ok(openapi::get(&ask.head.headers)) }.boxed(),
        Route::ListSessions => async move { sessions::list(gateway, ask) }.boxed(),
        Route::GetSession(id) => async move { sessions::get(gateway, ask, &id).await }.boxed(),
        Route::DeleteSession(id) | Route::StopSession(id) => {
            async move { sessions::delete(gateway, &id).await }.boxed()
        }
        Route::SuspendSession(id) => async move { lifecycle::suspend(gateway, ask, &id).await }.boxed(),
        Route::ResumeSession(id) => async move { lifecycle::resume(gateway, ask, &id).await }.boxed(),
        Route::RestartSession(id) => async move { lifecycle::restart(gateway, ask, &id).await }.boxed(),
        Route::SendMessage(id) => async move { message::send(gateway, ask, body, &id, record).await }.boxed(),
        Route::StreamMessage(id) => {
            async move { message_stream::send(gateway, ask, body, &id, record).await }.boxed()
        }
        Route::FollowEvents(id) => async move { follow::events(gateway, ask, &id).await }.boxed(),
        Route::FollowHarness(id) => async move { follow::harness(gateway, ask, &id).await }.boxed(),
        Route::HarnessApi(id, path) => {
            async move { harness_api::serve(gateway, ask, body, &id, &path, record).await }.boxed()
        }
        Route::AbortSession(id) => async move { abort::abort(gateway, ask, &id).await }.boxed(),
        Route::AttachTerminal(id) => async move { terminal::attach(gateway, ask, &id).await }.boxed(),
        Route::ListMessages(id) => async move { messages::list(gateway, ask, &id).await }.boxed(),
        Route::GetTurn(id, turn) => async move { turns::get(gateway, ask, &id, &turn, record).await }.boxed(),
        Route::SessionLog(id) => async move { log::get(gateway, ask, &id).await }.boxed(),
        Route::SandboxLogs(id) => async move { sandbox_logs::get(gateway, ask, &id).await }.boxed(),
        Route::Diagnose(id) => async move { diagnose::get(gateway, ask, &id).await }.boxed(),
        Route::CreateSession(agent) => {
            async move { create::create(gateway, ask, body, &agent, record).await }.boxed()
        }
        Route::ListAgents => async move { agents::list(gateway, ask) }.boxed(),
        Route::CreateAgent => async move { agent_write::create(gateway, ask, body).await }.boxed(),
        Route::GetAgent(id) => async move { agents::get(gateway, &id).await }.boxed(),
        Route::UpdateAgent(id) => async move { agent_write::update(gateway, ask, body, id).await }.boxed(),
        Route::DeleteAgent(id) => async move { agent_write::delete(gateway, id).await }.boxed(),
    };
    answer.await
}

fn wrong_method(allow: &'static str) -> ApiError {
    let mut error = ApiError::new(ErrorCode::MethodNotAllowed, format!("this path takes {allow}"));
    error.allow = Some(allow);
    error
}

fn no_such_path() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such path")
}
