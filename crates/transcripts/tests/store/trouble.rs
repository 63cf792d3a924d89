//! A database that is slow, gone, full or spoilt. A full disk under SQLite is in `src/sql/tests.rs`.

use std::time::{Duration, Instant};

use paddock_transcripts::{SqlStore, StoreError, TranscriptStore};
use sqlx::{Connection, Executor};

use crate::place::{Kind, Place, SECRET, assert_holds, batch, discreet, open, runtime, with_place};
use paddock_testkit::postgres::Server;

crate::on_both_databases!(a_lock_is_not_waited_for_in_vain, what_others_have_spoilt_is_told);

const SOON: Duration = Duration::from_millis(400);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(10);

async fn append(store: &SqlStore, uid: &str, after: u64, through: u64) -> Result<u64, StoreError> {
    store.append(&batch(uid, 1, after, through)).await.map_err(discreet)
}

/// Makes sure that the error says that there was no answer.
fn assert_timeout<T: std::fmt::Debug>(result: Result<T, StoreError>, began: Instant) {
    let took = began.elapsed();
    assert_eq!(discreet(result.unwrap_err()).reason(), "timeout");
    assert!(took < SOON + SLACK, "{took:?}");
}

async fn a_lock_is_not_waited_for_in_vain(place: Place) {
    let store = place.open_impatient(SOON).await;
    append(&store, "a", 0, 1).await.unwrap();
    let mut other = place.connect().await;
    let begin = if place.kind == Kind::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut transaction = other.begin_with(begin).await.unwrap();
    transaction.execute("UPDATE transcript_sessions SET appended_at = 0").await.unwrap();
    for _ in 0..6 {
        let began = Instant::now();
        assert_timeout(append(&store, "a", 1, 2).await, began);
    }
    // Reading goes on.
    assert_holds(&store, "a", 1, 1).await;
    transaction.rollback().await.unwrap();
    let patient = place.open().await;
    assert_eq!(append(&patient, "a", 1, 2).await.unwrap(), 2);
    assert_holds(&patient, "a", 1, 2).await;
}

async fn what_others_have_spoilt_is_told(place: Place) {
    let store = place.open().await;
    append(&store, "a", 0, 3).await.unwrap();
    for spoil in [
        "UPDATE transcript_entries SET kind = body",
        "UPDATE transcript_entries SET kind = 'ended', happened_at = body",
        "UPDATE transcript_entries SET journal = -1",
        "DROP TABLE transcript_entries",
    ] {
        place.execute(spoil).await;
        let position = paddock_transcripts::Position { journal: 0, seq: 0 };
        let turn = store.turn("a", "turn-0").await.map_err(discreet);
        let page = store.entries("a", Some(position), 1_000).await.map_err(discreet);
        assert_eq!(turn.unwrap_err().reason(), "damaged", "{spoil}");
        // Entries before the first one can't be asked for.
        assert!(page.is_ok_and(|page| page.is_empty()) == spoil.ends_with("-1"), "{spoil}");
    }
}

#[test]
fn a_server_that_hangs_is_given_up_in_time() {
    // Of its own, since it stops altogether.
    let server = Server::start();
    runtime().block_on(async {
        let url = server.url("postgres");
        let store = open(&url, SOON).await.unwrap();
        append(&store, "a", 0, 1).await.unwrap();
        let frozen = server.freeze();
        // The first finds a connection that is open, the others need a new one.
        for _ in 0..3 {
            let began = Instant::now();
            assert_timeout(append(&store, "a", 1, 3).await, began);
            let began = Instant::now();
            assert_timeout(store.check().await, began);
        }
        drop(frozen);
        let patient = open(&url, SLACK).await.unwrap();
        assert_eq!(append(&patient, "a", 1, 4).await.unwrap(), 4);
        assert_holds(&patient, "a", 1, 4).await;
        // The one that had given up as well.
        assert_eq!(store.stored_in("a", 1).await.unwrap(), 4);
    });
}

