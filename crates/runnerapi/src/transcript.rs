//! What was said in a session, as its journal has it, for those who keep it beyond the pod.
//!
//! A place in a journal is a number of bytes: where a line ends. It only grows, and it names a line for ever, so whoever
//! stores entries by it can be told the same ones twice. A pod without the volume of the one before begins another
//! journal; journals of a session are numbered by the incarnation that they began in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A place in a session's transcript; later ones are greater. In text `<journal>.<seq>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The incarnation in which the journal began.
    pub journal: u32,
    /// Where in it; 0 is before all.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.journal, self.seq)
    }
}

/// Says that a pod's transcript is saved up to a place: the value of the annotation on its Session, in text
/// `<pod uid>/<journal>.<seq>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// UID of the pod.
    pub pod_uid: String,
    /// Up to where.
    pub through: Position,
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod_uid, self.through)
    }
}

impl FromStr for Saved {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (pod_uid, through) = text.split_once('/').ok_or(BadPosition)?;
        Ok(Self { pod_uid: pod_uid.to_owned(), through: through.parse()? })
    }
}

/// The text is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in a transcript: two numbers with a point between them")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (journal, seq) = two_numbers(text).ok_or(BadPosition)?;
        Ok(Self { journal, seq })
    }
}

/// Reads `<number>.<number>`, digits only.
pub(crate) fn two_numbers(text: &str) -> Option<(u32, u64)> {
    let (first, second) = text.split_once('.')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !number(first) || !number(second) {
        return None;
    }
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// What an entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A turn was accepted: `{"parts": [...]}`, as the client sent them.
    Accepted,
    /// What the conversation gained with a turn beside its reply: `{"messages": [{"info", "parts"}, ...]}`, the user's own
    /// first.
    Messages,
    /// A turn ended: `{"state", "reply"?, "error"?}`.
    Ended,
}

/// One entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TranscriptEntry {
    /// Where it ends in its journal.
    pub seq: u64,
    /// The turn it is about.
    pub turn: String,
    /// What it tells.
    pub kind: EntryKind,
    /// When it was written, RFC 3339.
    pub at: String,
    /// See [`EntryKind`].
    pub body: Box<RawValue>,
}

/// A piece of a transcript: all entries of one journal after the place that was asked for, up to `through`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TranscriptPage {
    /// The incarnation in which the journal began.
    pub journal: u32,
    /// In order.
    pub entries: Vec<TranscriptEntry>,
    /// Where to go on.
    pub through: u64,
    /// Where the journal ends, at this moment.
    pub end: u64,
}

/// The id of a harness's message, `{"info": {"id", ...}, "parts"}`; nothing where it has none.
pub fn message_id(message: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        info: Info,
    }
    #[derive(Deserialize)]
    struct Info {
        id: String,
    }
    serde_json::from_slice::<Message>(message).ok().map(|message| message.info.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let position = Position { journal: 3, seq: 4711 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", ".", "1", "1.", ".2", "1.2.3", "+1.2", "1.-2", " 1.2", "a.b", "99999999999.1"] {
            assert_eq!(bad.parse::<Position>(), Err(BadPosition), "{bad:?}");
        }
    }

    #[test]
    fn what_is_saved_is_read_as_it_is_written() {
        let saved = Saved { pod_uid: "0b-1".to_owned(), through: Position { journal: 1, seq: 9 } };
        assert_eq!(saved.to_string(), "0b-1/1.9");
        assert_eq!("0b-1/1.9".parse(), Ok(saved));
        assert!("0b-1".parse::<Saved>().is_err() && "x/1".parse::<Saved>().is_err());
    }

    #[test]
    fn a_later_journal_comes_after_all_of_an_earlier_one() {
        assert!(Position { journal: 2, seq: 0 } > Position { journal: 1, seq: u64::MAX });
    }
}
