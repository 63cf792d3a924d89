//! `GET /sessions/{id}/tty`: the session's terminal, over a WebSocket.
//!
//! Everything that can be refused is refused before the upgrade, as an answer of HTTP. The pod's side is opened first, so a
//! client that is told 101 has a terminal.

use std::sync::Arc;

use http::{Request, Response};
use paddock_api::http::ErrorCode;
use paddock_websocket::handshake::{self, Refusal};

use super::Ask;
use super::answer::Answer;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::target::Target;
use crate::relay::{lookup, terminal};
use crate::server::upgrade::TakeOver;

/// Serves the route.
pub async fn attach(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    id: &ObjectName,
) -> Result<Response<Answer>, ApiError> {
    let request = Request::from_parts(ask.head.clone(), ());
    let answer = handshake::accept(&request).map_err(|refusal| {
        let code = match refusal {
            Refusal::UpgradeRequired => ErrorCode::UpgradeRequired,
            Refusal::Key | Refusal::Body => ErrorCode::BadRequest,
        };
        ApiError::new(code, refusal.to_string())
    })?;
    let session = lookup::find(gateway, id.as_str()).await?;
    let target = lookup::target(gateway, &session, Target::of_terminal).await?;
    let pod = terminal::open(gateway, &target, &ask.request_id).await?;
    let (gateway, session) = (gateway.clone(), id.to_string());
    let take_over = TakeOver::new(|stream, read| terminal::relay(gateway, session, stream, read, pod));
    Ok(answer.map(|()| Answer::Upgrade(take_over)))
}
