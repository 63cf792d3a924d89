//! `POST /sessions/{id}/abort`: stops the turn that runs. Its own request is answered as the harness ends it.

use bytes::Bytes;
use http::Response;
use paddock_api::http::{ApiAborted, ErrorCode};
use paddock_runnerapi::ABORT;

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::call::{self, Call};
use crate::relay::target::Target;
use crate::relay::{lookup, verdict};

/// Serves the route. Where no turn runs there is nothing to stop, and that is no error.
pub async fn abort(gateway: &Gateway, ask: &Ask, id: &ObjectName) -> Result<Response<Answer>, ApiError> {
    let session = lookup::find(gateway, id.as_str()).await?;
    let target = lookup::target(gateway, &session, Target::of).await?;
    let call = Call::post(ABORT, Bytes::new(), &ask.request_id);
    let answer = call::send(gateway, &target, &call).await.map_err(|error| {
        ApiError::new(
            ErrorCode::Unreachable,
            format!("session {id} was not told to stop: {error}; try again"),
        )
    })?;
    match verdict::error_of(answer).await {
        None => Ok(Answer::json(&ApiAborted { ok: true })),
        Some(error) => Err(error),
    }
}
