//! Whether the key of a request allows it: one place, before any route runs.
//!
//! A route says what it is about (`Route::demand`, a match that the compiler wants complete), so a new one cannot be
//! left out. What a key does not see does not exist for it, down to the words of the answer. Keys that are for certain
//! agents use those agents and never change them: an agent's settings decide where its credentials may be sent.

use paddock_api::http::ErrorCode;

use super::agents;
use super::router::{Route, Subject, Use};
use crate::auth::{Access, unauthorized};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::lookup;

/// Judges a request.
///
/// # Errors
/// `forbidden`; `not_found` for what the key does not see; `cluster_unavailable` where a session is not known here and
/// cannot be asked for.
pub async fn check(gateway: &Gateway, access: &Access, route: &Route) -> Result<(), ApiError> {
    let (usage, subject) = route.demand();
    // First, and whatever it is about: so a refusal tells nothing of what exists.
    if usage == Use::Change && access.read_only() {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "this key may only read; use one that is not readOnly",
        ));
    }
    if !access.bound() && !access.is_lent() {
        return Ok(());
    }
    match subject {
        Subject::Agent(id) | Subject::NewSession(id) if !access.sees_agent(id.as_str()) => {
            Err(agents::not_found(id))
        }
        Subject::Session(id) => {
            let session = match lookup::find(gateway, id.as_str()).await {
                // Who was let in for one session learns nothing of others.
                Err(error) if error.code == ErrorCode::NotFound && access.is_lent() => {
                    return Err(unauthorized());
                }
                found => found?,
            };
            if access.is_lent_for_another(&session) {
                return Err(unauthorized());
            }
            if access.sees(&session) { Ok(()) } else { Err(lookup::not_found(id.as_str())) }
        }
        Subject::Agents | Subject::Agent(_) if usage == Use::Change => Err(ApiError::new(
            ErrorCode::Forbidden,
            "this key is for certain agents and may not make or change agents; use one that names no agents",
        )),
        Subject::Gateway
        | Subject::Agents
        | Subject::Agent(_)
        | Subject::Sessions
        | Subject::NewSession(_) => Ok(()),
    }
}
