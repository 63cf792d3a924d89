//! A client's own request to the harness of a session, which begins no turn.
//!
//! It is sent again only where no harness has seen it.

use std::sync::Arc;

use http::Response;
use paddock_api::Session;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::HARNESS_HEADER;

use super::call::{self, Call, CallError};
use super::connections::Reply;
use super::continuation;
use super::lookup;
use super::target::Target;
use super::verdict::{self, Verdict};
use crate::error::ApiError;
use crate::gateway::Gateway;

/// How often it is tried at most, over the addresses that a session may move through meanwhile.
const MAX_ATTEMPTS: usize = 4;

/// The harness's own answer to `call`.
///
/// # Errors
/// The session has no pod that takes it, or its runner refuses it.
pub async fn pass(
    gateway: &Gateway,
    mut session: Arc<Session>,
    call: &Call,
) -> Result<Response<Reply>, ApiError> {
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        let target = lookup::target(gateway, &session, Target::of).await?;
        let refused = match call::send(gateway, &target, call).await {
            Ok(answer) if answer.headers().contains_key(HARNESS_HEADER) => return Ok(answer),
            Ok(answer) => match verdict::refusal(answer).await {
                Verdict::NeedsConversation => {
                    continuation::give(gateway, &target, call.request_id()).await?;
                    continue;
                }
                Verdict::Error(error) => return Err(error),
                Verdict::Stranger(error) | Verdict::Ending(error) => error,
                Verdict::Quiesced | Verdict::Reply(_) => unreachable("its runner answered another question"),
            },
            Err(CallError::Dial(cause)) => {
                gateway.metrics.connect_failed(cause.reason());
                unreachable(&cause.to_string())
            }
            Err(error @ CallError::Broken(_)) => {
                return Err(ApiError::new(
                    ErrorCode::Unreachable,
                    format!("asking the session's harness: {error}; the request may have had an effect"),
                ));
            }
            Err(error) => {
                tracing::error!(%error, "cannot make a request to a runner");
                return Err(ApiError::new(
                    ErrorCode::Internal,
                    "the gateway could not make the request to the session's pod",
                ));
            }
        };
        last = Some(refused);
        tokio::time::sleep(gateway.relay.retry_pause).await;
        session = lookup::read_again(gateway, &session).await?;
    }
    Err(last.unwrap_or_else(|| unreachable("it wants the conversation again and again")))
}

fn unreachable(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Unreachable, format!("the session's harness was not asked: {what}; try again"))
}
