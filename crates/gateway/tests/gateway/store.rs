//! A transcript store in memory, which fails on demand.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use paddock_transcripts::{Batch, Entry, Position, StoreError, TranscriptStore};
use parking_lot::Mutex;

#[derive(Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Default)]
struct State {
    entries: BTreeMap<(String, Position), Entry>,
    through: BTreeMap<(String, u32), u64>,
    failing: Option<StoreError>,
    appends: usize,
}

impl MemoryStore {
    /// From now on nothing works.
    pub fn fail(&self, error: StoreError) {
        self.0.lock().failing = Some(error);
    }

    pub fn recover(&self) {
        self.0.lock().failing = None;
    }

    /// The turns of a session's entries, in order.
    pub fn turns(&self, session_uid: &str) -> Vec<String> {
        let state = self.0.lock();
        let of_session = state.entries.iter().filter(|((uid, _), _)| uid == session_uid);
        of_session.map(|(_, entry)| format!("{} {}", entry.kind.as_str(), entry.turn)).collect()
    }

    pub fn appends(&self) -> usize {
        self.0.lock().appends
    }

    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let mut state = self.0.lock();
        let result = match state.failing.clone() {
            Some(error) => Err(error),
            None => work(&mut state),
        };
        async { result }.boxed()
    }
}

impl TranscriptStore for MemoryStore {
    fn append<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.with(|state| {
            batch.check()?;
            state.appends += 1;
            let uid = batch.session.uid.clone();
            let through = state.through.entry((uid.clone(), batch.journal)).or_default();
            if *through < batch.after {
                return Err(StoreError::Gap { stored: *through, after: batch.after });
            }
            for entry in batch.entries.iter().filter(|entry| entry.seq > *through) {
                let position = Position { journal: batch.journal, seq: entry.seq };
                state.entries.insert((uid.clone(), position), entry.clone());
            }
            *through = batch.through.max(*through);
            Ok(*through)
        })
    }

    fn stored<'a>(&'a self, session_uid: &'a str) -> BoxFuture<'a, Result<Option<Position>, StoreError>> {
        self.with(|state| {
            let of_session = state.through.iter().filter(|((uid, _), _)| uid == session_uid);
            Ok(of_session.map(|((_, journal), seq)| Position { journal: *journal, seq: *seq }).max())
        })
    }

    fn stored_in<'a>(&'a self, session_uid: &'a str, journal: u32) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.with(|state| {
            Ok(state.through.get(&(session_uid.to_owned(), journal)).copied().unwrap_or_default())
        })
    }

    fn entries<'a>(
        &'a self,
        session_uid: &'a str,
        after: Option<Position>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<(Position, Entry)>, StoreError>> {
        self.with(|state| {
            let of_session = state.entries.iter().filter(|((uid, _), _)| uid == session_uid);
            let later = of_session.filter(|((_, at), _)| after.is_none_or(|after| *at > after));
            // One at a time: whoever reads must go on.
            Ok(later.take(1).map(|((_, at), entry)| (*at, entry.clone())).collect())
        })
    }

    fn turn<'a>(
        &'a self,
        session_uid: &'a str,
        turn: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(Position, Entry)>, StoreError>> {
        self.with(|state| {
            let of_session = state.entries.iter().filter(|((uid, _), _)| uid == session_uid);
            let of_turn = of_session.filter(|(_, entry)| entry.turn == turn);
            Ok(of_turn.map(|((_, at), entry)| (*at, entry.clone())).collect())
        })
    }

    fn prune(&self, _: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.with(|_| Ok(0))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|_| Ok(()))
    }
}
