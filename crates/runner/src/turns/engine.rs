//! The turn engine: admission, the queue, running, and telling everyone who waits.
//!
//! Nothing here is cancelled because a client went away: every step runs in a task of its own, and clients
//! only hold a receiver. Each turn is in the journal before the harness sees it and before its reply is
//! given out.
//!
//! A turn whose end nobody saw, because runner or harness died or stopped, is told to its clients as
//! interrupted, but the journal is left without its end. The next start, here or in the next pod, settles it: it is
//! completed where the harness's history has the finished reply, and else interrupted for good. So an end in
//! the journal is never revised, and no reply is lost that can still be found.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use paddock_runnerapi::passage::Action;
use paddock_runnerapi::{ErrorBody, ErrorCode, TurnRequest, TurnState};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::journal::{Journal, JournalError, Span};
use super::outcome::Outcome;
use super::record::{Activation, Digest, Record};
use super::restore::{Restored, RestoredTurn};
use super::table::{Ended, Entry, MOST_WAITERS, Queued, Stage, Table};
use crate::activity::Meter;
use crate::harness::{HarnessError, MessageHarness, Task, TurnNames};

/// How large the waiting messages may be together. One of the largest always fits.
const MOST_QUEUED_BYTES: usize = 64 << 20;
/// How many turns a session may have. Each id stays in memory (about 400 bytes) for as long as the pod
/// lives, because it must reach the harness at most once.
const MOST_TURNS: usize = 100_000;

/// How long the harness may take to say whether it has a conversation.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Shared {
    pub(super) harness: Arc<dyn MessageHarness>,
    pub(super) journal: Journal,
    pub(super) meter: Arc<Meter>,
    pub(super) conversation: String,
    /// The incarnation in which the journal began.
    pub(super) journal_number: u32,
    /// What was said in earlier pods is still to be given to the harness.
    pub(super) needs_conversation: AtomicBool,
    pub(super) turn_timeout: Duration,
    most_queued: usize,
    /// Turns are admitted one after the other, so that journal, queue and arrival have the same order.
    pub(super) admission: tokio::sync::Mutex<()>,
    /// Held while an end is written: a turn ends once, also where the runner stops at that very moment.
    pub(super) ending: tokio::sync::Mutex<()>,
    /// Whether it stops; the table knows why.
    pub(super) stops: watch::Sender<bool>,
    table: Mutex<Table>,
}

/// The turns of the pod's session.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Shared>);

/// What a request for a turn has to wait for.
enum Admitted {
    Wait(oneshot::Receiver<Outcome>),
    Over(Outcome),
}

/// A turn that was accepted, joined, or is over already.
pub struct Ticket(Admitted);

impl Ticket {
    /// Waits for the turn's end.
    ///
    /// # Errors
    /// The turn's own error.
    pub async fn outcome(self) -> Result<Bytes, ErrorBody> {
        match self.0 {
            Admitted::Over(outcome) => outcome.into_result(),
            Admitted::Wait(receiver) => receiver.await.map_err(|_| broken())?.into_result(),
        }
    }
}

fn broken() -> ErrorBody {
    error(ErrorCode::Interrupted, "running the turn: the runner is stopping")
}

pub(super) fn error(code: ErrorCode, text: impl Into<String>) -> ErrorBody {
    ErrorBody { code, error: text.into() }
}

impl Engine {
    /// Makes the engine of an activated pod. Turns of an earlier run that did not end are looked for in the
    /// harness's history and else interrupted; none is run again.
    ///
    /// # Errors
    /// Where the end of such a turn cannot be written. `past` tells then how far it came, for the next try.
    pub async fn new(
        harness: Arc<dyn MessageHarness>,
        journal: Journal,
        meter: Arc<Meter>,
        activation: &Activation,
        past: &mut Restored,
    ) -> Result<Self, JournalError> {
        let agent = &activation.request.agent;
        let engine = Self(Arc::new(Shared {
            harness,
            journal,
            meter,
            conversation: activation.harness_session_id.clone(),
            journal_number: past.began_in.unwrap_or(activation.request.incarnation),
            needs_conversation: AtomicBool::new(match past.began_in {
                None => activation.request.continues,
                Some(_) => past.needs_conversation,
            }),
            turn_timeout: Duration::from_millis(agent.turn_timeout_ms),
            most_queued: usize::try_from(agent.max_queued_turns).unwrap_or(usize::MAX),
            admission: tokio::sync::Mutex::default(),
            ending: tokio::sync::Mutex::default(),
            stops: watch::Sender::new(false),
            table: Mutex::default(),
        }));
        for (id, turn) in &mut past.turns {
            engine.restore(id, turn).await?;
        }
        Ok(engine)
    }

