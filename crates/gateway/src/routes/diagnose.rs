//! `GET /sessions/{id}/diagnose`: all that is known about a session, and what is wrong with it.

use http::Response;
use paddock_api::Session;
use paddock_api::http::ErrorCode;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::diagnosis::{reading, show};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::lookup;

/// Serves the route. Whoever asks wants to know how it is now, so the session is read from the API server; where that
/// does not answer, what was last known is shown.
pub async fn get(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let session = match (lookup::read(gateway, id.as_str()).await, gateway.index.session(id.as_str())) {
        (Ok(session), _) | (Err(ApiError { code: ErrorCode::ClusterUnavailable, .. }), Some(session)) => {
            session
        }
        (Err(error), _) => return Err(error),
    };
    let seen = reading::read(gateway, Session::clone(&session), &ask.request_id).await;
    Ok(Answer::json(&show::diagnosis(&seen)))
}
