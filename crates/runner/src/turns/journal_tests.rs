use std::path::PathBuf;

use super::super::outcome::Outcome;
use paddock_runnerapi::TurnRequest;

use super::super::record::Digest;
use super::super::testing::{Disk, MemoryStorage};
use super::*;
use bytes::Bytes;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("paddock-journal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }

    fn lock(&self) -> StateLock {
        StateLock::try_acquire(&self.0).unwrap().unwrap()
    }

    fn open(&self) -> (Journal, Vec<Span>) {
        let mut spans = Vec::new();
        let journal = Journal::open(self.lock(), |_, span| spans.push(span)).unwrap();
        (journal, spans)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn accepted(turn: &str) -> Record {
    Record::accepted(turn, &Digest::of(&TurnRequest::message(turn, Vec::new())), Vec::new(), None)
}

fn ended(reply: &'static str) -> Record {
    Record::ended("t", &Outcome::Completed(Bytes::from_static(reply.as_bytes())))
}

#[tokio::test]
async fn lines_are_found_again_after_a_restart() {
    let dir = Dir::new("restart");
    let (journal, spans) = dir.open();
    assert!(spans.is_empty());
    let written = journal.append(vec![accepted("a"), ended(r#"{"x":1}"#)]).await.unwrap();
    drop(journal);
    let (journal, spans) = dir.open();
    assert_eq!(spans, written);
    let outcome = journal.read(spans[1]).await.unwrap().into_outcome().unwrap();
    assert_eq!(outcome, Outcome::Completed(Bytes::from_static(br#"{"x":1}"#)));
}

#[tokio::test]
async fn a_folder_has_one_journal_at_a_time_and_the_next_waits_for_it() {
    let dir = Dir::new("lock");
    let (journal, _) = dir.open();
    assert!(StateLock::try_acquire(&dir.0).unwrap().is_none());
    let mut waiting = std::pin::pin!(StateLock::acquire(&dir.0));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    journal.append(vec![accepted("a")]).await.unwrap();
    drop(journal);
    let mut seen = 0;
    Journal::open(waiting.await.unwrap(), |_, _| seen += 1).unwrap();
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_writing_goes_on() {
    for torn in ["{\"accep", "garbage\n", "\0\0\0\0"] {
        let dir = Dir::new("torn");
        dir.open().0.append(vec![accepted("a")]).await.unwrap();
        let mut file = OpenOptions::new().append(true).open(dir.file()).unwrap();
        file.write_all(torn.as_bytes()).unwrap();
        let (journal, spans) = dir.open();
        assert_eq!(spans.len(), 1, "{torn:?}");
        journal.append(vec![accepted("b")]).await.unwrap();
        drop(journal);
        assert_eq!(dir.open().1.len(), 2, "{torn:?}");
    }
}

#[tokio::test]
async fn damage_before_the_end_is_an_error() {
    let dir = Dir::new("damage");
    dir.open().0.append(vec![accepted("a"), accepted("b")]).await.unwrap();
    let text = std::fs::read_to_string(dir.file()).unwrap();
    std::fs::write(dir.file(), text.replacen('{', "[", 1)).unwrap();
    let error = Journal::open(dir.lock(), |_, _| {}).err().unwrap();
    assert!(matches!(error, JournalError::Damaged { offset: 0, .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_loses_no_line_and_leaves_none_half() {
    let storage = MemoryStorage::default();
    let journal = storage.journal();
    journal.append(vec![accepted("a")]).await.unwrap();
    storage.becomes(Disk::Full);
    assert!(matches!(journal.append(vec![accepted("b")]).await, Err(JournalError::Write(_))));
    assert!(journal.is_usable());
    storage.becomes(Disk::Good);
    let spans = journal.append(vec![accepted("c")]).await.unwrap();
    assert_eq!(storage.story(), ["accepted a", "accepted c"]);
    assert!(matches!(journal.read(spans[0]).await.unwrap(), Record::Accepted { turn, .. } if turn == "c"));
}

#[tokio::test]
async fn after_a_doubtful_write_nothing_is_written_any_more() {
    for disk in [Disk::FailingSync, Disk::Stuck] {
        let storage = MemoryStorage::default();
        let journal = storage.journal();
        storage.becomes(disk);
        assert!(matches!(journal.append(vec![accepted("a")]).await, Err(JournalError::Write(_))));
        storage.becomes(Disk::Good);
        assert!(matches!(journal.append(vec![accepted("b")]).await, Err(JournalError::Broken)), "{disk:?}");
        assert!(!journal.is_usable());
    }
}

#[tokio::test]
async fn nobody_else_waits_for_a_slow_disk() {
    let storage = MemoryStorage::default();
    let journal = storage.journal();
    storage.becomes(Disk::Slow);
    let writing = journal.append(vec![accepted("a")]);
    let meanwhile = async {
        while storage.story().is_empty() {
            tokio::task::yield_now().await;
        }
        // The line is written and the sync hangs; this thread goes on, and so does whoever asks.
        assert!(journal.is_usable());
        storage.becomes(Disk::Good);
    };
    let (written, ()) = tokio::join!(writing, meanwhile);
    assert_eq!(written.unwrap().len(), 1);
}

fn turns(lines: &[(u64, Record)]) -> Vec<String> {
    let turn = |(_, record): &'_ (u64, Record)| match record {
        Record::Accepted { turn, .. } => turn.clone(),
        other => panic!("{other:?}"),
    };
    lines.iter().map(turn).collect()
}

#[tokio::test]
async fn lines_are_read_from_any_place_that_a_line_ends_at() {
    let storage = MemoryStorage::default();
    let journal = storage.journal();
    assert!(journal.lines(0, 1000).await.unwrap().is_empty());
    journal.append(vec![accepted("a"), accepted("b")]).await.unwrap();
    let all = journal.lines(0, 1000).await.unwrap();
    assert_eq!(turns(&all), ["a", "b"]);
    assert_eq!(all[1].0, journal.length());
    assert_eq!(turns(&journal.lines(all[0].0, 1000).await.unwrap()), ["b"]);
    assert!(journal.lines(all[1].0, 1000).await.unwrap().is_empty());
    for nowhere in [1, all[0].0 - 1, all[0].0 + 1, all[1].0 + 1, u64::MAX] {
        assert!(matches!(journal.lines(nowhere, 1000).await, Err(JournalError::NoSuchPlace(_))), "{nowhere}");
    }
}

#[tokio::test]
async fn a_page_has_at_least_one_line_and_only_whole_ones() {
    let storage = MemoryStorage::default();
    let journal = storage.journal();
    journal.append(vec![accepted("a"), accepted("b"), accepted("c")]).await.unwrap();
    let all = journal.lines(0, 1000).await.unwrap();
    let end = |line: usize| usize::try_from(all[line].0).unwrap();
    let cases = [
        (0, 1),
        (1, 1),
        (end(0) - 1, 1),
        (end(0), 1),
        (end(0) + 1, 1),
        (end(1) - 1, 1),
        (end(1), 2),
        (end(2), 3),
    ];
    for (most, expected) in cases {
        assert_eq!(journal.lines(0, most).await.unwrap().len(), expected, "{most}");
    }
}
