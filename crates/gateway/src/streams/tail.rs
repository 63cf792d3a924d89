//! Follows a session in one pod, for a client that only reads.

use std::sync::Arc;

use paddock_api::http::ErrorCode;

use super::sse::Writer;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::events::{Lost, PodEvents};
use crate::relay::target::Target;
use crate::server::drain::Stage;

/// When a stream has told what it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Forever,
    /// Once the conversation has come to rest.
    Rest,
}

/// Tells `writer`'s client what happens in `session`, until it leaves, the gateway drains, or there is no more to tell.
pub async fn run(
    gateway: Arc<Gateway>,
    session: String,
    mut pod: PodEvents,
    mut writer: Writer,
    until: Until,
) {
    let left = writer.left();
    let ended = tokio::select! {
        ended = tell(&mut pod, &mut writer, until) => ended,
        () = left => return,
        // Its client comes back with the id of its last event, to another gateway.
        () = gateway.drain.reached(Stage::Closing) => return,
    };
    if let Some(lost) = ended {
        writer.fail(&explained(&gateway, &session, &lost)).await;
    }
}

/// Why the pod tells no more, unless it has told all.
async fn tell(pod: &mut PodEvents, writer: &mut Writer, until: Until) -> Option<Lost> {
    writer.begin().await.ok()?;
    loop {
        writer.room().await.ok()?;
        match pod.next().await {
            Ok(line) => writer.pass_on(line),
            Err(lost) => return Some(lost),
        }
        if until == Until::Rest && writer.rests() {
            return None;
        }
    }
}

fn explained(gateway: &Gateway, session: &str, lost: &Lost) -> ApiError {
    match gateway.index.session(session).map(|now| Target::of(&now)) {
        Some(Err(error)) => error,
        _ => ApiError::new(
            ErrorCode::Unreachable,
            format!(
                "session {session} tells no more events: {lost}. Follow it again with the id of the last one as Last-Event-ID"
            ),
        ),
    }
}
