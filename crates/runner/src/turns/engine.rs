//! The turn engine: admission, the queue, running, and telling everyone who waits.
//!
//! Nothing here is cancelled because a client went away: every step runs in a task of its own, and clients
//! only hold a receiver. Each turn is in the journal before the harness sees it and before its reply is
//! given out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use paddock_runnerapi::{ErrorBody, ErrorCode, TurnRequest, TurnState};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::journal::{Journal, JournalError, Span};
use super::outcome::Outcome;
use super::record::{Activation, Digest, Record};
use super::restore::RestoredTurn;
use super::table::{Ended, Entry, Parts, Stage, Table};
use crate::harness::{Harness, TurnNames};

/// How long a harness may take to stop a turn that took too long; then the next turn goes on regardless.
const ABORT_GRACE: Duration = Duration::from_secs(5);

struct Shared {
    harness: Arc<dyn Harness>,
    journal: Journal,
    conversation: String,
    turn_timeout: Duration,
    most_queued: usize,
    /// Turns are admitted one after the other, so that journal, queue and arrival have the same order.
    admission: tokio::sync::Mutex<()>,
    /// Held while an end is written: a turn ends once, also where the runner stops at that very moment.
    ending: tokio::sync::Mutex<()>,
    table: Mutex<Table>,
}

/// The turns of the pod's session.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

enum Admitted {
    Wait(oneshot::Receiver<Outcome>),
    Over(Outcome),
}

fn error(code: ErrorCode, text: impl Into<String>) -> ErrorBody {
    ErrorBody { code, error: text.into() }
}

impl Engine {
    /// Makes the engine of an activated pod. Turns of an earlier run that did not end are looked for in the
    /// harness's history and else interrupted; none is run again.
    ///
    /// # Errors
    /// Where the end of such a turn cannot be written.
    pub async fn new(
        harness: Arc<dyn Harness>,
        journal: Journal,
        activation: &Activation,
        turns: HashMap<String, RestoredTurn>,
    ) -> Result<Self, JournalError> {
        let agent = &activation.request.agent;
        let engine = Self(Arc::new(Shared {
            harness,
            journal,
            conversation: activation.harness_session_id.clone(),
            turn_timeout: Duration::from_millis(agent.turn_timeout_ms),
            most_queued: usize::try_from(agent.max_queued_turns).unwrap_or(usize::MAX),
            admission: tokio::sync::Mutex::default(),
            ending: tokio::sync::Mutex::default(),
            table: Mutex::default(),
        }));
        for (id, turn) in turns {
            engine.restore(id, turn).await?;
        }
        Ok(engine)
    }

    async fn restore(&self, id: String, turn: RestoredTurn) -> Result<(), JournalError> {
        let (outcome, span) = match turn.ended {
            Some(span) => (None, span),
            None => {
                let outcome = self.end_of_lost_turn(&id, turn.names.as_ref()).await;
                let spans = self.0.journal.append(vec![Record::ended(&id, &outcome)]).await?;
                tracing::warn!(turn = id, state = ?outcome.state(), "a turn of an earlier run is settled");
                (Some(outcome), spans[0])
            }
        };
        let state = match &outcome {
            Some(outcome) => outcome.state(),
            None => self.load(span).await?.state(),
        };
        // All outcomes are in the journal: none needs to be in memory.
        let ended = Ended { state, outcome: None, span: Some(span) };
        let entry = Entry { digest: turn.digest, stage: Stage::Ended(ended), waiters: Vec::new() };
        self.table().turns.insert(id, entry);
        Ok(())
    }

    async fn end_of_lost_turn(&self, id: &str, names: Option<&TurnNames>) -> Outcome {
        let Some(names) = names else { return Outcome::interrupted("the runner restarted while it waited") };
        match self.0.harness.recover(&self.0.conversation, names).await {
            Ok(Some(reply)) => Outcome::Completed(reply),
            Ok(None) => Outcome::interrupted("the runner restarted while it ran"),
            Err(error) => {
                tracing::warn!(turn = id, %error, "a lost turn's reply cannot be looked for");
                Outcome::interrupted("the runner restarted while it ran")
            }
        }
    }

    /// Runs a turn, joins it, or repeats its outcome, and waits for its end.
    ///
    /// # Errors
    /// The turn's own error, or why it was not accepted.
    pub async fn submit(&self, request: TurnRequest) -> Result<Bytes, ErrorBody> {
        let engine = self.clone();
        // A task: the caller may be dropped half-way.
        let admitted = tokio::spawn(async move { engine.admit(request).await }).await;
        let broken = || error(ErrorCode::Interrupted, "running the turn: the runner is stopping");
        match admitted.map_err(|_| broken())?? {
            Admitted::Over(outcome) => outcome.into_result(),
            Admitted::Wait(receiver) => receiver.await.map_err(|_| broken())?.into_result(),
        }
    }

