//! What is known about every turn: its stage, who waits for it, and the queue.

use std::collections::{HashMap, VecDeque};

use paddock_runnerapi::TurnState;
use serde_json::Value;
use tokio::sync::oneshot;

use super::journal::Span;
use super::outcome::Outcome;
use super::record::Digest;
use super::replies::Kept;
use crate::activity::Busy;
use crate::harness::Task;

/// How many requests may wait for one turn: a client needs one, and its retries replace it.
pub(super) const MOST_WAITERS: usize = 64;

/// A message that waits.
pub(super) struct Queued {
    pub(super) task: Task,
    /// About how much memory it takes.
    pub(super) bytes: usize,
    /// From its acceptance to its end.
    pub(super) busy: Busy,
}

impl Queued {
    pub(super) fn new(task: Task, busy: Busy) -> Self {
        let bytes = task.parts.iter().chain(task.options.values()).map(size).sum();
        Self { task, bytes, busy }
    }
}

/// About how much memory a value takes, without making a text of it.
fn size(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + inner
}

pub(super) enum Stage {
    Queued(Queued),
    Running,
    Ended(Ended),
    /// Nobody here will see its end; the next start looks for it. This is told until then.
    Left(Outcome),
}

/// An outcome is in memory, in the journal, or both; never in neither.
pub(super) struct Ended {
    pub(super) state: TurnState,
    pub(super) outcome: Option<Outcome>,
    pub(super) span: Option<Span>,
}

pub(super) struct Entry {
    pub(super) digest: Digest,
    /// The conversation it is in, where that is not the session's own. Of a turn that has ended it does not matter.
    pub(super) conversation: Option<String>,
    pub(super) stage: Stage,
    pub(super) waiters: Vec<oneshot::Sender<Outcome>>,
}

impl Entry {
    /// Is told how the turn ends; nothing where too many wait already.
    pub(super) fn wait(&mut self) -> Option<oneshot::Receiver<Outcome>> {
        self.waiters.retain(|waiter| !waiter.is_closed());
        if self.waiters.len() >= MOST_WAITERS {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters.push(sender);
        Some(receiver)
    }

    fn tell(&mut self, outcome: &Outcome) {
        for waiter in std::mem::take(&mut self.waiters) {
            // That client went away.
            let _ = waiter.send(outcome.clone());
        }
    }
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) turns: HashMap<String, Entry>,
    pub(super) queue: VecDeque<String>,
    pub(super) running: Option<String>,
    kept: Kept,
    pub(super) stopping: Option<&'static str>,
    /// New turns are for the session's next pod.
    pub(super) quiesced: bool,
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

    /// Tells a turn's waiters this, and leaves its end to the next start.
    pub(super) fn leave(&mut self, id: &str, told: Outcome) {
        let Some(entry) = self.turns.get_mut(id) else { return };
        if matches!(entry.stage, Stage::Queued(_) | Stage::Running) {
            entry.tell(&told);
            entry.stage = Stage::Left(told);
        }
    }

    /// How large the waiting messages are together.
    pub(super) fn queued_bytes(&self) -> usize {
        let bytes = |id: &String| match self.turns.get(id)?.stage {
            Stage::Queued(Queued { bytes, .. }) => Some(bytes),
            _ => None,
        };
        self.queue.iter().filter_map(bytes).sum()
    }

    /// As [`Self::settle`] for an outcome that is not durable: it is kept in memory, but its waiters are
    /// told another. A retry writes it first.
    pub(super) fn settle_unwritten(&mut self, id: &str, outcome: Outcome, told: &Outcome) {
        self.end(id, outcome, None, told);
    }

    fn end(&mut self, id: &str, outcome: Outcome, span: Option<Span>, told: &Outcome) -> bool {
        let Some(entry) = self.turns.get_mut(id) else { return false };
        if matches!(entry.stage, Stage::Ended(_) | Stage::Left(_)) {
            return false;
        }
        entry.stage = Stage::Ended(Ended { state: outcome.state(), outcome: Some(outcome), span });
        entry.tell(told);
        true
    }
}
