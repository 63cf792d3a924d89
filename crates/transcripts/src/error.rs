//! Why the store did not do what was asked.
//!
//! No variant holds a piece of a transcript or of a database's URL: all of them may be logged.

use std::time::Duration;

/// Something failed. Unless said otherwise nothing was stored, and it may be tried again: appending is idempotent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database's URL is not one that this program can use.
    #[error(
        "reading the database's URL: {why}; use sqlite:///folder/file.db or postgres://user:password@host/name"
    )]
    Url {
        /// What is wrong with it.
        why: String,
    },
    /// The database does not let this program in, or not do what it must.
    #[error("{doing}: the database refuses: {cause}; check user, password, name and rights of the database")]
    Refused {
        /// What was attempted.
        doing: &'static str,
        /// What it said.
        cause: String,
    },
    /// The database can't be reached, or can't work now.
    #[error(
        "{doing}: the database is not available: {cause}; is it running, reachable, and its volume mounted?"
    )]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// What is known of it.
        cause: String,
    },
    /// There was no answer in time. It may have been stored all the same.
    #[error(
        "{doing}: no answer from the database within {limit:?}; is it overloaded, locked, or its disk slow?"
    )]
    Timeout {
        /// What was attempted.
        doing: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// There is no room.
    #[error(
        "{doing}: the database's disk is full: {cause}; enlarge it, or keep transcripts for a shorter time"
    )]
    Full {
        /// What was attempted.
        doing: &'static str,
        /// What the database said.
        cause: String,
    },
    /// Entries before the batch are missing. Trying the same again won't help: send what comes after `stored`.
    #[error(
        "storing entries after {after}: only those through {stored} are stored; send the ones between first"
    )]
    Gap {
        /// How far the journal is stored.
        stored: u64,
        /// Where the batch began.
        after: u64,
    },
    /// A batch that no store would take. Trying the same again won't help.
    #[error(
        "storing entries: the batch is not in order: {what}; this is a mistake of the program that made it"
    )]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// What is in the database is not what was put there.
    #[error(
        "{doing}: the database is damaged: {cause}; check its disk, and restore it or begin with an empty one"
    )]
    Damaged {
        /// What was attempted.
        doing: &'static str,
        /// What was found.
        cause: String,
    },
    /// A later version of this program has used the database.
    #[error(
        "opening the database: its schema has version {found}, and this program knows versions up to {known}; \
         run the later version of Paddock again, or use another database"
    )]
    Newer {
        /// The schema's version.
        found: i64,
        /// The last version that is known.
        known: i64,
    },
}

impl StoreError {
    /// One word, for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::Full { .. } => "full",
            Self::Gap { .. } => "gap",
            Self::Invalid { .. } => "invalid",
            Self::Damaged { .. } => "damaged",
            Self::Newer { .. } => "newer",
        }
    }
}