    /// Whether a turn of this id was ever accepted.
    pub fn knows(&self, id: &str) -> bool {
        self.table().turns.contains_key(id)
    }

    /// Where a turn is, and its outcome if it has ended. An outcome that could not be written yet is written
    /// first.
    ///
    /// # Errors
    /// `not_found`, or where the journal fails.
    pub async fn status(&self, id: &str) -> Result<(TurnState, Option<Outcome>), ErrorBody> {
        let (state, outcome, span) = {
            let table = self.table();
            let unknown =
                || error(ErrorCode::NotFound, "looking up the turn: this session has no turn of this id");
            match &table.turns.get(id).ok_or_else(unknown)?.stage {
                Stage::Queued(_) => return Ok((TurnState::Queued, None)),
                Stage::Running => return Ok((TurnState::Running, None)),
                Stage::Ended(Ended { state, outcome, span }) => (*state, outcome.clone(), *span),
            }
        };
        match (outcome, span) {
            (Some(outcome), Some(_)) => Ok((state, Some(outcome))),
            (None, Some(span)) => Ok((state, Some(self.load(span).await?))),
            (Some(outcome), None) => {
                let spans = self.0.journal.append(vec![Record::ended(id, &outcome)]).await?;
                if let Some(Entry { stage: Stage::Ended(ended), .. }) = self.table().turns.get_mut(id) {
                    ended.span = spans.first().copied();
                }
                Ok((state, Some(outcome)))
            }
            (None, None) => Err(JournalError::Broken.into()),
        }
    }

    /// Accepts no more turns, and ends those that run or wait as interrupted.
    pub async fn stop(&self, why: &'static str) {
        let outcome = Outcome::interrupted(why);
        self.table().stopping = Some(why);
        let _ending = self.0.ending.lock().await;
        let open: Vec<String> = {
            let table = self.table();
            table.running.iter().chain(&table.queue).cloned().collect()
        };
        if open.is_empty() {
            return;
        }
        let records = open.iter().map(|id| Record::ended(id, &outcome)).collect();
        let written = self.0.journal.append(records).await;
        if let Err(error) = &written {
            tracing::error!(%error, "interrupted turns are not in the journal; the next start will find them");
        }
        let spans = written.unwrap_or_default();
        let mut table = self.table();
        for (index, id) in open.iter().enumerate() {
            table.settle(id, &outcome, spans.get(index).copied());
        }
        table.queue.clear();
        tracing::warn!(turns = open.len(), why, "turns interrupted");
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, span: Span) -> Result<Outcome, JournalError> {
        let unlike = || JournalError::Read(std::io::ErrorKind::InvalidData.into());
        self.0.journal.read(span).await?.into_outcome().ok_or_else(unlike)
    }

    async fn admit(&self, request: TurnRequest) -> Result<Admitted, ErrorBody> {
        check_id(&request.id)?;
        let digest = Digest::of(&request.parts);
        let _turnstile = self.0.admission.lock().await;
        if let Some(known) = self.join(&request.id, &digest) {
            return match known? {
                Known::Running(receiver) => Ok(Admitted::Wait(receiver)),
                Known::Over => {
                    let (_, outcome) = self.status(&request.id).await?;
                    Ok(Admitted::Over(outcome.ok_or(JournalError::Broken)?))
                }
            };
        }
        let bad = |bad: crate::harness::BadParts| {
            error(ErrorCode::BadRequest, format!("reading the message: {bad}"))
        };
        let parts = self.0.harness.prepare(&request.parts).map_err(bad)?;
        let starts_at_once = self.has_room()?;
        // Names sort by time, so a turn that has to wait gets its own when it starts.
        let names = if starts_at_once { Some(self.0.harness.name_turn(parts.len())?) } else { None };
        let mut records = vec![Record::accepted(&request.id, &digest)];
        records.extend(names.iter().map(|names| Record::started(&request.id, names)));
        self.0.journal.append(records).await?;
        Ok(Admitted::Wait(self.enter(request.id, digest, parts, names)))
    }

    /// What is known about a turn of this id, if anything.
    fn join(&self, id: &str, digest: &Digest) -> Option<Result<Known, ErrorBody>> {
        let mut table = self.table();
        let entry = table.turns.get_mut(id)?;
        if entry.digest != *digest {
            let text = "running the turn: its id was used for another message; choose a new id";
            return Some(Err(error(ErrorCode::TurnMismatch, text)));
        }
        if matches!(entry.stage, Stage::Ended(_)) {
            return Some(Ok(Known::Over));
        }
        let (sender, receiver) = oneshot::channel();
        entry.waiters.push(sender);
        Some(Ok(Known::Running(receiver)))
    }

