//! What needs a hand inside the store. All other tests are in `tests/store`.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{SqlStore, StoreOptions};
use crate::{Batch, Entry, EntryKind, SessionKey, StoreError, TranscriptStore};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("paddock-transcripts-full-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
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
    let folder = Folder::new();
    let url = format!("sqlite://{}/t.db", folder.0.display()).parse().unwrap();
    let setup = "PRAGMA max_page_count = 100;";
    let store = SqlStore::open_with(&url, StoreOptions::default(), setup).await.unwrap();
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
