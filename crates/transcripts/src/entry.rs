//! What a transcript consists of, and what a piece of it must be like to be stored.

use std::fmt;

use jiff::Timestamp;

use crate::StoreError;

/// The longest body of an entry, in bytes.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// Where an entry is in its session's transcript.
///
/// A session has a journal for every volume it ever had; most have one. Journals are numbered by the incarnation in
/// which they began, so a later one has a larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The journal.
    pub journal: u32,
    /// The entry in it; the first is 1.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.journal, self.seq)
    }
}

/// Which session a transcript belongs to. The UID decides; the names are for people who look into the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The Session object's namespace.
    pub namespace: String,
    /// Its name, which later sessions may have too.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What an entry tells about its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The user's message.
    Accepted,
    /// Messages of the conversation.
    Messages,
    /// How the turn ended.
    Ended,
}

impl EntryKind {
    /// The kind as a word, as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Messages => "messages",
            Self::Ended => "ended",
        }
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Accepted, Self::Messages, Self::Ended].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in its journal.
    pub seq: u64,
    /// The turn it belongs to.
    pub turn: String,
    /// What it tells.
    pub kind: EntryKind,
    /// When that was.
    pub at: Timestamp,
    /// JSON text, at most [`MAX_BODY_BYTES`]. The store never looks into it.
    pub body: String,
}

/// A stretch of one journal: all its entries with `after < seq <= through`, in order. Numbers without an entry are
/// fine: not all that a runner writes down belongs to the transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The session.
    pub session: SessionKey,
    /// The journal.
    pub journal: u32,
    /// The number before the stretch.
    pub after: u64,
    /// The last number of the stretch.
    pub through: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// How many bytes the bodies have.
    pub fn body_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.body.len()).sum()
    }

    /// Makes sure that a store can take the batch as it is.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn check(&self) -> Result<(), StoreError> {
        let wrong = |what: String| Err(StoreError::Invalid { what });
        let SessionKey { namespace, name, uid } = &self.session;
        if uid.is_empty() {
            return wrong("the session has no UID".to_owned());
        }
        if self.after > self.through {
            return wrong(format!("it ends at {}, before it begins, after {}", self.through, self.after));
        }
        if i64::try_from(self.through).is_err() {
            return wrong(format!("it ends at {}, more than a database can count", self.through));
        }
        if [namespace, name, uid].iter().any(|text| holds_nul(text)) {
            return wrong("the session's key holds a NUL character".to_owned());
        }
        let mut last = self.after;
        for entry in &self.entries {
            let seq = entry.seq;
            if seq <= last || seq > self.through {
                let (after, through) = (self.after, self.through);
                return wrong(format!("entry {seq} comes after {last} in the stretch {after} to {through}"));
            }
            if entry.body.len() > MAX_BODY_BYTES {
                let length = entry.body.len();
                return wrong(format!("entry {seq} has {length} bytes, more than {MAX_BODY_BYTES}"));
            }
            // JSON text has none, and PostgreSQL can't store them.
            if holds_nul(&entry.turn) || holds_nul(&entry.body) {
                return wrong(format!("entry {seq} holds a NUL character"));
            }
            last = seq;
        }
        Ok(())
    }
}

fn holds_nul(text: &str) -> bool {
    text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(after: u64, through: u64, seqs: &[u64]) -> Batch {
        let entry = |seq: &u64| Entry {
            seq: *seq,
            turn: "t".to_owned(),
            kind: EntryKind::Messages,
            at: Timestamp::UNIX_EPOCH,
            body: "secret body".to_owned(),
        };
        let session = SessionKey { namespace: "ns".to_owned(), name: "s".to_owned(), uid: "u".to_owned() };
        Batch { session, journal: 0, after, through, entries: seqs.iter().map(entry).collect() }
    }

    fn complaint(batch: &Batch) -> String {
        let error = batch.check().unwrap_err();
        assert_eq!(error.reason(), "invalid");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret body"), "{text}");
        text
    }

    #[test]
    fn a_stretch_may_have_holes_and_may_be_empty() {
        batch(0, 0, &[]).check().unwrap();
        batch(3, 9, &[]).check().unwrap();
        batch(3, 9, &[4, 7, 9]).check().unwrap();
    }

    #[test]
    fn entries_are_in_the_stretch_and_in_order() {
        assert!(complaint(&batch(3, 9, &[3])).contains("entry 3 comes after 3"));
        assert!(complaint(&batch(3, 9, &[10])).contains("entry 10"));
        assert!(complaint(&batch(3, 9, &[5, 5])).contains("entry 5 comes after 5"));
        assert!(complaint(&batch(3, 9, &[6, 5])).contains("entry 5 comes after 6"));
        assert!(complaint(&batch(9, 3, &[])).contains("before it begins"));
    }

    #[test]
    fn what_a_database_cannot_hold_is_refused() {
        assert!(complaint(&batch(0, u64::MAX, &[])).contains("count"));
        let mut nul = batch(0, 1, &[1]);
        nul.entries[0].body.push('\0');
        assert!(complaint(&nul).contains("NUL"));
        let mut nameless = batch(0, 1, &[1]);
        nameless.session.uid.clear();
        assert!(complaint(&nameless).contains("UID"));
        let mut long = batch(0, 1, &[1]);
        long.entries[0].body = "x".repeat(MAX_BODY_BYTES);
        long.check().unwrap();
        long.entries[0].body.push('x');
        assert!(complaint(&long).contains("67108865 bytes"));
    }

    #[test]
    fn later_journals_come_later() {
        let early = Position { journal: 1, seq: 900 };
        let late = Position { journal: 2, seq: 1 };
        assert!(early < late);
        assert_eq!(early.to_string(), "1/900");
    }

    #[test]
    fn every_kind_has_its_word() {
        for kind in [EntryKind::Accepted, EntryKind::Messages, EntryKind::Ended] {
            assert_eq!(EntryKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(EntryKind::from_word("started"), None);
    }
}
