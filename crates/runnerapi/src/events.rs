//! What happens in a session, as its harness tells it, for those who follow it.
//!
//! A runner keeps the latest events in memory, each with an id that only grows: within a pod, over restarts of its container, and
//! from one pod of a session to the next. Whoever has followed up to an id asks for what came after it. What cannot be told any
//! more is not passed over in silence: a [`Gap`] stands in its place, and the conversation itself ([`crate::MESSAGES`]) says
//! what was missed.
//!
//! The answer is a document without an end, one JSON object a line ([`EventLine`]), the first of which only says where reading
//! begins. Empty lines come every [`HEARTBEAT`] while nothing happens.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::transcript::two_numbers;

/// How long a stream is silent at most.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// Content type of the answer.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// Names an event of a session; later ones are greater. In text `<incarnation>.<seq>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Which pod of the session told it.
    pub incarnation: u32,
    /// Which of its events.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.seq)
    }
}

/// The text is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an event: two numbers with a point between them")]
pub struct BadEventId;

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let (incarnation, seq) = two_numbers(text).ok_or(BadEventId)?;
        Ok(Self { incarnation, seq })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The reader was so slow that they were forgotten before it came to them.
    SlowReader,
    /// The runner does not know (any more) what came after the id that was asked for.
    UnknownId,
    /// The harness broke its stream of events off, and was subscribed to again.
    Resubscribed,
    /// An event was larger than is kept.
    TooLarge,
}

impl Gap {
    /// The word clients and metrics see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::UnknownId => "unknown_id",
            Self::Resubscribed => "resubscribed",
            Self::TooLarge => "too_large",
        }
    }
}

/// One line of the answer: an event, a gap, or neither, which says where reading begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventLine {
    /// Its id. What comes after it is told to whoever asks with it.
    pub id: EventId,
    /// What the harness said, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
    /// With this event the conversation has come to rest: what was asked of it is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rests: bool,
    /// Events are missing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = EventId { incarnation: 2, seq: 1_764_274_000_000_001 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.+2", "x.1", "4294967296.1"] {
            assert_eq!(bad.parse::<EventId>(), Err(BadEventId), "{bad:?}");
        }
    }

    #[test]
    fn events_of_a_later_pod_come_after_all_of_an_earlier_one() {
        assert!(EventId { incarnation: 2, seq: 0 } > EventId { incarnation: 1, seq: u64::MAX });
    }

    #[test]
    fn a_line_has_only_what_it_tells() {
        let id = EventId { incarnation: 1, seq: 7 };
        let told = |line: &EventLine| serde_json::to_string(line).unwrap();
        let begins = EventLine { id, event: None, rests: false, gap: None };
        assert_eq!(told(&begins), r#"{"id":"1.7"}"#);
        let gap = EventLine { gap: Some(Gap::SlowReader), ..begins.clone() };
        assert_eq!(told(&gap), r#"{"id":"1.7","gap":"slow_reader"}"#);
        let event = RawValue::from_string(r#"{"type": "x"}"#.to_owned()).unwrap();
        let event = EventLine { event: Some(event), rests: true, ..begins };
        assert_eq!(told(&event), r#"{"id":"1.7","event":{"type": "x"},"rests":true}"#);
        let read: EventLine = serde_json::from_str(&told(&event)).unwrap();
        assert_eq!((read.id, read.rests, read.event.unwrap().get()), (id, true, r#"{"type": "x"}"#));
    }

    #[test]
    fn a_gap_has_the_same_word_everywhere() {
        for gap in [Gap::SlowReader, Gap::UnknownId, Gap::Resubscribed, Gap::TooLarge] {
            assert_eq!(serde_json::to_value(gap).unwrap(), gap.as_str());
        }
    }
}
