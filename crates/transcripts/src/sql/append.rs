//! Storing entries.

use jiff::Timestamp;
use sqlx::{AnyConnection, Connection};

use super::failure::Failure;
use super::read;
use crate::{Batch, StoreError};

/// Makes the session known, and holds it: whoever comes next waits here until this transaction ends. This is one
/// statement so that a session that is being forgotten is there afterwards in any case.
const HOLD: &str = "INSERT INTO transcript_sessions (id, uid, namespace, name, appended_at) \
    VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (uid) DO UPDATE SET appended_at = excluded.appended_at RETURNING id";

const THROUGH: &str = "SELECT through FROM transcript_journals WHERE session = $1 AND journal = $2";

const INSERT: &str = "INSERT INTO transcript_entries \
    (session, journal, seq, turn, kind, happened_at, size, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const ADVANCE: &str = "INSERT INTO transcript_journals (session, journal, through) VALUES ($1, $2, $3) \
    ON CONFLICT (session, journal) DO UPDATE SET through = excluded.through";

/// Stores what is new of a batch that was checked, and returns how far the journal is stored.
pub(super) async fn append(
    connection: &mut AnyConnection,
    begin_write: &'static str,
    batch: &Batch,
) -> Result<u64, Failure> {
    // Another gateway was often faster; then nothing is locked, and nothing written.
    let stored = read::stored_in(connection, &batch.session.uid, batch.journal).await?;
    if stored >= batch.through {
        return Ok(stored);
    }
    let journal = i64::from(batch.journal);
    let mut transaction = connection.begin_with(begin_write).await?;
    let session: i64 = sqlx::query_scalar(HOLD)
        .bind(fastrand::i64(1..))
        .bind(batch.session.uid.as_str())
        .bind(batch.session.namespace.as_str())
        .bind(batch.session.name.as_str())
        .bind(Timestamp::now().as_microsecond())
        .fetch_one(&mut *transaction)
        .await?;
    let through = sqlx::query_scalar(THROUGH).bind(session).bind(journal);
    let through: Option<i64> = through.fetch_optional(&mut *transaction).await?;
    let stored = read::number(through.unwrap_or_default(), "how far a journal is stored")?;
    if stored >= batch.through || stored < batch.after {
        transaction.rollback().await?;
        let gap = StoreError::Gap { stored, after: batch.after };
        return if stored < batch.after { Err(gap.into()) } else { Ok(stored) };
    }
    for entry in batch.entries.iter().filter(|entry| entry.seq > stored) {
        sqlx::query(INSERT)
            .bind(session)
            .bind(journal)
            .bind(read::bound(entry.seq))
            .bind(entry.turn.as_str())
            .bind(entry.kind.as_str())
            .bind(entry.at.to_string())
            .bind(read::bound(entry.body.len() as u64))
            .bind(entry.body.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    let advance = sqlx::query(ADVANCE).bind(session).bind(journal).bind(read::bound(batch.through));
    advance.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(batch.through)
}
