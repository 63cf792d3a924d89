//! `POST /sessions/{id}/message_stream`: a message whose turn is told as it goes.
//!
//! The message is taken and delivered exactly as by `message`. The events between are best effort: they are those of the whole
//! conversation, and a turn is neither refused nor lost because they cannot be had. `done` comes once the turn's reply is
//! saved, and an error in its place where `message` would have answered with one.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use paddock_api::Session;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::EventId;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::Ask;
use super::answer::Answer;
use super::message::{self, Accepted};
use super::record::Record;
use super::router::ObjectName;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::relay::connections::Reply;
use crate::relay::events::{self, PodEvents};
use crate::relay::target::Target;
use crate::streams::dialect::Dialect;
use crate::streams::resume;
use crate::streams::source::Source;
use crate::streams::sse::{self, Left, Writer};

/// The reply overtakes the last events of its turn by some milliseconds; so long they are waited for.
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// Serves the route.
pub async fn send(
    gateway: &Arc<Gateway>,
    ask: &Ask,
    incoming: Incoming,
    id: &ObjectName,
    record: &mut Record,
) -> Result<Response<Answer>, ApiError> {
    let after = resume::after(&ask.query, &ask.head.headers)?;
    let Accepted { session, turn, deadline } = message::accept(gateway, ask, incoming, id, record).await?;
    // Before the turn, so that nothing of it is missed.
    let (pod, at) = match pod_events(gateway, ask, &session, after).await? {
        Some((pod, at)) => (Some(pod), at),
        None => (None, after.unwrap_or_default()),
    };
    let (writer, response) = sse::open(gateway, Dialect::Wrapped, at);
    let source = Source::new(gateway, id.as_str(), &ask.request_id, pod, at);
    // A task of its own: the client may leave, and the turn goes on.
    let turn = message::deliver(gateway, session, turn);
    tokio::spawn(tell(turn, source, writer, deadline));
    Ok(response)
}

/// The events of the session, if its pod tells them.
///
/// # Errors
/// Too many follow the session already; nothing was delivered.
async fn pod_events(
    gateway: &Gateway,
    ask: &Ask,
    session: &Session,
    after: Option<EventId>,
) -> Result<Option<(PodEvents, EventId)>, ApiError> {
    let Ok(target) = Target::of(session) else { return Ok(None) };
    match events::follow(gateway, &target, after, &ask.request_id).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code == ErrorCode::TooManyStreams => Err(error),
        Err(error) => {
            tracing::info!(%error, "a turn begins without its events");
            Ok(None)
        }
    }
}

async fn tell(
    mut turn: JoinHandle<Result<Response<Reply>, ApiError>>,
    mut source: Source,
    mut writer: Writer,
    deadline: Option<Instant>,
) {
    let left = writer.left();
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    if writer.begin().await.is_err() {
        return;
    }
    let outcome = tokio::select! {
        joined = &mut turn => message::delivered(joined),
        Err(Left) = pass_on(&mut source, &mut writer) => return,
        () = left => return,
        () = late => Err(message::expired()),
    };
    match outcome {
        Err(error) => writer.fail(&error).await,
        Ok(_) => {
            // One that takes longer is not waited for: the turn has ended.
            let _ = timeout(LAST_EVENTS, until_rest(&mut source, &mut writer)).await;
            writer.done().await;
        }
    }
}

async fn pass_on(source: &mut Source, writer: &mut Writer) -> Result<(), Left> {
    loop {
        writer.room().await?;
        writer.pass_on(source.next().await);
    }
}

async fn until_rest(source: &mut Source, writer: &mut Writer) -> Result<(), Left> {
    while !writer.rests() {
        writer.room().await?;
        writer.pass_on(source.next().await);
    }
    Ok(())
}