#[test]
fn connections_that_broke_are_not_used_again() {
    with_place(Kind::Postgres, |place| async move {
        let store = place.open().await;
        append(&store, "a", 0, 1).await.unwrap();
        for through in 2..6 {
            place
                .execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
                .await;
            assert_eq!(append(&store, "a", through - 1, through).await.unwrap(), through);
        }
        assert_holds(&store, "a", 1, 5).await;
    });
}

#[test]
fn a_server_that_is_gone_is_unavailable_at_once() {
    let server = Server::start();
    runtime().block_on(async {
        let url = server.url("postgres");
        let store = open(&url, SLACK).await.unwrap();
        append(&store, "a", 0, 1).await.unwrap();
        drop(server);
        let began = Instant::now();
        assert_eq!(append(&store, "a", 1, 2).await.unwrap_err().reason(), "unavailable");
        assert_eq!(store.check().await.unwrap_err().reason(), "unavailable");
        assert!(began.elapsed() < SLACK, "{:?}", began.elapsed());
    });
}

/// What a server says that has no room, and what one may say that has its own ideas. Both would tell a body.
#[test]
fn a_full_server_is_told_from_one_that_is_not_available() {
    with_place(Kind::Postgres, |place| async move {
        let store = place.open().await;
        append(&store, "a", 0, 1).await.unwrap();
        for (code, told, reason) in [
            ("53100", "'could not extend file: No space left on device'", "full"),
            ("53200", "'out of memory'", "unavailable"),
            ("57014", "'canceling statement'", "timeout"),
            ("22023", "NEW.body", "damaged"),
            ("P0001", "NEW.body", "unavailable"),
        ] {
            place
                .execute(&format!(
                    "CREATE OR REPLACE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = {told}, DETAIL = NEW.body; END $$; \
                     CREATE OR REPLACE TRIGGER complain BEFORE INSERT ON transcript_entries \
                     FOR EACH ROW EXECUTE FUNCTION complain()"
                ))
                .await;
            let error = append(&store, "a", 1, 3).await.unwrap_err();
            assert_eq!(error.reason(), reason, "{code}: {error}");
            assert!(!error.to_string().contains(SECRET));
            assert_holds(&store, "a", 1, 1).await;
        }
        place.execute("DROP TRIGGER complain ON transcript_entries").await;
        assert_eq!(append(&store, "a", 1, 3).await.unwrap(), 3);
        assert_holds(&store, "a", 1, 3).await;
    });
}

/// Whatever the server's defaults are: an answer means that it is on the disk, and no lock is held for ever.
#[test]
fn a_server_is_told_to_be_careful() {
    with_place(Kind::Postgres, |place| async move {
        for (setting, careless) in [
            ("synchronous_commit", "off"),
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("default_transaction_isolation", "serializable"),
            ("default_transaction_read_only", "on"),
        ] {
            let change = format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting} = {careless}', current_database()); END $$"
            );
            place.execute(&change).await;
        }
        let store = place.open().await;
        place
            .execute(
                "SET transaction_read_only = off; \
                 CREATE TABLE seen (setting TEXT); \
                 CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN INSERT INTO seen SELECT format('%s=%s', name, setting) FROM pg_settings WHERE name IN \
                 ('synchronous_commit', 'statement_timeout', 'idle_in_transaction_session_timeout', \
                 'transaction_isolation'); RETURN NEW; END $$; \
                 CREATE TRIGGER look BEFORE INSERT ON transcript_entries FOR EACH ROW EXECUTE FUNCTION look()",
            )
            .await;
        append(&store, "a", 0, 1).await.unwrap();
        let mut connection = place.connect().await;
        let seen = sqlx::query_scalar("SELECT setting FROM seen ORDER BY 1").fetch_all(&mut connection);
        let seen: Vec<String> = seen.await.unwrap();
        assert_eq!(
            seen,
            [
                "idle_in_transaction_session_timeout=68000",
                "statement_timeout=68000",
                "synchronous_commit=on",
                "transaction_isolation=read committed",
            ]
        );
    });
}
