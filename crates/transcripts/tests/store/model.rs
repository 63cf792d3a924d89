//! Any history of appends, against a model that is too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use paddock_transcripts::{Batch, Entry, Position, SqlStore, StoreError, TranscriptStore};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::place::{Kind, Place, batch, entry, runtime, transcript};

#[derive(Clone, Debug)]
struct Append {
    journal: u32,
    after: u64,
    length: u64,
    /// Which numbers of the stretch have no entry.
    holes: u16,
    flaw: Option<Flaw>,
}

#[derive(Clone, Copy, Debug)]
enum Flaw {
    Backwards,
    TooEarly,
    TooLate,
}

fn append() -> impl Strategy<Value = Append> {
    let flaw = prop_oneof![
        8 => Just(None),
        1 => prop_oneof![Just(Flaw::Backwards), Just(Flaw::TooEarly), Just(Flaw::TooLate)].prop_map(Some),
    ];
    (0_u32..3, 0_u64..16, 0_u64..8, any::<u16>(), flaw)
        .prop_map(|(journal, after, length, holes, flaw)| Append { journal, after, length, holes, flaw })
}

/// The batch of the n-th append; its bodies tell which one it was.
fn batch_of(uid: &str, number: usize, append: &Append) -> Batch {
    let Append { journal, after, length, holes, flaw } = *append;
    let through = after + length;
    let wanted = |seq: &u64| holes >> (seq % 16) & 1 == 0;
    let told = |seq| Entry { body: format!("{number}"), ..entry(journal, seq) };
    let mut entries: Vec<_> = (after + 1..=through).filter(wanted).map(told).collect();
    match flaw {
        Some(Flaw::Backwards) => entries.reverse(),
        Some(Flaw::TooEarly) => entries.insert(0, told(after)),
        Some(Flaw::TooLate) => entries.push(told(through + 1)),
        None => {}
    }
    Batch { entries, ..batch(uid, journal, after, through) }
}

#[derive(Default)]
struct Model {
    through: BTreeMap<u32, u64>,
    entries: BTreeMap<Position, Entry>,
}

impl Model {
    fn append(&mut self, batch: &Batch) -> Result<u64, &'static str> {
        let seqs: Vec<_> = batch.entries.iter().map(|entry| entry.seq).collect();
        let mut sorted = seqs.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted != seqs || seqs.iter().any(|seq| *seq <= batch.after || *seq > batch.through) {
            return Err("invalid");
        }
        let stored = self.through.get(&batch.journal).copied().unwrap_or(0);
        if stored >= batch.through {
            return Ok(stored);
        }
        if stored < batch.after {
            return Err("gap");
        }
        self.through.insert(batch.journal, batch.through);
        for entry in batch.entries.iter().filter(|entry| entry.seq > stored) {
            self.entries.insert(Position { journal: batch.journal, seq: entry.seq }, entry.clone());
        }
        Ok(batch.through)
    }
}

/// Does these appends to the store and to the model.
async fn compare(store: &SqlStore, uid: &str, appends: &[Append]) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for (number, append) in appends.iter().enumerate() {
        let batch = batch_of(uid, number, append);
        let result = store.append(&batch).await;
        let result = result.as_ref().map(|through| *through).map_err(StoreError::reason);
        prop_assert_eq!(result, model.append(&batch), "append {}", number);
    }
    let found = transcript(store, uid).await;
    prop_assert_eq!(found, model.entries.into_iter().collect::<Vec<_>>());
    for journal in 0..3 {
        let stored = store.stored_in(uid, journal).await.unwrap();
        prop_assert_eq!(stored, model.through.get(&journal).copied().unwrap_or(0));
    }
    let latest =
        model.through.last_key_value().map(|(journal, seq)| Position { journal: *journal, seq: *seq });
    prop_assert_eq!(store.stored(uid).await.unwrap(), latest);
    Ok(())
}

/// Tries many histories, each on a session of its own.
fn try_histories(kind: Kind) {
    let runtime = runtime();
    let place = runtime.block_on(Place::new(kind));
    let store = runtime.block_on(place.open());
    let sessions = AtomicU32::new(0);
    let config = ProptestConfig { cases: 64, source_file: Some(file!()), ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&prop::collection::vec(append(), 0..24), |appends| {
        let uid = format!("session-{}", sessions.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(compare(&store, &uid, &appends))
    });
    if let Err(error) = result {
        panic!("{kind:?}: {error}");
    }
}

#[test]
fn sqlite_does_what_the_model_does() {
    try_histories(Kind::Sqlite);
}

#[test]
fn postgres_does_what_the_model_does() {
    try_histories(Kind::Postgres);
}
