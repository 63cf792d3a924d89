//! The two ways in which clients are told what happens.

use paddock_api::http::{ErrorCode, HarnessEvent};
use paddock_runnerapi::Gap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ApiError;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"type": "harness_event", "event": {...}}` between `ready` and `done`.
    Wrapped,
    /// The harness's own events, and `{"type": "stream.…", "properties": {...}}` for what is said here.
    Plain,
}

/// A line of a wrapped stream.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "SessionEvent")]
pub enum Wrapped<'a> {
    /// What happens from here on is told.
    Ready,
    /// The harness's own event, as it came.
    HarnessEvent {
        /// The event.
        #[schemars(with = "HarnessEvent")]
        event: &'a RawValue,
    },
    /// Events are missing here.
    Gap {
        /// Why.
        reason: Gap,
        /// A sentence.
        message: &'a str,
    },
    /// The turn has ended, and its reply is stored.
    Done,
    /// The end, too early.
    Error {
        /// Which kind of error it is.
        code: ErrorCode,
        /// A sentence.
        message: &'a str,
    },
}

/// What is said in a plain stream between the harness's own events.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", content = "properties")]
#[schemars(rename = "StreamNotice")]
pub enum Plain<'a> {
    /// What happens from here on is told.
    #[serde(rename = "stream.opened")]
    Opened,
    /// Events are missing here.
    #[serde(rename = "stream.gap")]
    Gap {
        /// Why.
        reason: Gap,
        /// A sentence.
        message: &'a str,
    },
    /// The stream has told what it was for.
    #[serde(rename = "stream.done")]
    Done,
    /// The end, too early.
    #[serde(rename = "stream.error")]
    Error {
        /// Which kind of error it is.
        code: ErrorCode,
        /// A sentence.
        message: &'a str,
    },
}

impl Dialect {
    /// The stream begins.
    pub fn begin(self) -> String {
        self.say(&Wrapped::Ready, &Plain::Opened)
    }

    /// The harness has said something.
    pub fn event(self, event: &RawValue) -> String {
        match self {
            Self::Plain => event.get().to_owned(),
            Self::Wrapped => written(&Wrapped::HarnessEvent { event }),
        }
    }

    /// Events are missing.
    pub fn gap(self, gap: Gap) -> String {
        let message = match gap {
            Gap::SlowReader => {
                "events are missing: they came faster than they were read. The session's messages tell what was missed"
            }
            Gap::UnknownId => {
                "events are missing: what came after the last one that was read is not known any more. The session's messages tell what was missed"
            }
            Gap::Resubscribed => {
                "events may be missing: the harness broke off its stream of them. The session's messages tell what was missed"
            }
            Gap::TooLarge => {
                "an event is missing: it was too large. The session's messages have what it told"
            }
        };
        self.say(&Wrapped::Gap { reason: gap, message }, &Plain::Gap { reason: gap, message })
    }

    /// The stream ends before what it was for.
    pub fn error(self, error: &ApiError) -> String {
        let (code, message) = (error.code, error.message.as_str());
        self.say(&Wrapped::Error { code, message }, &Plain::Error { code, message })
    }

    /// The stream has told what it was for.
    pub fn done(self) -> String {
        self.say(&Wrapped::Done, &Plain::Done)
    }

    fn say(self, wrapped: &Wrapped<'_>, plain: &Plain<'_>) -> String {
        match self {
            Self::Wrapped => written(wrapped),
            Self::Plain => written(plain),
        }
    }
}

fn written(said: &impl Serialize) -> String {
    // A type of ours always has a JSON form.
    serde_json::to_string(said).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_says_it_in_its_own_way() {
        let event = RawValue::from_string(r#"{"type": "x", "n": 1.0}"#.to_owned()).unwrap();
        let error = ApiError::new(ErrorCode::Dead, "gone");
        let (wrapped, plain) = (Dialect::Wrapped, Dialect::Plain);
        assert_eq!(wrapped.begin(), r#"{"type":"ready"}"#);
        assert_eq!(plain.begin(), r#"{"type":"stream.opened"}"#);
        assert_eq!(wrapped.event(&event), r#"{"type":"harness_event","event":{"type": "x", "n": 1.0}}"#);
        assert_eq!(plain.event(&event), event.get());
        assert_eq!(wrapped.error(&error), r#"{"type":"error","code":"dead","message":"gone"}"#);
        assert_eq!(
            plain.error(&error),
            r#"{"type":"stream.error","properties":{"code":"dead","message":"gone"}}"#
        );
        assert!(
            wrapped.gap(Gap::SlowReader).starts_with(r#"{"type":"gap","reason":"slow_reader","message":"#)
        );
        assert!(plain.gap(Gap::UnknownId).contains(r#""properties":{"reason":"unknown_id","message":"#));
        assert_eq!(wrapped.done(), r#"{"type":"done"}"#);
    }
}
