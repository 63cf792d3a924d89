//! Makes a conversation, as a harness would show it, of what is stored of a session.

use std::collections::{HashMap, HashSet};

use paddock_runnerapi::transcript::message_id;
use paddock_transcripts::{Entry, EntryKind, Position, StoreError, TranscriptStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

/// About how much is read from the store at once.
const PAGE: usize = 4 << 20;

/// The messages of a session, in order, each `{"info", "parts"}` in its harness's form.
///
/// # Errors
/// The store's.
pub async fn read(store: &dyn TranscriptStore, session_uid: &str) -> Result<Vec<Box<RawValue>>, StoreError> {
    Ok(turns(store, session_uid).await?.into_messages())
}

/// The same without what its harness has not said itself: it can be given to a harness of its kind. A turn whose beginning the
/// harness did not show is left out.
///
/// # Errors
/// The store's.
pub async fn of_harness(
    store: &dyn TranscriptStore,
    session_uid: &str,
) -> Result<Vec<Box<RawValue>>, StoreError> {
    let mut turns = turns(store, session_uid).await?;
    turns.order.retain(|turn| !turn.messages.is_empty());
    turns.order.iter_mut().for_each(|turn| turn.error = None);
    Ok(turns.into_messages())
}

async fn turns(store: &dyn TranscriptStore, session_uid: &str) -> Result<Turns, StoreError> {
    let mut turns = Turns::default();
    let mut after: Option<Position> = None;
    loop {
        let page = store.entries(session_uid, after, PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(turns) };
        after = Some(*last);
        for (_, entry) in page {
            turns.take(entry);
        }
    }
}

#[derive(Deserialize)]
struct Accepted {
    #[serde(default)]
    parts: Option<Box<RawValue>>,
    /// The conversation, where it is not the session's own.
    #[serde(default)]
    conversation: Option<String>,
}

#[derive(Deserialize)]
struct Messages {
    #[serde(default)]
    messages: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    reply: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<TurnError>,
}

/// Why a turn has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TurnError {
    /// The runner's word for it.
    pub code: String,
    /// A sentence.
    pub error: String,
}

#[derive(Default)]
struct Turn {
    id: String,
    /// It belongs to a conversation that a client has opened beside the session's own.
    elsewhere: bool,
    accepted_ms: i64,
    ended_ms: i64,
    parts: Option<Box<RawValue>>,
    messages: Vec<Box<RawValue>>,
    reply: Option<Box<RawValue>>,
    error: Option<TurnError>,
}

/// The turns of a session in the order in which they were accepted.
#[derive(Default)]
struct Turns {
    order: Vec<Turn>,
    by_id: HashMap<String, usize>,
}

impl Turns {
    /// Takes the next entry. What cannot be read is left out: one bad entry must not hide all others.
    fn take(&mut self, entry: Entry) {
        let at = *self.by_id.entry(entry.turn.clone()).or_insert_with(|| {
            self.order.push(Turn { id: entry.turn.clone(), ..Turn::default() });
            self.order.len() - 1
        });
        let Some(turn) = self.order.get_mut(at) else { return };
        let ms = entry.at.as_millisecond();
        let read = match entry.kind {
            EntryKind::Accepted => {
                serde_json::from_str(&entry.body).map(|Accepted { parts, conversation }| {
                    (turn.parts, turn.accepted_ms, turn.elsewhere) = (parts, ms, conversation.is_some());
                })
            }
            EntryKind::Messages => {
                serde_json::from_str(&entry.body).map(|Messages { messages }| turn.messages = messages)
            }
            EntryKind::Ended => serde_json::from_str(&entry.body).map(|Ended { reply, error }| {
                (turn.reply, turn.error, turn.ended_ms) = (reply, error, ms);
            }),
        };
        if let Err(error) = read {
            tracing::error!(turn = entry.turn, seq = entry.seq, %error, "an entry of a transcript cannot be read");
        }
    }

    fn into_messages(self) -> Vec<Box<RawValue>> {
        let mut seen = HashSet::new();
        let own = self.order.into_iter().filter(|turn| !turn.elsewhere);
        let all = own.flat_map(Turn::into_messages);
        all.filter(|message| message_id(message.get().as_bytes()).is_none_or(|id| seen.insert(id))).collect()
    }
}

impl Turn {
    fn into_messages(self) -> Vec<Box<RawValue>> {
        let asked = self.asked();
        let failed = self.failed();
        let mut messages = self.messages;
        if messages.is_empty() {
            messages.extend(asked);
        }
        // Work that is no message may be answered by a bare word.
        let reply = self.reply.filter(|reply| reply.get().starts_with('{'));
        messages.extend(reply.or(failed));
        messages
    }

