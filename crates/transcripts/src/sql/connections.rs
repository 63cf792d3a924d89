//! Connections to the database, each used by one call at a time, and the time limit of every call.
//!
//! A connection is kept for the next call only when its call ended well: after an error, after the time limit, and when
//! the caller went away, nothing is known about it, so it is closed, and the database rolls back what was open. That
//! is why sqlx's own pool is not used: it keeps such connections, and repeats a refused connect until the time is up
//! and then forgets the cause.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::{AnyConnection, Connection, Executor};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::StoreOptions;
use super::failure::{Failure, explain, is_busy};
use crate::url::Database;
use crate::{DatabaseUrl, MAX_BODY_BYTES, StoreError};

const BYTES_PER_SECOND: usize = 8 << 20;
/// SQLite answers at once that it is busy where waiting might never end; so the wait is ours.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a call does to the database.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// It looks.
    Read,
    /// It changes something.
    Write {
        /// How much it brings.
        bytes: usize,
    },
}

/// The connections of one store.
pub(super) struct Connections {
    url: DatabaseUrl,
    time_limit: Duration,
    setup: String,
    permits: Semaphore,
    /// SQLite takes one writer at a time, and does not let those who wait take turns.
    writers: Semaphore,
    idle: Mutex<Vec<AnyConnection>>,
}

impl Connections {
    /// Connects when needed.
    pub(super) fn new(url: DatabaseUrl, options: &StoreOptions, more_setup: &str) -> Self {
        let most = options.connections.max(1);
        let writers = match url.database() {
            Database::Sqlite(_) => 1,
            Database::Postgres => most,
        };
        Self {
            setup: setup(&url, options.time_limit) + more_setup,
            time_limit: options.time_limit,
            permits: Semaphore::new(most),
            writers: Semaphore::new(writers),
            idle: Mutex::new(Vec::new()),
            url,
        }
    }

    pub(super) fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// How a transaction begins that will write.
    pub(super) fn begin_write(&self) -> &'static str {
        begin_write(&self.url)
    }

    /// Does work on a connection, within the time limit.
    pub(super) async fn run<T>(
        &self,
        doing: &'static str,
        access: Access,
        work: impl AsyncFnOnce(&mut AnyConnection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let limit = match access {
            Access::Read => self.time_limit,
            Access::Write { bytes } => self.time_limit + time_for(bytes),
        };
        let within_limit = async {
            let _turn = match access {
                Access::Read => None,
                Access::Write { .. } => Some(self.writers.acquire().await.map_err(|_| closed(doing))?),
            };
            let _permit = self.permits.acquire().await.map_err(|_| closed(doing))?;
            let mut connection = self.take().await.map_err(|error| explain(doing, limit, &error))?;
            let result = work(&mut connection).await;
            match result {
                Ok(_) | Err(Failure::Refused(_)) => self.idle.lock().push(connection),
                Err(Failure::Sql(_)) => drop(connection),
            }
            result.map_err(|failure| match failure {
                Failure::Refused(error) => error,
                Failure::Sql(error) => explain(doing, limit, &error),
            })
        };
        timeout(limit, within_limit).await.unwrap_or(Err(StoreError::Timeout { doing, limit }))
    }

    /// A connection that works. One that was idle is asked first, since the server may have gone meanwhile.
    async fn take(&self) -> Result<AnyConnection, sqlx::Error> {
        let idle = self.idle.lock().pop();
        if let Some(mut connection) = idle {
            if connection.ping().await.is_ok() {
                return Ok(connection);
            }
            // What broke this one broke the others.
            self.idle.lock().clear();
        }
        connect(&self.url, &self.setup).await
    }
}

/// How long the bodies may take in addition.
fn time_for(bytes: usize) -> Duration {
    Duration::from_secs((bytes / BYTES_PER_SECOND) as u64)
}

/// The permits are never taken away; this is for the types.
fn closed(doing: &'static str) -> StoreError {
    StoreError::Unavailable { doing, cause: "the store is closed".to_owned() }
}

/// How a transaction begins that will write, with the right to write from the start where that is one lock.
pub(super) fn begin_write(url: &DatabaseUrl) -> &'static str {
    match url.database() {
        Database::Sqlite(_) => "BEGIN IMMEDIATE",
        // Each statement sees what was committed before it, so that who waited for a lock sees what it waited for.
        Database::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    }
}

/// What every connection is told first.
pub(super) fn setup(url: &DatabaseUrl, limit: Duration) -> String {
    match url.database() {
        // FULL: a commit is on the disk when it returns. The journal is cut to the size of a few large entries.
        Database::Sqlite(_) => format!(
            "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = {};",
            limit.as_millis(),
            2 * MAX_BODY_BYTES,
        ),
        // The server gives up by itself what nobody waits for any more, also where this program froze or the network
        // broke: a session's lock must not be held for ever. And whatever the server's default: an answer means that
        // the entry is on the disk.
        Database::Postgres => format!(
            "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off';",
            limit = (limit + time_for(MAX_BODY_BYTES)).as_millis(),
        ),
    }
}

/// Connects and sets up.
pub(super) async fn connect(url: &DatabaseUrl, setup: &str) -> Result<AnyConnection, sqlx::Error> {
    sqlx::any::install_default_drivers();
    if let Database::Sqlite(path) = url.database() {
        let path = path.clone();
        tokio::task::spawn_blocking(move || make_file(path)).await.map_err(io::Error::other)??;
    }
    let mut connection = AnyConnection::connect_with(url.options()).await?;
    while let Err(error) = connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(setup))).await {
        if !is_busy(&error) {
            return Err(error);
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
    Ok(connection)
}

/// Makes sure that the file is there; others have no business with what was said. SQLite gives the files that it puts
/// beside it the same rights.
fn make_file(path: PathBuf) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        // Its name must survive too.
        Ok(_) => File::open(folder_of(&path)).and_then(|folder| folder.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("making {}: {error}", path.display()))),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
