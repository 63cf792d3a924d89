//! Reads a runner's transcript, a page at a time.

use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use paddock_runnerapi::{ErrorBody, ErrorCode, TRANSCRIPT, TranscriptPage};
use paddock_transcripts::{Entry, EntryKind, MAX_BODY_BYTES};
use serde_json::json;

use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::relay::call::{self, Call, CallError};
use crate::relay::target::Target;

/// Largest page that is read: a message of the largest size, in which every byte is escaped, and more.
const MAX_BYTES: usize = 256 << 20;
/// Longest time for a page to arrive.
const TIME: Duration = Duration::from_secs(30);

/// A page cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The runner did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Its answer did not come to an end.
    #[error("the transcript's page broke off, or did not come in time")]
    Broken,
    /// The place that was asked for is in another journal.
    #[error("the runner's journal has no such place")]
    NoSuchPlace,
    /// The runner refused.
    #[error("the runner refused to show the transcript: HTTP {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is no page.
    #[error("what answered is no page of a transcript: {0}")]
    Unreadable(String),
}

/// The page after `after`; without that only where the journal ends.
///
/// # Errors
/// See [`PageError`].
pub async fn read(
    gateway: &Gateway,
    target: &Target,
    after: Option<u64>,
    request_id: &RequestId,
) -> Result<TranscriptPage, PageError> {
    let path = after.map_or_else(|| TRANSCRIPT.to_owned(), |after| format!("{TRANSCRIPT}?after={after}"));
    let call = Call::get(path, request_id);
    let whole = async {
        let answer = call::send(gateway, target, &call).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        Ok::<_, CallError>((status, body.map(http_body_util::Collected::to_bytes)))
    };
    let (status, body) = tokio::time::timeout(TIME, whole).await.map_err(|_| PageError::Broken)??;
    let body = body.map_err(|_| PageError::Broken)?;
    if status != StatusCode::OK {
        let code = serde_json::from_slice::<ErrorBody>(&body).ok().map(|body| body.code);
        return Err(match code {
            Some(ErrorCode::BadRequest) => PageError::NoSuchPlace,
            _ => PageError::Refused { status: status.as_u16() },
        });
    }
    serde_json::from_slice(&body).map_err(|error| PageError::Unreadable(error.to_string()))
}

/// The entries of a page, as the store takes them.
///
/// # Errors
/// [`PageError::Unreadable`].
pub fn entries(page: TranscriptPage) -> Result<Vec<Entry>, PageError> {
    let entry = |entry: paddock_runnerapi::TranscriptEntry| {
        let at: Timestamp = entry
            .at
            .parse()
            .map_err(|error| PageError::Unreadable(format!("a time of an entry: {error}")))?;
        let kind = match entry.kind {
            paddock_runnerapi::EntryKind::Accepted => EntryKind::Accepted,
            paddock_runnerapi::EntryKind::Messages => EntryKind::Messages,
            paddock_runnerapi::EntryKind::Ended => EntryKind::Ended,
        };
        let mut body = String::from(Box::<str>::from(entry.body));
        if body.len() > MAX_BODY_BYTES {
            tracing::error!(
                turn = entry.turn,
                bytes = body.len(),
                "an entry is too large for the transcript store; it is left out"
            );
            body = json!({"left_out_bytes": body.len()}).to_string();
        }
        Ok(Entry { seq: entry.seq, turn: entry.turn, kind, at, body })
    };
    page.entries.into_iter().map(entry).collect()
}
