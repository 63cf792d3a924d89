//! The store in a database: SQLite for one gateway with a volume, PostgreSQL for any number of them.
//!
//! One text of SQL for both, through sqlx's `Any`. What differs is in [`dialect`]. A session's row is its lock: whoever
//! appends writes to it first, and waits there for anyone who does the same.

mod append;
mod connections;
mod dialect;
mod failure;
mod lease;
mod prune;
mod read;
mod schema;

use std::fmt;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;

use self::connections::{Access, Connections};
use crate::{Batch, DatabaseUrl, Entry, Position, StoreError, TranscriptStore};

/// How a database is used.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Connections at most.
    pub connections: usize,
    /// How long a call may take, waiting for a connection included. Appending has a second more for every 8 MiB.
    pub time_limit: Duration,
    /// How long opening may take, bringing the schema up to date included.
    pub open_limit: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { connections: 4, time_limit: Duration::from_secs(5), open_limit: Duration::from_secs(60) }
    }
}

/// Transcripts in an SQL database.
pub struct SqlStore {
    connections: Connections,
}

impl SqlStore {
    /// Connects to the database and brings its schema up to date. A missing SQLite file is made, for this user only.
    ///
    /// # Errors
    /// [`StoreError::Refused`], [`StoreError::Newer`], [`StoreError::Unavailable`] and what else can befall a
    /// database.
    pub async fn open(url: &DatabaseUrl, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(url, options, "").await
    }

    /// The same, with more SQL for every new connection.
    async fn open_with(
        url: &DatabaseUrl,
        options: StoreOptions,
        setup: &'static str,
    ) -> Result<Self, StoreError> {
        let connections = Connections::new(url.clone(), &options, setup);
        schema::bring_up_to_date(url, options.open_limit).await?;
        let store = Self { connections };
        store.check().await?;
        tracing::info!(database = %url, "transcripts are kept in this database");
        Ok(store)
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlStore({})", self.connections.url())
    }
}

impl TranscriptStore for SqlStore {
    fn append<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, StoreError>> {
        async move {
            batch.check()?;
            let begin = dialect::begin_write(self.connections.url());
            let access = Access::Write { bytes: batch.body_bytes() };
            let work = async |connection: &mut _| append::append(connection, begin, batch).await;
            self.connections.run("storing entries of a transcript", access, work).await
        }
        .boxed()
    }

    fn stored<'a>(&'a self, session_uid: &'a str) -> BoxFuture<'a, Result<Option<Position>, StoreError>> {
        let work = async move |connection: &mut _| read::stored(connection, session_uid).await;
        self.connections.run("asking how far a transcript is stored", Access::Read, work).boxed()
    }

    fn stored_in<'a>(&'a self, session_uid: &'a str, journal: u32) -> BoxFuture<'a, Result<u64, StoreError>> {
        let work = async move |connection: &mut _| read::stored_in(connection, session_uid, journal).await;
        self.connections.run("asking how far a journal is stored", Access::Read, work).boxed()
    }

    fn entries<'a>(
        &'a self,
        session_uid: &'a str,
        after: Option<Position>,
        most_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<(Position, Entry)>, StoreError>> {
        let work =
            async move |connection: &mut _| read::page(connection, session_uid, after, most_bytes).await;
        self.connections.run("reading a transcript", Access::Read, work).boxed()
    }

    fn turn<'a>(
        &'a self,
        session_uid: &'a str,
        turn: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(Position, Entry)>, StoreError>> {
        let work = async move |connection: &mut _| read::turn(connection, session_uid, turn).await;
        self.connections.run("reading a turn", Access::Read, work).boxed()
    }

    fn prune(&self, before: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        prune::prune(&self.connections, before).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let work = async move |connection: &mut _| schema::check(connection).await;
        self.connections.run("asking whether the database answers", Access::Read, work).boxed()
    }
}

#[cfg(test)]
mod tests;
