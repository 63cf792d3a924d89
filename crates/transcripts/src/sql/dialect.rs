//! Where SQLite and PostgreSQL differ: how a connection is made and set up, and how a transaction that writes begins.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Error, Executor};
use tokio::time::{Instant, sleep, timeout};

use super::failure::is_busy;
use crate::url::Database;
use crate::{DatabaseUrl, MAX_BODY_BYTES};

const BYTES_PER_SECOND: usize = 8 << 20;

/// SQLite answers at once that it is busy where waiting might never end; so the wait is ours.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// How long bodies may take, in addition to everything else.
pub(super) fn time_for(bytes: usize) -> Duration {
    Duration::from_secs((bytes / BYTES_PER_SECOND) as u64)
}

/// How a transaction begins that will write.
pub(super) fn begin_write(url: &DatabaseUrl) -> &'static str {
    match url.database() {
        // The one lock there is, from the start: taken later, it may be refused because of what was read before.
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

/// Connects and sets up. Only a hanging disk makes it last longer than `limit`.
pub(super) async fn connect(url: &DatabaseUrl, setup: &str, limit: Duration) -> Result<AnyConnection, Error> {
    sqlx::any::install_default_drivers();
    match url.database() {
        Database::Sqlite(path) => {
            let path = path.clone();
            tokio::task::spawn_blocking(move || make_file(path)).await.map_err(io::Error::other)??;
            let mut connection = AnyConnection::connect_with(url.options()).await?;
            let deadline = Instant::now() + limit;
            loop {
                match connection.execute(sqlx::raw_sql(AssertSqlSafe(setup))).await {
                    Ok(_) => return Ok(connection),
                    Err(error) if is_busy(&error) && Instant::now() < deadline => sleep(BUSY_PAUSE).await,
                    Err(error) => return Err(error),
                }
            }
        }
        Database::Postgres => timeout(limit, async {
            let mut connection = AnyConnection::connect_with(url.options()).await?;
            connection.execute(sqlx::raw_sql(AssertSqlSafe(setup))).await?;
            Ok(connection)
        })
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
    }
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