    /// Whether a new turn can start at once; an error if it cannot even wait.
    fn has_room(&self) -> Result<bool, ErrorBody> {
        let table = self.table();
        if let Some(why) = table.stopping {
            return Err(error(ErrorCode::ShuttingDown, format!("running the turn: {why}")));
        }
        let starts_at_once = table.running.is_none() && table.queue.is_empty();
        if !starts_at_once && table.queue.len() >= self.0.most_queued {
            let waiting = table.queue.len();
            let text =
                format!("running the turn: {waiting} turns wait already; try again when one has ended");
            return Err(error(ErrorCode::QueueFull, text));
        }
        Ok(starts_at_once)
    }

    fn enter(
        &self,
        id: String,
        digest: Digest,
        parts: Parts,
        names: Option<TurnNames>,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        let mut entry = Entry { digest, stage: Stage::Running, waiters: vec![sender] };
        if let Some(why) = table.stopping {
            // The stop came while the turn was written; the harness never sees it.
            let outcome = Outcome::interrupted(why);
            table.turns.insert(id.clone(), entry);
            table.settle(&id, &outcome, None);
            return receiver;
        }
        match names {
            Some(names) => {
                table.turns.insert(id.clone(), entry);
                table.running = Some(id.clone());
                drop(table);
                tokio::spawn(self.clone().drive(id, parts, Some(names)));
            }
            None => {
                entry.stage = Stage::Queued(parts);
                table.turns.insert(id.clone(), entry);
                table.queue.push_back(id);
                drop(table);
                self.start_next();
            }
        }
        receiver
    }

    /// Starts the turn that has waited longest, unless one runs.
    fn start_next(&self) {
        let mut table = self.table();
        if table.running.is_some() || table.stopping.is_some() {
            return;
        }
        let Some(id) = table.queue.pop_front() else { return };
        let Some(entry) = table.turns.get_mut(&id) else { return };
        let Stage::Queued(parts) = std::mem::replace(&mut entry.stage, Stage::Running) else { return };
        table.running = Some(id.clone());
        drop(table);
        tokio::spawn(self.clone().drive(id, parts, None));
    }

    /// Takes one turn from its start to its end.
    async fn drive(self, id: String, parts: Parts, names: Option<TurnNames>) {
        let outcome = match self.started(&id, parts.len(), names).await {
            Ok(names) => {
                tracing::info!(turn = id, message = names.message, "turn started");
                self.run(&names, parts).await
            }
            Err(error) => Outcome::Failed(error),
        };
        self.end(&id, outcome).await;
        self.table().running = None;
        self.start_next();
    }

    async fn end(&self, id: &str, outcome: Outcome) {
        let _ending = self.0.ending.lock().await;
        let runs = matches!(self.table().turns.get(id), Some(Entry { stage: Stage::Running, .. }));
        if !runs {
            return;
        }
        let written = self.0.journal.append(vec![Record::ended(id, &outcome)]).await;
        tracing::info!(turn = id, state = ?outcome.state(), "turn ended");
        match written {
            Ok(spans) => self.table().settle(id, &outcome, spans.first().copied()),
            Err(failed) => {
                tracing::error!(turn = id, error = %failed, "a turn's end is not in the journal");
                self.table().settle_unwritten(id, outcome, &Outcome::Failed(failed.into()));
            }
        }
    }

    /// Writes that the harness is about to see the turn, where that is not written yet.
    async fn started(
        &self,
        id: &str,
        parts: usize,
        names: Option<TurnNames>,
    ) -> Result<TurnNames, ErrorBody> {
        if let Some(names) = names {
            return Ok(names);
        }
        let names = self.0.harness.name_turn(parts)?;
        self.0.journal.append(vec![Record::started(id, &names)]).await?;
        Ok(names)
    }

    async fn run(&self, names: &TurnNames, parts: Parts) -> Outcome {
        let Shared { harness, conversation, turn_timeout, .. } = &*self.0;
        let mut running = harness.run(conversation, names, parts);
        match timeout(*turn_timeout, &mut running).await {
            Ok(Ok(reply)) => Outcome::Completed(reply),
            Ok(Err(failed)) => Outcome::Failed(failed.into()),
            Err(_) => {
                let aborted = timeout(ABORT_GRACE, harness.abort(conversation)).await;
                if !matches!(aborted, Ok(Ok(()))) {
                    tracing::warn!("the harness did not take the abort of a turn that took too long");
                }
                // The next turn must not meet this one still at work.
                let _ = timeout(ABORT_GRACE, running).await;
                let text =
                    format!("running the turn: aborted after the agent's turn timeout of {turn_timeout:?}");
                Outcome::Failed(error(ErrorCode::TurnTimeout, text))
            }
        }
    }
}

enum Known {
    Running(oneshot::Receiver<Outcome>),
    Over,
}

fn check_id(id: &str) -> Result<(), ErrorBody> {
    let fits = (1..=128).contains(&id.len()) && id.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if fits {
        return Ok(());
    }
    Err(error(ErrorCode::BadRequest, "reading the turn: id must be 1 to 128 printable ASCII characters"))
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