    async fn restore(&self, id: &str, turn: &mut RestoredTurn) -> Result<(), JournalError> {
        let (state, span) = match turn.ended {
            Some(ended) => ended,
            None => {
                let outcome = self.end_of_lost_turn(id, turn.names.as_ref()).await;
                let messages = self.messages_beside(turn.names.as_ref(), &outcome).await;
                let spans = self.0.journal.append(Record::end(id, messages, &outcome)).await?;
                tracing::warn!(turn = id, state = ?outcome.state(), "a turn of an earlier run is settled");
                let end = spans.last().copied().ok_or(JournalError::Broken)?;
                *turn.ended.insert((outcome.state(), end))
            }
        };
        // All outcomes are in the journal: none needs to be in memory.
        let ended = Ended { state, outcome: None, span: Some(span) };
        let (digest, stage, waiters) = (turn.digest.clone(), Stage::Ended(ended), Vec::new());
        let entry = Entry { digest, conversation: None, stage, waiters };
        self.table().turns.insert(id.to_owned(), entry);
        Ok(())
    }

    async fn end_of_lost_turn(&self, id: &str, names: Option<&TurnNames>) -> Outcome {
        let Some(names) = names else { return Outcome::interrupted("the runner ended while it waited") };
        match self.0.harness.recover(names.conversation(&self.0.conversation), names).await {
            Ok(Some(reply)) => Outcome::Completed(reply),
            Ok(None) => Outcome::interrupted("the runner ended while it ran"),
            Err(error) => {
                tracing::warn!(turn = id, %error, "a lost turn's reply cannot be looked for");
                Outcome::interrupted("the runner ended while it ran")
            }
        }
    }

    /// Runs a turn, joins it, or repeats its outcome, and waits for its end.
    ///
    /// # Errors
    /// The turn's own error, or why it was not accepted.
    pub async fn submit(&self, request: TurnRequest) -> Result<Bytes, ErrorBody> {
        self.accept(request, ()).await?.outcome().await
    }

    /// The first half of [`Self::submit`]. `room` is what the message takes; it is given back once the
    /// message is in the queue or dropped, even where the caller is gone by then.
    ///
    /// # Errors
    /// Why the turn was not accepted.
    pub async fn accept(&self, request: TurnRequest, room: impl Send + 'static) -> Result<Ticket, ErrorBody> {
        let engine = self.clone();
        // A task: the caller may be dropped half-way.
        let admit = async move {
            let _room = room;
            engine.admit(request).await
        };
        let admitted = tokio::spawn(admit).await;
        Ok(Ticket(admitted.map_err(|_| broken())??))
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
                Stage::Left(outcome) => return Ok((outcome.state(), Some(outcome.clone()))),
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

    /// As [`Self::status`], once the turn has ended or `wait` has passed. Looking is no activity.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn status_within(
        &self,
        id: &str,
        wait: Duration,
    ) -> Result<(TurnState, Option<Outcome>), ErrorBody> {
        let end = match self.table().turns.get_mut(id) {
            Some(entry) if !wait.is_zero() && matches!(entry.stage, Stage::Queued(_) | Stage::Running) => {
                entry.wait()
            }
            _ => None,
        };
        if let Some(end) = end {
            // How it ended is told below, from where it is kept.
            let _ = tokio::time::timeout(wait, end).await;
        }
        self.status(id).await
    }

    /// Accepts no more turns, and tells those that run or wait as interrupted. Their ends are left for the
    /// next start to find.
    pub async fn stop(&self, why: &'static str) {
        self.table().stopping = Some(why);
        self.0.stops.send_replace(true);
        // An end that is being written is told as it is.
        let _ending = self.0.ending.lock().await;
        let mut table = self.table();
        let open: Vec<String> = table.running.iter().chain(&table.queue).cloned().collect();
        for id in &open {
            table.leave(id, Outcome::interrupted(why));
        }
        table.queue.clear();
        if !open.is_empty() {
            tracing::warn!(turns = open.len(), why, "turns interrupted");
        }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, span: Span) -> Result<Outcome, JournalError> {
        let unlike = || JournalError::Read(std::io::ErrorKind::InvalidData.into());
        self.0.journal.read(span).await?.into_outcome().ok_or_else(unlike)
    }

    async fn admit(&self, request: TurnRequest) -> Result<Admitted, ErrorBody> {
        check_id(&request.id)?;
        let digest = Digest::of(&request);
        let _turnstile = self.0.admission.lock().await;
        self.has_conversation()?;
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
        let task = self.0.harness.prepare(&self.0.conversation, &request).map_err(bad)?;
        self.knows_conversation(&task).await?;
        let said = said(&request, &task);
        let queued = Queued::new(task, self.0.meter.busy());
        let starts_at_once = self.has_room(&queued)?;
        // Names sort by time, so a turn that has to wait gets its own when it starts.
        let names = if starts_at_once { Some(self.0.harness.name_turn(&queued.task)?) } else { None };
        let mut records =
            vec![Record::accepted(&request.id, &digest, said, queued.task.conversation.clone())];
        records.extend(names.iter().map(|names| Record::started(&request.id, names)));
        self.0.journal.append(records).await?;
        Ok(Admitted::Wait(self.enter(request.id, digest, queued, names)))
    }

