//! What an error of sqlx or of a database means to the store's users, in words that hold no secret.
//!
//! Errors about data quote them: sqlx when a value has another type than expected, PostgreSQL in the message itself.
//! So only their code is passed on. The others speak of the database, and are passed on as they are.

use std::io;
use std::time::Duration;

use sqlx::Error;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::StoreError;

/// Why work on a connection ended.
#[derive(Debug)]
pub(super) enum Failure {
    /// The store's own decision; the connection is as good as before.
    Refused(StoreError),
    /// Something about the connection or the database.
    Sql(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// The kinds of error that a database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refused,
    Unavailable,
    Timeout,
    Full,
    TooLarge,
    Damaged,
}

/// Whether SQLite would not wait for another connection.
pub(super) fn is_busy(error: &Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<SqliteError>())
        .is_some_and(|error| matches!(primary(sqlite_code(error)), 5 | 6))
}

/// The error as the store's users see it.
pub(super) fn explain(doing: &'static str, limit: Duration, error: &Error) -> StoreError {
    let (kind, cause) = classify(error);
    match kind {
        Kind::Refused => StoreError::Refused { doing, cause },
        Kind::Unavailable => StoreError::Unavailable { doing, cause },
        Kind::Timeout => StoreError::Timeout { doing, limit },
        Kind::Full => StoreError::Full { doing, cause },
        Kind::TooLarge => StoreError::Invalid { what: format!("the database can't take it: {cause}") },
        Kind::Damaged => StoreError::Damaged { doing, cause },
    }
}

fn classify(error: &Error) -> (Kind, String) {
    match error {
        Error::Database(database) => {
            if let Some(error) = database.try_downcast_ref::<SqliteError>() {
                sqlite(sqlite_code(error), database.message())
            } else if let Some(error) = database.try_downcast_ref::<PgDatabaseError>() {
                postgres(error.code(), error.message())
            } else {
                (Kind::Unavailable, "an error of an unknown kind".to_owned())
            }
        }
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => (Kind::Timeout, error.to_string()),
        Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => (Kind::Full, error.to_string()),
        Error::Io(error) => (Kind::Unavailable, error.to_string()),
        Error::Tls(error) => (Kind::Refused, format!("TLS: {error}")),
        Error::Configuration(error) => (Kind::Refused, error.to_string()),
        Error::ColumnDecode { index, .. } => (Kind::Damaged, format!("column {index} is not readable")),
        Error::Decode(_) | Error::RowNotFound | Error::AnyDriverError(_) => {
            (Kind::Damaged, "a row is not readable".to_owned())
        }
        Error::Protocol(_) => (Kind::Unavailable, "it does not keep to the protocol".to_owned()),
        Error::WorkerCrashed => (Kind::Unavailable, "the thread that works on it is gone".to_owned()),
        _ => (Kind::Unavailable, "the driver failed".to_owned()),
    }
}

fn sqlite_code(error: &SqliteError) -> i32 {
    sqlx::error::DatabaseError::code(error).and_then(|code| code.parse().ok()).unwrap_or_default()
}

/// Extended codes have the primary one in their last byte.
fn primary(code: i32) -> i32 {
    code & 0xff
}

/// https://sqlite.org/rescode.html
fn sqlite(code: i32, message: &str) -> (Kind, String) {
    // The shared-memory file could not grow: the one place where a full disk is not told as one.
    const IOERR_SHMSIZE: i32 = 4874;
    let kind = match primary(code) {
        5 | 6 => Kind::Timeout,
        13 => Kind::Full,
        _ if code == IOERR_SHMSIZE => Kind::Full,
        3 | 8 | 14 | 23 => Kind::Refused,
        18 => Kind::TooLarge,
        // 1: none of our statements is wrong, so the tables are not ours any more.
        1 | 11 | 19 | 20 | 26 => Kind::Damaged,
        _ => Kind::Unavailable,
    };
    // The text of a constraint may be a trigger's, which can tell anything.
    let cause = if primary(code) == 19 { "a constraint was hurt" } else { message };
    (kind, format!("{cause} (SQLite {code})"))
}

/// https://www.postgresql.org/docs/current/errcodes-appendix.html
fn postgres(code: &str, message: &str) -> (Kind, String) {
    let kind = match code {
        "53100" => Kind::Full,
        "57014" | "55P03" | "25P03" | "57P05" => Kind::Timeout,
        "XX001" | "XX002" => Kind::Damaged,
        "42501" => Kind::Refused,
        _ => match code.get(..2).unwrap_or_default() {
            "28" | "3D" | "3F" => Kind::Refused,
            "54" => Kind::TooLarge,
            // Not one of our statements asks for anything of the sort, on tables that are ours.
            "21" | "22" | "23" | "42" => Kind::Damaged,
            _ => Kind::Unavailable,
        },
    };
    let speaks_of_the_database = ["08", "25", "28", "3D", "3F", "40", "53", "55", "57", "58", "XX"];
    if code == "42501" || speaks_of_the_database.iter().any(|class| code.starts_with(class)) {
        (kind, format!("{message} (PostgreSQL {code})"))
    } else {
        (kind, format!("PostgreSQL error {code}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_errors_are_told_apart() {
        for (code, kind) in [
            (5, Kind::Timeout),
            (517, Kind::Timeout),
            (13, Kind::Full),
            (4874, Kind::Full),
            (10, Kind::Unavailable),
            (778, Kind::Unavailable),
            (11, Kind::Damaged),
            (26, Kind::Damaged),
            (1, Kind::Damaged),
            (14, Kind::Refused),
            (1032, Kind::Refused),
            (18, Kind::TooLarge),
        ] {
            assert_eq!(sqlite(code, "m"), (kind, format!("m (SQLite {code})")));
        }
        let (kind, cause) = sqlite(1811, "secret");
        assert_eq!((kind, cause.as_str()), (Kind::Damaged, "a constraint was hurt (SQLite 1811)"));
    }

    #[test]
    fn postgres_errors_are_told_apart_and_those_about_data_are_not_quoted() {
        for (code, kind, quoted) in [
            ("53100", Kind::Full, true),
            ("53300", Kind::Unavailable, true),
            ("57P01", Kind::Unavailable, true),
            ("57014", Kind::Timeout, true),
            ("28P01", Kind::Refused, true),
            ("42501", Kind::Refused, true),
            ("40P01", Kind::Unavailable, true),
            ("XX001", Kind::Damaged, true),
            ("22P02", Kind::Damaged, false),
            ("23505", Kind::Damaged, false),
            ("54000", Kind::TooLarge, false),
            ("P0001", Kind::Unavailable, false),
            ("", Kind::Unavailable, false),
        ] {
            let (found, cause) = postgres(code, "secret");
            assert_eq!((found, cause.contains("secret")), (kind, quoted), "{code}");
            assert!(cause.contains(code), "{cause}");
        }
    }

    #[test]
    fn what_a_column_holds_is_not_told() {
        let source = "expected BIGINT, got Text(\"secret\")".into();
        let error = Error::ColumnDecode { index: "2".to_owned(), source };
        let error = explain("reading", Duration::from_secs(5), &error);
        assert_eq!(error.reason(), "damaged");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    #[test]
    fn a_refused_connection_and_a_full_disk_are_not_the_same() {
        let told = |kind: io::ErrorKind| {
            explain("reading", Duration::from_secs(5), &Error::Io(kind.into())).reason()
        };
        assert_eq!(told(io::ErrorKind::ConnectionRefused), "unavailable");
        assert_eq!(told(io::ErrorKind::StorageFull), "full");
        assert_eq!(told(io::ErrorKind::TimedOut), "timeout");
    }
}
