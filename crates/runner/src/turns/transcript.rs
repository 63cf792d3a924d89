//! What was said, for those who keep it beyond the pod: the journal's lines, without what is only ours.

use std::time::Duration;

use bytes::Bytes;
use paddock_runnerapi::transcript::message_id;
use paddock_runnerapi::{EntryKind, ErrorBody, Position, TranscriptEntry, TranscriptPage};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;

use super::engine::Engine;
use super::outcome::Outcome;
use super::record::{Record, one_line};
use crate::harness::TurnNames;

/// About how large a page is; a line that is longer is one.
const PAGE: usize = 4 << 20;
/// How long the harness may take to show what was said. A turn's end does not depend on it.
const HISTORY_LIMIT: Duration = Duration::from_secs(5);

impl Engine {
    /// Up to where all that was said is written.
    pub fn position(&self) -> Position {
        let nothing = self.table().turns.is_empty();
        let seq = if nothing { 0 } else { self.0.journal.length() };
        Position { journal: self.0.journal_number, seq }
    }

    /// What was said after `after`, a place that an earlier page named, or 0.
    ///
    /// # Errors
    /// `bad_request` where no line ends there; `journal_failed`.
    pub async fn transcript(&self, after: u64) -> Result<TranscriptPage, ErrorBody> {
        let lines = self.0.journal.lines(after, PAGE).await?;
        let through = lines.last().map_or(after, |(seq, _)| *seq);
        let entries = lines.into_iter().filter_map(|(seq, record)| entry(seq, record)).collect();
        let end = self.position().seq;
        Ok(TranscriptPage { journal: self.0.journal_number, entries, through, end })
    }

    /// The conversation as the harness has it, a JSON array of messages.
    ///
    /// # Errors
    /// Where the harness does not show it, or does not have it yet (`needs_conversation`).
    pub async fn messages(&self) -> Result<Bytes, ErrorBody> {
        self.has_conversation()?;
        Ok(self.0.harness.history(&self.0.conversation).await?)
    }

    /// The messages that the conversation gained with a turn beside its reply. A harness that cannot show them keeps no turn from ending.
    pub(super) async fn messages_beside(
        &self,
        names: Option<&TurnNames>,
        outcome: &Outcome,
    ) -> Vec<Box<RawValue>> {
        // The conversation is the session's own; what is said in others is in their turns' replies only.
        let Some(names) = names.filter(|names| names.conversation.is_none()) else { return Vec::new() };
        let said = timeout(HISTORY_LIMIT, self.0.harness.messages_of(&self.0.conversation, names)).await;
        let mut messages = match said {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => {
                tracing::warn!(message = names.message, %error, "what a turn said on its way is not in its transcript");
                return Vec::new();
            }
            Err(_) => {
                tracing::warn!(
                    message = names.message,
                    "the harness does not show in time what a turn said on its way"
                );
                return Vec::new();
            }
        };
        if let Outcome::Completed(reply) = outcome
            && let Some(reply) = message_id(reply)
            // A message that wants no reply is answered with itself.
            && reply != names.message
        {
            messages
                .retain(|message| message_id(message.get().as_bytes()).as_deref() != Some(reply.as_str()));
        }
        messages.iter().filter_map(|message| one_line(message.get().as_bytes())).collect()
    }
}

fn entry(seq: u64, record: Record) -> Option<TranscriptEntry> {
    let (turn, kind, at, body) = match record {
        Record::Activated(_) | Record::Continued { .. } | Record::Started { .. } => return None,
        Record::Accepted { turn, parts, conversation, at, .. } => (
            turn,
            EntryKind::Accepted,
            at,
            to_raw_value(&Asked { parts: &parts, conversation: conversation.as_deref() }),
        ),
        Record::Messages { turn, messages, at } => {
            (turn, EntryKind::Messages, at, to_raw_value(&Messages { messages: &messages }))
        }
        Record::Ended { turn, state, reply, error, at } => {
            let reply = reply.as_deref();
            (turn, EntryKind::Ended, at, to_raw_value(&End { state, reply, error: error.as_ref() }))
        }
    };
    Some(TranscriptEntry { seq, turn, kind, at, body: body.ok()? })
}

#[derive(serde::Serialize)]
struct Asked<'a> {
    parts: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<&'a str>,
}

#[derive(serde::Serialize)]
struct Messages<'a> {
    messages: &'a [Box<RawValue>],
}

#[derive(serde::Serialize)]
struct End<'a> {
    state: paddock_runnerapi::TurnState,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorBody>,
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
