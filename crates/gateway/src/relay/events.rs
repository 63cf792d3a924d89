//! The events of a session, from its pod, on a connection of their own.
//!
//! The runner keeps the latest of them for every reader at its own pace, so nothing is kept here: a client that reads slowly
//! slows down only this connection.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use paddock_api::http::ErrorCode;
use paddock_runnerapi::events::{self, HEARTBEAT};
use paddock_runnerapi::{EVENTS, EventId, EventLine};
use tokio::time::timeout;

use super::call::{self, Call};
use super::connections::Reply;
use super::target::Target;
use super::verdict;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;

/// How long the runner may take to begin: it waits up to 2 s for its harness.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// After so long a silence the pod is given up.
const SILENCE: Duration = HEARTBEAT.saturating_mul(4);
/// The longest line that is taken; the runner takes no event that is larger than half of it.
const LONGEST_LINE: usize = 1 << 20;

/// Why no more events come from a pod.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The runner has ended the stream in order: it is stopping.
    #[error("the pod is stopping")]
    Stopping,
    /// The connection broke.
    #[error("the connection to the pod broke")]
    Broken(#[source] hyper::Error),
    /// Nothing came, not even a sign of life.
    #[error("the pod has fallen silent")]
    Silent,
    /// What came is no line of events.
    #[error("the pod's answer cannot be read")]
    Unreadable,
}

/// See the module.
#[derive(Debug)]
pub struct PodEvents {
    body: Reply,
    read: BytesMut,
    /// How much of `read` is known to hold no line's end.
    searched: usize,
}

/// Follows the session at `target`, after an event or from now on. Returns the place where that begins, too.
///
/// # Errors
/// There is no runner of the session, or it has no room for one more.
pub async fn follow(
    gateway: &Gateway,
    target: &Target,
    after: Option<EventId>,
    request_id: &RequestId,
) -> Result<(PodEvents, EventId), ApiError> {
    let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
    let call = Call::get(format!("{EVENTS}{query}"), request_id);
    let failed = |what: &str| {
        ApiError::new(
            ErrorCode::Unreachable,
            format!("the session's pod does not tell its events: {what}; try again"),
        )
    };
    let begin = async {
        let answer = call::send(gateway, target, &call).await.map_err(|error| failed(&error.to_string()))?;
        if !answer.status().is_success() {
            let error = verdict::error_of(answer).await;
            return Err(error.unwrap_or_else(|| failed("it gave no reason")));
        }
        let kind = answer.headers().get(CONTENT_TYPE);
        if kind.is_none_or(|kind| kind.as_bytes() != events::CONTENT_TYPE.as_bytes()) {
            return Err(failed("what listens at its address is no runner"));
        }
        let mut events = PodEvents { body: answer.into_body(), read: BytesMut::new(), searched: 0 };
        let first = events.next().await.map_err(|lost| failed(&lost.to_string()))?;
        Ok((events, first.id))
    };
    timeout(BEGINS_WITHIN, begin).await.map_err(|_| failed("it did not begin in time"))?
}

impl PodEvents {
    /// The next event or gap. It may be dropped while it waits; nothing is lost by that.
    ///
    /// # Errors
    /// No more will come.
    pub async fn next(&mut self) -> Result<EventLine, Lost> {
        loop {
            while let Some(line) = self.line() {
                if !line.is_empty() {
                    return serde_json::from_slice(&line).map_err(|_| Lost::Unreadable);
                }
            }
            if self.read.len() > LONGEST_LINE {
                return Err(Lost::Unreadable);
            }
            let frame = timeout(SILENCE, self.body.frame()).await.map_err(|_| Lost::Silent)?;
            let frame = frame.ok_or(Lost::Stopping)?.map_err(Lost::Broken)?;
            if let Ok(bytes) = frame.into_data() {
                self.read.extend_from_slice(&bytes);
            }
        }
    }

    /// A whole line, without its end.
    fn line(&mut self) -> Option<Bytes> {
        let Some(length) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.read.len();
            return None;
        };
        let line = self.read.split_to(self.searched + length).freeze();
        self.read.advance(1);
        self.searched = 0;
        Some(line)
    }
}
