//! The store as its users see it: a port, so that their tests can put another one in its place.

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::{Batch, Entry, Position, StoreError};

/// Keeps transcripts. Every method returns within a time limit; all may be called by many tasks at once.
pub trait TranscriptStore: Send + Sync + 'static {
    /// Stores a stretch of a journal, whole or not at all, and returns how far that journal is stored now. It is
    /// durable then. What is stored already is left as it is; so the same batch may come again, and batches may
    /// overlap, from several processes at once.
    ///
    /// # Errors
    /// [`StoreError::Gap`] where entries before the batch are missing, [`StoreError::Invalid`], and what can befall
    /// a database.
    fn append<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// The session's latest journal, and how far it is stored. `None` where nothing is known of the session.
    ///
    /// # Errors
    /// What can befall a database.
    fn stored<'a>(&'a self, session_uid: &'a str) -> BoxFuture<'a, Result<Option<Position>, StoreError>>;

    /// How far one journal is stored; 0 where nothing is.
    ///
    /// # Errors
    /// What can befall a database.
    fn stored_in<'a>(&'a self, session_uid: &'a str, journal: u32) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// The session's entries in order, those behind `after`: as many as have `most_bytes` of body together, but one
    /// at least where there is one. An empty page is the end.
    ///
    /// # Errors
    /// What can befall a database.
    fn entries<'a>(
        &'a self,
        session_uid: &'a str,
        after: Option<Position>,
        most_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(Position, Entry)>, StoreError>>;

    /// All entries of one turn, in order.
    ///
    /// # Errors
    /// What can befall a database.
    fn turn<'a>(
        &'a self,
        session_uid: &'a str,
        turn: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(Position, Entry)>, StoreError>>;

    /// Forgets all sessions of which nothing new was stored since then, and returns how many. Each is gone at once
    /// and as a whole; it may be appended to again, from the beginning. The work is done in small transactions, and
    /// what an earlier call did not finish is finished.
    ///
    /// # Errors
    /// What can befall a database; a part may have been done.
    fn prune(&self, before: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Whether transcripts can be read now.
    ///
    /// # Errors
    /// What keeps them from it.
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}
