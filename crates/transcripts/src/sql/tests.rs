//! What needs a hand inside the store. All other tests are in `tests/store`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Access, SqlStore, StoreOptions};
use crate::{Batch, DatabaseUrl, Entry, EntryKind, SessionKey, StoreError, TranscriptStore};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("paddock-transcripts-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn url(&self) -> DatabaseUrl {
        format!("sqlite://{}/t.db", self.0.display()).parse().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn batch(after: u64) -> Batch {
    let body = "what the user said ".repeat(2_000);
    let seq = after + 1;
    let entry =
        Entry { seq, turn: "t".to_owned(), kind: EntryKind::Messages, at: Timestamp::UNIX_EPOCH, body };
    let session = SessionKey { namespace: "ns".to_owned(), name: "s".to_owned(), uid: "u".to_owned() };
    Batch { session, journal: 0, after, through: seq, entries: vec![entry] }
}

#[tokio::test]
async fn a_full_disk_is_told_and_costs_nothing_that_was_stored() {
    let folder = Folder::new("full");
    let setup = "PRAGMA max_page_count = 100;";
    let store = SqlStore::open_with(&folder.url(), StoreOptions::default(), setup).await.unwrap();
    let mut stored = 0;
    let error = loop {
        match store.append(&batch(stored)).await {
            Ok(through) => stored = through,
            Err(error) => break error,
        }
        assert!(stored < 100, "it is never full");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("the user"), "{error}");
    assert!(stored > 2, "it was full at once");
    let whole = store.entries("u", None, usize::MAX).await.unwrap();
    assert_eq!(whole.len() as u64, stored);

    // Forgetting makes room.
    assert_eq!(store.prune("2200-01-01T00:00:00Z".parse().unwrap()).await.unwrap(), 1);
    assert_eq!(store.append(&batch(0)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_commit_in_sqlite_is_on_the_disk() {
    let folder = Folder::new("settings");
    let store = SqlStore::open(&folder.url(), StoreOptions::default()).await.unwrap();
    let settings = async |connection: &mut _| {
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(connection).await?;
        Ok((mode, synchronous))
    };
    let (mode, synchronous) = store.connections.run("asking", Access::Read, settings).await.unwrap();
    // FULL is 2.
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

/// Stands for a disk that hangs: it works for some seconds, and nothing calls it off.
const LONG: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000) \
    SELECT COUNT(*) FROM n";

#[tokio::test]
async fn calls_that_were_given_up_do_not_pile_up() {
    let folder = Folder::new("hanging");
    let limit = Duration::from_millis(100);
    let options = StoreOptions { connections: 2, time_limit: limit, ..StoreOptions::default() };
    let store = SqlStore::open(&folder.url(), options).await.unwrap();
    let hang = async |connection: &mut _| {
        let count: i64 = sqlx::query_scalar(LONG).fetch_one(connection).await?;
        Ok(count)
    };
    let (first, second) = futures::join!(store.check(), store.check());
    first.and(second).unwrap();
    assert_eq!(store.connections.idle(), 2);

    let began = Instant::now();
    for _ in 0..2 {
        let error = store.connections.run("hanging", Access::Read, hang).await.unwrap_err();
        assert_eq!(error, StoreError::Timeout { doing: "hanging", limit });
        assert_eq!(store.connections.idle(), 0);
    }
    // Both connections are still busy, and there is no third one.
    assert_eq!(store.check().await.unwrap_err().reason(), "timeout");
    // Once the disk answers again, all is well.
    while let Err(error) = store.check().await {
        assert_eq!(error.reason(), "timeout");
        assert!(began.elapsed() < Duration::from_secs(120), "they are never given back");
    }
}
