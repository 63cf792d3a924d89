//! Reading and ending sessions.

use std::str::FromStr;
use std::sync::Arc;

use http::header::LINK;
use http::{HeaderValue, Response};
use paddock_api::Session;
use paddock_api::http::{ApiDeleted, ApiSession, ApiStatus, BASE_PATH, DeletedStatus, ErrorCode, agent_name};
use paddock_api::session::DesiredState;
use paddock_kubeio::write::{Precondition, WriteError};
use serde_json::json;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::{initial, lookup};

/// How many entries a page has where nothing is said.
pub const DEFAULT_LIMIT: usize = 50;
/// How many entries a page has at most.
pub const MAX_LIMIT: usize = 200;
/// How often a stop is tried while others change the session.
const STOP_ATTEMPTS: usize = 5;

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
    let limit = ask.query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?;
    let agent = ask.query.get("agent_id")?;
    let status: Option<ApiStatus> = ask.query.read("status", "one of creating, ready, failed, dead")?;
    let after: Option<Place> = ask.query.read("cursor", "the cursor of a Link header")?;

    let mut found: Vec<(Place, Arc<Session>)> = gateway
        .index
        .sessions()
        .into_iter()
        .filter(|session| agent.is_none_or(|agent| agent_name(session) == Some(agent)))
        .filter(|session| status.is_none_or(|status| ApiStatus::of(session) == status))
        .map(|session| (Place::of(&session), session))
        .filter(|(place, _)| after.as_ref().is_none_or(|after| place < after))
        .collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    let more = found.len() > limit;
    found.truncate(limit);
    let page: Vec<ApiSession> = found.iter().map(|(_, session)| ApiSession::new(session, None)).collect();
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
    let response = initial::reply(gateway, &session, &ask.request_id).await;
    Ok(Answer::json(&ApiSession::new(&session, response)))
}

/// `DELETE /sessions/{id}`: asks the controller to stop it. The record stays.
pub async fn delete(gateway: &Gateway, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let mut session = lookup::find(gateway, id.as_str()).await?;
    for _ in 0..STOP_ATTEMPTS {
        if ApiStatus::of(&session) == ApiStatus::Dead {
            return Ok(deleted(id, DeletedStatus::Dead));
        }
        let Some(precondition) = Precondition::of(&*session) else {
            return Err(lookup::not_found(id.as_str()));
        };
        match gateway
            .cluster
            .patch_session(id.as_str(), precondition, json!({"spec": {"state": DesiredState::Stopped}}))
            .await
        {
            Ok(written) => {
                let mut stopped = (*session).clone();
                stopped.spec.state = DesiredState::Stopped;
                stopped.metadata.resource_version = Some(written.resource_version);
                gateway.index.record_session(stopped);
                return Ok(deleted(id, DeletedStatus::Deleted));
            }
            // Our view was old, or the controller was quicker: look again.
            Err(WriteError::Conflict) => session = lookup::read(gateway, id.as_str()).await?,
            Err(WriteError::NotFound) => return Err(lookup::not_found(id.as_str())),
            Err(error) => return Err(lookup::unavailable("stopping the session", &error)),
        }
    }
    Err(ApiError::new(
        ErrorCode::ClusterUnavailable,
        format!("session {id} could not be stopped: it kept changing meanwhile; try again"),
    )
    .retry_after(lookup::CLUSTER_RETRY))
}

fn deleted(id: &ObjectName, status: DeletedStatus) -> Response<Answer> {
    Answer::json(&ApiDeleted { id: id.to_string(), status })
}