    /// A conversation that a client has opened is the harness's own affair, so it is asked before the turn is taken.
    async fn knows_conversation(&self, task: &Task) -> Result<(), ErrorBody> {
        let Some(conversation) = &task.conversation else { return Ok(()) };
        let late =
            |_| HarnessError::Unusable { attempt: "find a conversation", what: "it did not come in time" };
        if timeout(LOOK_LIMIT, self.0.harness.knows(conversation)).await.map_err(late)?? {
            return Ok(());
        }
        Err(HarnessError::NotThere { what: "such conversation".to_owned() }.into())
    }

    /// What is known about a turn of this id, if anything.
    fn join(&self, id: &str, digest: &Digest) -> Option<Result<Known, ErrorBody>> {
        let mut table = self.table();
        let entry = table.turns.get_mut(id)?;
        if entry.digest != *digest {
            let text = "running the turn: its id was used for another message; choose a new id";
            return Some(Err(error(ErrorCode::TurnMismatch, text)));
        }
        if matches!(entry.stage, Stage::Ended(_) | Stage::Left(_)) {
            return Some(Ok(Known::Over));
        }
        Some(entry.wait().map(Known::Running).ok_or_else(|| {
            let text = format!(
                "running the turn: {MOST_WAITERS} requests wait for this very turn already; it goes on, ask again when it has ended"
            );
            error(ErrorCode::QueueFull, text)
        }))
    }

    /// Whether a new turn can start at once; an error if it cannot even wait.
    fn has_room(&self, queued: &Queued) -> Result<bool, ErrorBody> {
        let table = self.table();
        if let Some(why) = table.stopping {
            return Err(error(ErrorCode::ShuttingDown, format!("running the turn: {why}")));
        }
        if table.quiesced {
            let text = "running the turn: the session is being suspended; the next pod takes the message";
            return Err(error(ErrorCode::Quiesced, text));
        }
        if table.turns.len() >= MOST_TURNS {
            return Err(JournalError::Full(MOST_TURNS).into());
        }
        let starts_at_once = table.running.is_none() && table.queue.is_empty();
        if !starts_at_once && table.queue.len() >= self.0.most_queued {
            let waiting = table.queue.len();
            let text =
                format!("running the turn: {waiting} turns wait already; try again when one has ended");
            return Err(error(ErrorCode::QueueFull, text));
        }
        if !starts_at_once && table.queued_bytes() + queued.bytes > MOST_QUEUED_BYTES {
            let text = format!(
                "running the turn: the messages that wait would be larger than {MOST_QUEUED_BYTES} bytes; try again when a turn has ended"
            );
            return Err(error(ErrorCode::QueueFull, text));
        }
        Ok(starts_at_once)
    }

    fn enter(
        &self,
        id: String,
        digest: Digest,
        queued: Queued,
        names: Option<TurnNames>,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        let conversation = queued.task.conversation.clone();
        let mut entry = Entry { digest, conversation, stage: Stage::Running, waiters: vec![sender] };
        if let Some(why) = table.stopping {
            // The stop came while the turn was written; the harness never sees it.
            table.turns.insert(id.clone(), entry);
            table.leave(&id, Outcome::interrupted(why));
            return receiver;
        }
        match names {
            Some(names) => {
                table.turns.insert(id.clone(), entry);
                table.running = Some(id.clone());
                drop(table);
                tokio::spawn(self.clone().drive(id, queued, Some(names)));
            }
            None => {
                entry.stage = Stage::Queued(queued);
                table.turns.insert(id.clone(), entry);
                table.queue.push_back(id);
                drop(table);
                self.start_next();
            }
        }
        receiver
    }
}

/// What the user said, for the journal: of a call that is no message, in words.
fn said(request: &TurnRequest, task: &Task) -> Vec<Value> {
    if request.call.is_none() {
        return request.parts.clone();
    }
    let text = |name: &str| task.options.get(name).and_then(Value::as_str).unwrap_or_default();
    let words = match task.action {
        Action::Message | Action::MessageAsync => return task.parts.clone(),
        Action::Command => format!("/{} {}", text("command"), text("arguments")),
        Action::Shell => format!("!{}", text("command")),
        Action::Init => "/init".to_owned(),
        Action::Summarize => "/summarize".to_owned(),
    };
    vec![json!({"type": "text", "text": words.trim_end()})]
}

enum Known {
    Running(oneshot::Receiver<Outcome>),
    Over,
}

fn check_id(id: &str) -> Result<(), ErrorBody> {
    let fits = (1..=128).contains(&id.len()) && id.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    // Answers name the turn in a header, which would lose spaces at the ends.
    if fits && id.trim_matches(' ') == id {
        return Ok(());
    }
    let text = "reading the turn: id must be 1 to 128 printable ASCII characters, without spaces at its ends";
    Err(error(ErrorCode::BadRequest, text))
}

#[cfg(test)]
#[path = "engine_tests.rs"]
pub(super) mod tests;
