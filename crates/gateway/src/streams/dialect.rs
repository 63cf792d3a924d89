//! The two ways in which clients are told what happens.

use paddock_api::http::ErrorCode;
use paddock_runnerapi::Gap;
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

/// What is said here.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(flatten)]
    wrapped: Option<Detail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Detail<'a>>,
}

#[derive(Clone, Copy, Serialize)]
struct Detail<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Gap>,
    message: &'a str,
}

impl Dialect {
    /// The stream begins.
    pub fn begin(self) -> String {
        self.say("ready", "stream.opened", None)
    }

    /// The harness has said something.
    pub fn event(self, event: &RawValue) -> String {
        match self {
            Self::Plain => event.get().to_owned(),
            Self::Wrapped => {
                written(&Said { kind: "harness_event", event: Some(event), wrapped: None, properties: None })
            }
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
        self.say("gap", "stream.gap", Some(Detail { code: None, reason: Some(gap), message }))
    }

    /// The stream ends before what it was for.
    pub fn error(self, error: &ApiError) -> String {
        let detail = Detail { code: Some(error.code), reason: None, message: &error.message };
        self.say("error", "stream.error", Some(detail))
    }

    /// The stream has told what it was for.
    pub fn done(self) -> String {
        self.say("done", "stream.done", None)
    }

    fn say(self, wrapped: &str, plain: &str, detail: Option<Detail<'_>>) -> String {
        written(&match self {
            Self::Wrapped => Said { kind: wrapped, event: None, wrapped: detail, properties: None },
            Self::Plain => Said { kind: plain, event: None, wrapped: None, properties: detail },
        })
    }
}

fn written(said: &Said<'_>) -> String {
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
