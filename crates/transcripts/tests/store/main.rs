//! One suite of promises, kept by SQLite and by a real PostgreSQL server alike.
//!
//! The server is the tests' own: started on a folder of theirs, reached by a socket in it, gone with the tests. It
//! needs Debian's package postgresql (hack/setup.sh installs it), and nothing of it has to run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test that panics has done its work"
)]

mod appending;
mod concurrency;
mod crashes;
mod model;
mod opening;
mod place;
mod pruning;
mod reading;
mod trouble;

/// Makes each of these functions a test on each kind of database.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                $crate::place::with_place($crate::place::Kind::Sqlite, super::$name);
            })*
        }
        mod postgres {
            $(#[test]
            fn $name() {
                $crate::place::with_place($crate::place::Kind::Postgres, super::$name);
            })*
        }
    };
}
