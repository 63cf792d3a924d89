//! Reading transcripts.
//!
//! Each answer comes from one statement that begins at the session's row: entries of a session that was forgotten
//! meanwhile, some of them removed already, are never taken for a transcript.

use futures::TryStreamExt;
use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::failure::Failure;
use crate::{Entry, EntryKind, Position, StoreError};

const STORED: &str = "SELECT j.journal, j.through FROM transcript_sessions s \
    JOIN transcript_journals j ON j.session = s.id WHERE s.uid = $1 ORDER BY j.journal DESC LIMIT 1";

const STORED_IN: &str = "SELECT j.through FROM transcript_sessions s \
    JOIN transcript_journals j ON j.session = s.id WHERE s.uid = $1 AND j.journal = $2";

const SIZES: &str = "SELECT e.journal, e.seq, e.size FROM transcript_sessions s \
    JOIN transcript_entries e ON e.session = s.id \
    WHERE s.uid = $1 AND (e.journal, e.seq) > ($2, $3) ORDER BY e.journal, e.seq LIMIT 1000";

const PAGE: &str = "SELECT e.journal, e.seq, e.turn, e.kind, e.happened_at, e.body FROM transcript_sessions s \
    JOIN transcript_entries e ON e.session = s.id \
    WHERE s.uid = $1 AND (e.journal, e.seq) > ($2, $3) AND (e.journal, e.seq) <= ($4, $5) \
    ORDER BY e.journal, e.seq";

const TURN: &str = "SELECT e.journal, e.seq, e.turn, e.kind, e.happened_at, e.body FROM transcript_sessions s \
    JOIN transcript_entries e ON e.session = s.id \
    WHERE s.uid = $1 AND e.turn = $2 ORDER BY e.journal, e.seq";

/// A number as the database has it. Those that it can't have are behind all that it has.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that the database had.
pub(super) fn number<T: TryFrom<i64>>(number: i64, what: &'static str) -> Result<T, Failure> {
    number.try_into().map_err(|_| damaged(format!("{number} is not {what}")))
}

fn damaged(cause: String) -> Failure {
    StoreError::Damaged { doing: "reading a row", cause }.into()
}

fn position(row: &AnyRow) -> Result<Position, Failure> {
    let journal = number(row.try_get(0)?, "a journal's number")?;
    Ok(Position { journal, seq: number(row.try_get(1)?, "an entry's number")? })
}

fn entry(row: &AnyRow) -> Result<(Position, Entry), Failure> {
    let position = position(row)?;
    let unreadable = |what: &str| damaged(format!("the {what} of entry {position} is not readable"));
    let kind = EntryKind::from_word(row.try_get(3)?).ok_or_else(|| unreadable("kind"))?;
    let at: Timestamp = row.try_get::<&str, _>(4)?.parse().map_err(|_| unreadable("time"))?;
    let entry = Entry { seq: position.seq, turn: row.try_get(2)?, kind, at, body: row.try_get(5)? };
    Ok((position, entry))
}

/// The latest journal, and how far it is stored.
pub(super) async fn stored(connection: &mut AnyConnection, uid: &str) -> Result<Option<Position>, Failure> {
    let row = sqlx::query(STORED).bind(uid).fetch_optional(connection).await?;
    row.as_ref().map(position).transpose()
}

/// How far a journal is stored.
pub(super) async fn stored_in(
    connection: &mut AnyConnection,
    uid: &str,
    journal: u32,
) -> Result<u64, Failure> {
    let through = sqlx::query_scalar(STORED_IN).bind(uid).bind(i64::from(journal));
    let through: Option<i64> = through.fetch_optional(connection).await?;
    number(through.unwrap_or_default(), "how far a journal is stored")
}

/// The entries behind `after`, as many as have `most_bytes`.
pub(super) async fn page(
    connection: &mut AnyConnection,
    uid: &str,
    after: Option<Position>,
    most_bytes: usize,
) -> Result<Vec<(Position, Entry)>, Failure> {
    let after = after.unwrap_or(Position { journal: 0, seq: 0 });
    let sizes = sqlx::query(SIZES).bind(uid).bind(i64::from(after.journal)).bind(bound(after.seq));
    let sizes = sizes.fetch_all(&mut *connection).await?;
    let Some(last) = last_within(&sizes, most_bytes)? else { return Ok(Vec::new()) };
    let rows = sqlx::query(PAGE)
        .bind(uid)
        .bind(i64::from(after.journal))
        .bind(bound(after.seq))
        .bind(i64::from(last.journal))
        .bind(bound(last.seq))
        .fetch(connection);
    // Row by row, so that the large ones are not there twice.
    rows.err_into().and_then(|row| async move { entry(&row) }).try_collect().await
}

/// Of rows of journal, number and size, the last that is within `most_bytes`, or else the first.
pub(super) fn last_within(rows: &[AnyRow], most_bytes: usize) -> Result<Option<Position>, Failure> {
    let mut last = None;
    let mut bytes = 0_usize;
    for row in rows {
        bytes = bytes.saturating_add(number(row.try_get(2)?, "a body's size")?);
        if last.is_some() && bytes > most_bytes {
            break;
        }
        last = Some(position(row)?);
    }
    Ok(last)
}

/// All entries of a turn.
pub(super) async fn turn(
    connection: &mut AnyConnection,
    uid: &str,
    turn: &str,
) -> Result<Vec<(Position, Entry)>, Failure> {
    let rows = sqlx::query(TURN).bind(uid).bind(turn).fetch(connection);
    rows.err_into().and_then(|row| async move { entry(&row) }).try_collect().await
}
