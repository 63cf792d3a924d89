//! Lines of the journal.

use bytes::Bytes;
use paddock_runnerapi::{ActivateRequest, ErrorBody, StepTook, TurnRequest, TurnState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::outcome::Outcome;
use crate::harness::TurnNames;

/// Tells whether two messages are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Of what the client asked for, as it was sent.
    pub fn of(request: &TurnRequest) -> Self {
        let mut hasher = Sha256::new();
        let mut add = |text: &str| {
            hasher.update(text);
            // JSON text holds no such byte, so borders between the pieces count.
            hasher.update([0]);
        };
        for part in &request.parts {
            add(&part.to_string());
        }
        if let Some(call) = &request.call {
            add(&call.path);
            add(&Value::Object(call.body.clone()).to_string());
        }
        Self(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A pod's binding to the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// What was asked for.
    pub request: ActivateRequest,
    /// The conversation's id in the harness.
    pub harness_session_id: String,
    /// How long it took.
    pub took_ms: u64,
    /// How long each step took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepTook>,
    /// UID of the pod that was activated. The next pod of the session finds the journal too, and must be told
    /// apart from a container that restarts. Absent where the journal could not outlive its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A pod belongs to this session, for ever; and so does the journal.
    Activated(Box<Activation>),
    /// The conversation of earlier pods was given to the harness.
    Continued {
        /// How many messages.
        messages: usize,
        /// When, RFC 3339.
        at: String,
    },
    /// A turn's id is taken.
    Accepted {
        /// The turn.
        turn: String,
        /// Of its parts.
        digest: Digest,
        /// Its parts, as the client sent them; of a call to the harness's own API, what it says.
        #[serde(default)]
        parts: Vec<Value>,
        /// The conversation, where it is not the session's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<String>,
        /// When, RFC 3339.
        at: String,
    },
    /// The harness is about to see the turn.
    Started {
        /// The turn.
        turn: String,
        /// What it is called there.
        names: TurnNames,
        /// When, RFC 3339.
        at: String,
    },
    /// What the conversation gained with a turn, its reply apart.
    Messages {
        /// The turn.
        turn: String,
        /// The user's own first; each in the harness's form.
        messages: Vec<Box<RawValue>>,
        /// When, RFC 3339.
        at: String,
    },
    /// The turn's outcome.
    Ended {
        /// The turn.
        turn: String,
        /// Which kind of end.
        state: TurnState,
        /// The harness's reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<Box<RawValue>>,
        /// Why there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorBody>,
        /// When, RFC 3339.
        at: String,
    },
}

impl Record {
    pub(super) fn continued(messages: usize) -> Self {
        Self::Continued { messages, at: now() }
    }

    pub(super) fn accepted(
        turn: &str,
        digest: &Digest,
        parts: Vec<Value>,
        conversation: Option<String>,
    ) -> Self {
        Self::Accepted { turn: turn.to_owned(), digest: digest.clone(), parts, conversation, at: now() }
    }

    pub(super) fn started(turn: &str, names: &TurnNames) -> Self {
        Self::Started { turn: turn.to_owned(), names: names.clone(), at: now() }
    }

    /// What a turn's end leaves: the messages on the way to it, where there are any, and the end itself as the last.
    pub(super) fn end(turn: &str, messages: Vec<Box<RawValue>>, outcome: &Outcome) -> Vec<Self> {
        let said = Self::Messages { turn: turn.to_owned(), messages, at: now() };
        let has_any = matches!(&said, Self::Messages { messages, .. } if !messages.is_empty());
        has_any.then_some(said).into_iter().chain([Self::ended(turn, outcome)]).collect()
    }

    pub(super) fn ended(turn: &str, outcome: &Outcome) -> Self {
        let (reply, error) = match outcome {
            Outcome::Completed(reply) => (one_line(reply), None),
            Outcome::Failed(error) | Outcome::Interrupted(error) => (None, Some(error.clone())),
        };
        Self::Ended { turn: turn.to_owned(), state: outcome.state(), reply, error, at: now() }
    }

    /// The outcome that an `Ended` line holds.
    pub(super) fn into_outcome(self) -> Option<Outcome> {
        let Self::Ended { state, reply, error, .. } = self else { return None };
        match state {
            TurnState::Completed => {
                Some(Outcome::Completed(Bytes::from(String::from(Box::<str>::from(reply?)))))
            }
            TurnState::Failed => Some(Outcome::Failed(error?)),
            TurnState::Interrupted => Some(Outcome::Interrupted(error?)),
            TurnState::Queued | TurnState::Running => None,
        }
    }
}

/// A reply as one line: JSON text holds line ends only between values, where they mean nothing.
pub(super) fn one_line(reply: &[u8]) -> Option<Box<RawValue>> {
    if reply.contains(&b'\n') || reply.contains(&b'\r') {
        let value: Value = serde_json::from_slice(reply).ok()?;
        return serde_json::value::to_raw_value(&value).ok();
    }
    serde_json::from_slice(reply).ok()
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_runnerapi::HarnessCall;
    use serde_json::json;

    #[test]
    fn an_outcome_survives_its_line_word_for_word() {
        let reply = Bytes::from_static(br#"{"b":1.50,"a":"\u00e4"}"#);
        let line = serde_json::to_string(&Record::ended("t", &Outcome::Completed(reply.clone()))).unwrap();
        let read: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(read.into_outcome(), Some(Outcome::Completed(reply)));
        let interrupted = Outcome::interrupted("the pod died");
        let line = serde_json::to_string(&Record::ended("t", &interrupted)).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap().into_outcome(), Some(interrupted));
    }

    #[test]
    fn a_reply_of_many_lines_becomes_one() {
        let reply = Bytes::from_static(b"{\n \"a\": \"x\\n\"\r\n}");
        let line = serde_json::to_string(&Record::ended("t", &Outcome::Completed(reply))).unwrap();
        assert!(!line.contains('\n') && line.contains(r#"{"a":"x\n"}"#));
    }

    #[test]
    fn digests_tell_messages_apart() {
        let digest = |parts: Value| Digest::of(&TurnRequest::message("t", parts.as_array().unwrap().clone()));
        assert_eq!(digest(json!([{"a": 1, "b": 2}])), digest(json!([{"b": 2, "a": 1}])));
        assert_ne!(digest(json!(["a", "b"])), digest(json!(["ab"])));
        assert_ne!(digest(json!([])), digest(json!([""])));
        let call = |path: &str, body: Value| {
            let call = HarnessCall { path: path.into(), body: body.as_object().unwrap().clone() };
            Digest::of(&TurnRequest { call: Some(call), ..TurnRequest::message("t", vec![]) })
        };
        let one = call("/session/a/message", json!({"parts": []}));
        assert_eq!(one, call("/session/a/message", json!({"parts": []})));
        assert_ne!(one, call("/session/b/message", json!({"parts": []})));
        assert_ne!(one, call("/session/a/message", json!({"parts": [], "agent": "plan"})));
    }
}
