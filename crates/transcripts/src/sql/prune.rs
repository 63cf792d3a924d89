//! Forgetting old sessions.
//!
//! First a session's row goes, and with it the transcript, at once and whole. Its entries may be gigabytes; they are
//! removed afterwards, a few at a time, by this call or, where it is cut short, by the next one, of any gateway.

use jiff::Timestamp;
use sqlx::{AnyConnection, Connection};

use super::connections::{Access, Connections};
use super::dialect;
use super::failure::Failure;
use super::read;
use crate::{Position, StoreError};

const DOING: &str = "forgetting old transcripts";

const OLD: &str =
    "SELECT id FROM transcript_sessions WHERE appended_at < $1 ORDER BY appended_at, id LIMIT 100";

/// Asks once more: something may have been appended since.
const FORGET: &str = "DELETE FROM transcript_sessions WHERE id = $1 AND appended_at < $2";

const NOTE: &str = "INSERT INTO transcript_forgotten (session) VALUES ($1)";

const FORGOTTEN: &str = "SELECT session FROM transcript_forgotten ORDER BY session LIMIT 1";

const SIZES: &str = "SELECT journal, seq, size FROM transcript_entries WHERE session = $1 \
    ORDER BY journal, seq LIMIT 1000";

const REMOVE: &str = "DELETE FROM transcript_entries WHERE session = $1 AND (journal, seq) <= ($2, $3)";

const DONE: &str = "DELETE FROM transcript_forgotten WHERE session = $1";

/// What is removed in one transaction; more only where one entry has more.
const MOST_BYTES: usize = 32 << 20;

/// Whether a transaction has left something for another one.
#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

/// Forgets all sessions of which nothing was appended since `before`.
pub(super) async fn prune(connections: &Connections, before: Timestamp) -> Result<u64, StoreError> {
    let begin = dialect::begin_write(connections.url());
    let before = before.as_microsecond();
    let access = Access::Write { bytes: 0 };
    let mut sessions = 0;
    loop {
        let forgotten = connections.run(DOING, access, async |c| forget(c, begin, before).await).await?;
        sessions += forgotten;
        if forgotten == 0 {
            break;
        }
    }
    while connections.run(DOING, access, async |c| remove(c, begin).await).await? == Left::Something {}
    Ok(sessions)
}

/// Forgets some sessions, and returns how many.
async fn forget(
    connection: &mut AnyConnection,
    begin_write: &'static str,
    before: i64,
) -> Result<u64, Failure> {
    let mut sessions = 0;
    let mut transaction = connection.begin_with(begin_write).await?;
    let old: Vec<i64> = sqlx::query_scalar(OLD).bind(before).fetch_all(&mut *transaction).await?;
    for session in old {
        let forget = sqlx::query(FORGET).bind(session).bind(before);
        if forget.execute(&mut *transaction).await?.rows_affected() == 1 {
            sqlx::query(NOTE).bind(session).execute(&mut *transaction).await?;
            sessions += 1;
        }
    }
    transaction.commit().await?;
    Ok(sessions)
}

/// Removes some entries of a session that was forgotten. Nobody adds to them: a session is held while its entries are
/// written, and this one is gone.
async fn remove(connection: &mut AnyConnection, begin_write: &'static str) -> Result<Left, Failure> {
    let mut transaction = connection.begin_with(begin_write).await?;
    let session: Option<i64> = sqlx::query_scalar(FORGOTTEN).fetch_optional(&mut *transaction).await?;
    let Some(session) = session else {
        transaction.rollback().await?;
        return Ok(Left::Nothing);
    };
    let sizes = sqlx::query(SIZES).bind(session).fetch_all(&mut *transaction).await?;
    let work = match read::last_within(&sizes, MOST_BYTES)? {
        Some(Position { journal, seq }) => {
            sqlx::query(REMOVE).bind(session).bind(i64::from(journal)).bind(read::bound(seq))
        }
        None => sqlx::query(DONE).bind(session),
    };
    work.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Left::Something)
}
