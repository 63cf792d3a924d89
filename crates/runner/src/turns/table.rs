//! What is known about every turn: its stage, who waits for it, and the queue.

use std::collections::{HashMap, VecDeque};

use paddock_runnerapi::TurnState;
use serde_json::Value;
use tokio::sync::oneshot;

use super::journal::Span;
use super::outcome::Outcome;
use super::record::Digest;
use super::replies::Kept;

/// Parts of a message, as the harness gets them.
pub(super) type Parts = Vec<Value>;

pub(super) enum Stage {
    Queued(Parts),
    Running,
    Ended(Ended),
}

/// An outcome is in memory, in the journal, or both; never in neither.
pub(super) struct Ended {
    pub(super) state: TurnState,
    pub(super) outcome: Option<Outcome>,
    pub(super) span: Option<Span>,
}

pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) stage: Stage,
    pub(super) waiters: Vec<oneshot::Sender<Outcome>>,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) turns: HashMap<String, Entry>,
    pub(super) queue: VecDeque<String>,
    pub(super) running: Option<String>,
    kept: Kept,
    pub(super) stopping: Option<&'static str>,
}

impl Table {
    /// Ends a turn and tells its waiters; does nothing if it ended before.
    pub(super) fn settle(&mut self, id: &str, outcome: &Outcome, span: Option<Span>) {
        if !self.end(id, outcome.clone(), span, outcome) || span.is_none() {
            return;
        }
        for leaving in self.kept.add(id, outcome.size()) {
            if let Some(Entry { stage: Stage::Ended(ended), .. }) = self.turns.get_mut(&leaving) {
                ended.outcome = None;
            }
        }
    }

    /// As [`Self::settle`] for an outcome that is not durable: it is kept in memory, but its waiters are
    /// told another. A retry writes it first.
    pub(super) fn settle_unwritten(&mut self, id: &str, outcome: Outcome, told: &Outcome) {
        self.end(id, outcome, None, told);
    }

    fn end(&mut self, id: &str, outcome: Outcome, span: Option<Span>, told: &Outcome) -> bool {
        let Some(entry) = self.turns.get_mut(id) else { return false };
        if matches!(entry.stage, Stage::Ended(_)) {
            return false;
        }
        entry.stage = Stage::Ended(Ended { state: outcome.state(), outcome: Some(outcome), span });
        for waiter in entry.waiters.drain(..) {
            // That client went away.
            let _ = waiter.send(told.clone());
        }
        true
    }
}
