//! How a database is opened, and which are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use futures::future::join_all;
use paddock_transcripts::{SqlStore, StoreError, StoreOptions, TranscriptStore};
use sqlx::{Connection, Executor};

use crate::place::{Kind, Place, assert_holds, batch, discreet, open, with_place};
use paddock_testkit::postgres::{PASSWORD, Server};

crate::on_both_databases!(
    many_may_open_a_new_database_at_once,
    a_newer_schema_is_refused,
    a_step_that_fails_leaves_nothing,
    a_store_shows_no_password,
);

const LIMIT: Duration = Duration::from_secs(30);

async fn many_may_open_a_new_database_at_once(place: Place) {
    let opened = join_all((0..8).map(|_| {
        let url = place.url.clone();
        tokio::spawn(async move { open(&url, LIMIT).await })
    }));
    for (store, through) in opened.await.into_iter().zip(1..) {
        let store = store.unwrap().unwrap();
        assert_eq!(store.append(&batch("a", 1, through - 1, through)).await.unwrap(), through);
    }
    assert_holds(&place.open().await, "a", 1, 8).await;
    assert_eq!(place.count("transcript_schema").await, 1);
}

async fn a_newer_schema_is_refused(place: Place) {
    let running = place.open().await;
    running.append(&batch("a", 1, 0, 3)).await.unwrap();
    place.execute("INSERT INTO transcript_schema VALUES (7)").await;
    let error = open(&place.url, LIMIT).await.unwrap_err();
    assert_eq!(error, StoreError::Newer { found: 7, known: 1 });
    // The program of before goes on while the new one is rolled out.
    running.check().await.unwrap();
    assert_holds(&running, "a", 1, 3).await;
}

async fn a_step_that_fails_leaves_nothing(place: Place) {
    place.execute("CREATE TABLE transcript_forgotten (wrong BIGINT)").await;
    let error = open(&place.url, LIMIT).await.unwrap_err();
    assert_eq!(error.reason(), "damaged", "{error}");
    place.execute("DROP TABLE transcript_forgotten").await;
    let store = place.open().await;
    store.append(&batch("a", 1, 0, 3)).await.unwrap();
}

async fn a_store_shows_no_password(place: Place) {
    let shown = format!("{:?}", place.open().await);
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert!(shown.contains("transcripts"), "{shown}");
}

/// SQLite refuses at once who would switch a new file to its write-ahead log while another one writes to it.
#[test]
fn a_new_file_that_is_in_use_is_waited_for() {
    with_place(Kind::Sqlite, |place| async move {
        let mut other = place.connect().await;
        let mut transaction = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        transaction.execute("CREATE TABLE other (x BIGINT)").await.unwrap();
        let url = place.url.parse().unwrap();
        let limit = Duration::from_millis(300);
        let began = Instant::now();
        let options = StoreOptions { open_limit: limit, ..StoreOptions::default() };
        let error = discreet(SqlStore::open(&url, options).await.unwrap_err());
        assert_eq!(error.reason(), "timeout");
        assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
        transaction.commit().await.unwrap();
        place.open().await;
    });
}

#[test]
fn a_file_is_for_its_owner_only() {
    with_place(Kind::Sqlite, |place| async move {
        let store = place.open().await;
        store.append(&batch("a", 1, 0, 3)).await.unwrap();
        let mut names = Vec::new();
        for file in fs::read_dir(place.folder()).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", file.file_name());
            names.push(file.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["transcripts.db", "transcripts.db-shm", "transcripts.db-wal"]);
    });
}

#[test]
fn what_is_no_database_file_is_left_alone() {
    with_place(Kind::Sqlite, |place| async move {
        let file = place.folder().join("transcripts.db");
        let text = "not a database, but long enough to look at; ".repeat(100);
        fs::write(&file, &text).unwrap();
        let error = open(&place.url, LIMIT).await.unwrap_err();
        assert_eq!(error.reason(), "damaged", "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);

        let nowhere = format!("sqlite://{}/missing/transcripts.db", place.folder().display());
        let error = open(&nowhere, LIMIT).await.unwrap_err();
        assert_eq!(error.reason(), "unavailable");
        assert!(error.to_string().contains("missing/transcripts.db"), "{error}");
    });
}

#[test]
fn a_server_that_lets_nobody_in_is_told_from_one_that_is_not_there() {
    with_place(Kind::Postgres, |place| async move {
        let began = Instant::now();
        for (url, reason, told) in [
            (place.url.replace(PASSWORD, "wrong"), "refused", "password"),
            (Server::shared().url("elsewhere"), "refused", "elsewhere"),
            (
                format!("postgres://paddock:{PASSWORD}@localhost/x?host=/nonexistent"),
                "unavailable",
                "No such file",
            ),
            (format!("postgres://paddock:{PASSWORD}@127.0.0.1:1/x"), "unavailable", "refused"),
        ] {
            let error = discreet(open(&url, LIMIT).await.unwrap_err());
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
        // None of them is waited for.
        assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    });
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused() {
    with_place(Kind::Postgres, |place| async move {
        place.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
        let error = discreet(open(&Server::shared().url("narrow"), LIMIT).await.unwrap_err());
        assert_eq!(error.reason(), "refused");
        assert!(error.to_string().contains("LATIN1"), "{error}");
    });
}