    /// What the client said, where the harness did not show it.
    fn asked(&self) -> Option<Box<RawValue>> {
        let info = json!({"id": self.user_id(), "role": "user", "time": {"created": self.accepted_ms}});
        to_raw_value(&json!({"info": info, "parts": self.parts.as_ref()?})).ok()
    }

    /// How a turn without a reply ended, in opencode's form of a failed one.
    fn failed(&self) -> Option<Box<RawValue>> {
        let TurnError { code, error } = self.error.as_ref()?;
        let info = json!({
            "id": format!("{}-error", self.id), "role": "assistant", "parentID": self.user_id(),
            "time": {"created": self.ended_ms, "completed": self.ended_ms},
            "error": {"name": "TurnFailed", "data": {"message": error, "code": code}},
        });
        to_raw_value(&json!({"info": info, "parts": []})).ok()
    }

    fn user_id(&self) -> String {
        let first = self.messages.first().and_then(|first| message_id(first.get().as_bytes()));
        first.unwrap_or_else(|| format!("{}-user", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn entry(turn: &str, kind: EntryKind, body: Value) -> Entry {
        Entry {
            seq: 1,
            turn: turn.into(),
            kind,
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            body: body.to_string(),
        }
    }

    fn messages(entries: Vec<Entry>) -> Vec<Value> {
        let mut turns = Turns::default();
        entries.into_iter().for_each(|entry| turns.take(entry));
        turns.into_messages().iter().map(|raw| serde_json::from_str(raw.get()).unwrap()).collect()
    }

    fn ids(messages: &[Value]) -> Vec<&str> {
        messages.iter().map(|message| message["info"]["id"].as_str().unwrap()).collect()
    }

    fn message(id: &str) -> Value {
        json!({"info": {"id": id}, "parts": []})
    }

    #[test]
    fn a_turn_is_what_was_asked_its_steps_and_the_reply() {
        let told = messages(vec![
            entry("a", EntryKind::Accepted, json!({"parts": []})),
            entry("b", EntryKind::Accepted, json!({"parts": []})),
            entry("a", EntryKind::Messages, json!({"messages": [message("m1"), message("m2")]})),
            entry("a", EntryKind::Ended, json!({"state": "completed", "reply": message("m3")})),
            entry("b", EntryKind::Messages, json!({"messages": [message("m4"), message("m2")]})),
            entry("b", EntryKind::Ended, json!({"state": "completed", "reply": message("m5")})),
        ]);
        assert_eq!(ids(&told), ["m1", "m2", "m3", "m4", "m5"], "each message once");
    }

    #[test]
    fn what_was_asked_is_told_also_where_nobody_saw_the_end() {
        let parts = json!([{"type": "text", "text": "hello"}]);
        let told = messages(vec![entry("a", EntryKind::Accepted, json!({"parts": parts}))]);
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0]["parts"], &told[0]["info"]["role"]), (&parts, &json!("user")));
    }

    #[test]
    fn a_turn_that_failed_says_why() {
        let error = json!({"code": "turn_timeout", "error": "too long"});
        let told = messages(vec![
            entry("a", EntryKind::Accepted, json!({"parts": []})),
            entry("a", EntryKind::Ended, json!({"state": "failed", "error": error})),
        ]);
        assert_eq!(told[1]["info"]["error"]["data"]["message"], "too long");
        assert_eq!(told[1]["info"]["parentID"], told[0]["info"]["id"]);
    }

    #[test]
    fn what_was_said_in_another_conversation_is_not_in_the_session_s_own() {
        let told = messages(vec![
            entry("a", EntryKind::Accepted, json!({"parts": [], "conversation": "ses_other"})),
            entry("a", EntryKind::Ended, json!({"state": "completed", "reply": message("m1")})),
            entry("b", EntryKind::Accepted, json!({"parts": []})),
            entry("b", EntryKind::Ended, json!({"state": "completed", "reply": true})),
        ]);
        assert_eq!(ids(&told), ["b-user"]);
    }

    #[test]
    fn an_entry_that_cannot_be_read_hides_no_other() {
        let told = messages(vec![
            entry("a", EntryKind::Accepted, json!("nonsense")),
            entry("a", EntryKind::Ended, json!({"state": "completed", "reply": message("m3")})),
        ]);
        assert_eq!(ids(&told), ["m3"]);
    }
}
