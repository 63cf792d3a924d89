//! Reading and ending sessions.

use std::str::FromStr;
use std::sync::Arc;

use http::header::LINK;
use http::{HeaderValue, Response};
use jiff::Timestamp;
use paddock_api::Session;
use paddock_api::http::{ApiDeleted, ApiSession, ApiStatus, BASE_PATH, DeletedStatus, agent_name};
use serde_json::Value;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::query::Number;
use crate::index::rules;
use crate::relay::wish::{self, Wish, Wished};
use crate::relay::{initial, lookup};

/// How many entries a page has at most.
pub const LIMIT: Number = Number { name: "limit", least: 1, most: 200, default: 50 };

/// A place in the list, newest first: creation time, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    created: i64,
    name: String,
}

impl Place {
    fn of(session: &Session) -> Self {
        Self {
            created: session.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            name: session.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (created, name) = text.split_once('.').ok_or(())?;
        let name = ObjectName::parse(name).ok_or(())?;
        Ok(Self { created: created.parse().map_err(|_| ())?, name: name.to_string() })
    }
}

/// `GET /sessions`
pub fn list(gateway: &Gateway, ask: &Ask) -> Result<Response<Answer>, ApiError> {
    let limit = ask.query.number(&LIMIT)?;
    let agent = ask.query.get("agent_id")?;
    let status: Option<ApiStatus> =
        ask.query.word("status", "one of creating, ready, suspended, failed, dead")?;
    let after: Option<Place> = ask.query.read("cursor", "the cursor of a Link header")?;

    let mut found: Vec<(Place, Arc<Session>)> = gateway
        .index
        .sessions()
        .into_iter()
        .filter(|session| ask.access.sees(session))
        .filter(|session| agent.is_none_or(|agent| agent_name(session) == Some(agent)))
        .filter(|session| status.is_none_or(|status| ApiStatus::of(session) == status))
        .map(|session| (Place::of(&session), session))
        .filter(|(place, _)| after.as_ref().is_none_or(|after| place < after))
        .collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    let more = found.len() > limit;
    found.truncate(limit);
    let page: Vec<ApiSession> = found.iter().map(|(_, session)| view(gateway, ask, session, None)).collect();
    let mut response = Answer::json(&page);
    if let Some((last, _)) = found.last().filter(|_| more) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &limit.to_string());
        for name in ["agent_id", "status"] {
            if let Some(value) = ask.query.get(name)? {
                query.append_pair(name, value);
            }
        }
        query.append_pair("cursor", &format!("{}.{}", last.created, last.name));
        let link = format!("<{BASE_PATH}/sessions?{}>; rel=\"next\"", query.finish());
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

/// `GET /sessions/{id}`
pub async fn get(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let session = lookup::find(gateway, id.as_str()).await?;
    Ok(show(gateway, ask, &session).await)
}

/// A session, with the reply to its initial prompt.
pub async fn show(gateway: &Gateway, ask: &Ask, session: &Session) -> Response<Answer> {
    let response = initial::reply(gateway, session, &ask.request_id).await;
    Answer::json(&view(gateway, ask, session, response))
}

/// What a client sees of a session. One that may use its terminal gets a token for that: clients put it into URLs, where a key
/// should not be.
fn view(gateway: &Gateway, ask: &Ask, session: &Session, response: Option<Value>) -> ApiSession {
    let mut view = ApiSession::new(session, rules::known(gateway, session).as_ref(), response);
    if view.tty_url.is_some()
        && let Some(token) = ask.access.lends(session)
    {
        view.tty_token = gateway
            .signing_key
            .sign_terminal(&token, Timestamp::now())
            .inspect_err(|error| tracing::error!(%error, "a token for a terminal cannot be made"))
            .ok();
    }
    view
}

/// `DELETE /sessions/{id}` and `POST /sessions/{id}/stop`: asks the controller to stop it. The record stays.
pub async fn delete(gateway: &Gateway, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let mut session = lookup::find(gateway, id.as_str()).await?;
    if ApiStatus::of(&session) == ApiStatus::Dead {
        // It may have been restarted a moment ago, which the index may not know yet.
        session = lookup::read(gateway, id.as_str()).await?;
    }
    Ok(deleted(id, stop(gateway, session).await?))
}

/// Asks the controller to stop a session; tells whether it had ended before.
pub async fn stop(gateway: &Gateway, mut session: Arc<Session>) -> Result<DeletedStatus, ApiError> {
    for _ in 0..wish::ATTEMPTS {
        if ApiStatus::of(&session) == ApiStatus::Dead {
            return Ok(DeletedStatus::Dead);
        }
        session = match wish::store(gateway, &session, Wish::Stop).await? {
            Wished::Stored(_) => return Ok(DeletedStatus::Deleted),
            Wished::Changed(now) => now,
        };
    }
    Err(Wish::Stop.given_up(session.metadata.name.as_deref().unwrap_or_default()))
}

fn deleted(id: &ObjectName, status: DeletedStatus) -> Response<Answer> {
    Answer::json(&ApiDeleted { id: id.to_string(), status })
}
