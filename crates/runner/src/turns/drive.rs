//! One turn at a time, from its start to its end.

use std::time::Duration;

use paddock_runnerapi::{ErrorBody, ErrorCode};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::engine::{Engine, Shared, error};
use super::outcome::Outcome;
use super::record::Record;
use super::table::{Entry, Queued, Stage};
use crate::harness::{HarnessError, Task, TurnNames};

/// How long a harness may take to stop a turn that took too long; then the next turn goes on regardless.
const ABORT_GRACE: Duration = Duration::from_secs(5);
/// How long the end of the harness's process may be noticed after that of its connections.
const VERDICT: Duration = Duration::from_secs(1);

impl Engine {
    /// Starts the turn that has waited longest, unless one runs.
    pub(super) fn start_next(&self) {
        let mut table = self.table();
        if table.running.is_some() || table.stopping.is_some() {
            return;
        }
        let Some(id) = table.queue.pop_front() else { return };
        let Some(entry) = table.turns.get_mut(&id) else { return };
        let Stage::Queued(queued) = std::mem::replace(&mut entry.stage, Stage::Running) else { return };
        table.running = Some(id.clone());
        drop(table);
        tokio::spawn(self.clone().drive(id, queued, None));
    }

    /// Takes one turn from its start to its end.
    pub(super) async fn drive(self, id: String, queued: Queued, names: Option<TurnNames>) {
        let Queued { task, busy, .. } = queued;
        let (outcome, messages) = match self.started(&id, &task, names).await {
            Ok(_) if *self.0.stops.borrow() => {
                (Outcome::interrupted("the runner stopped before it ran"), Vec::new())
            }
            Ok(names) => {
                tracing::info!(turn = id, message = names.message, "turn started");
                let outcome = self.run(&names, task).await;
                let messages = self.messages_beside(Some(&names), &outcome).await;
                (outcome, messages)
            }
            Err(error) => (Outcome::Failed(error), Vec::new()),
        };
        self.end(&id, outcome, messages).await;
        self.table().running = None;
        drop(busy);
        self.start_next();
    }

    async fn end(&self, id: &str, outcome: Outcome, messages: Vec<Box<RawValue>>) {
        let _ending = self.0.ending.lock().await;
        let runs = matches!(self.table().turns.get(id), Some(Entry { stage: Stage::Running, .. }));
        if !runs {
            return;
        }
        // Runner or harness is about to be gone: the next start has to look for the end.
        if matches!(outcome, Outcome::Interrupted(_)) && *self.0.stops.borrow() {
            self.table().leave(id, outcome);
            return;
        }
        let written = self.0.journal.append(Record::end(id, messages, &outcome)).await;
        tracing::info!(turn = id, state = ?outcome.state(), "turn ended");
        match written {
            Ok(spans) => self.table().settle(id, &outcome, spans.last().copied()),
            Err(failed) => {
                tracing::error!(turn = id, error = %failed, "a turn's end is not in the journal");
                self.table().settle_unwritten(id, outcome, &Outcome::Failed(failed.into()));
            }
        }
    }

    /// Writes that the harness is about to see the turn, where that is not written yet.
    async fn started(&self, id: &str, task: &Task, names: Option<TurnNames>) -> Result<TurnNames, ErrorBody> {
        if let Some(names) = names {
            return Ok(names);
        }
        let names = self.0.harness.name_turn(task)?;
        self.0.journal.append(vec![Record::started(id, &names)]).await?;
        Ok(names)
    }

    async fn run(&self, names: &TurnNames, task: Task) -> Outcome {
        let Shared { harness, conversation, turn_timeout, .. } = &*self.0;
        let mut running = harness.run(names.conversation(conversation), names, task);
        match timeout(*turn_timeout, &mut running).await {
            Ok(Ok(reply)) => Outcome::Completed(reply),
            Ok(Err(broke_off @ HarnessError::Unreachable { .. })) => self.broke_off(names, &broke_off).await,
            Ok(Err(failed)) => Outcome::Failed(failed.into()),
            Err(_) => {
                self.abort(names).await;
                // The next turn must not meet this one still at work.
                let _ = timeout(ABORT_GRACE, running).await;
                let text =
                    format!("running the turn: aborted after the agent's turn timeout of {turn_timeout:?}");
                Outcome::Failed(error(ErrorCode::TurnTimeout, text))
            }
        }
    }

    /// Has the harness stop what the running turn does. Turns that wait go on after it.
    ///
    /// # Errors
    /// Where the harness does not take it in time.
    pub async fn abort_running(&self) -> Result<(), ErrorBody> {
        let conversation = {
            let table = self.table();
            let Some(running) = &table.running else { return Ok(()) };
            table.turns.get(running).and_then(|entry| entry.conversation.clone())
        };
        tracing::info!("asked to abort the running turn");
        let conversation = conversation.as_deref().unwrap_or(&self.0.conversation);
        self.tell_to_stop(conversation).await.map_err(ErrorBody::from)
    }

    async fn tell_to_stop(&self, conversation: &str) -> Result<(), HarnessError> {
        let late = |_| HarnessError::Unusable { attempt: "abort the turn", what: "it did not come in time" };
        timeout(ABORT_GRACE, self.0.harness.abort(conversation)).await.map_err(late)?
    }

    async fn abort(&self, names: &TurnNames) {
        if let Err(error) = self.tell_to_stop(names.conversation(&self.0.conversation)).await {
            tracing::warn!(%error, "the harness did not take the abort of a turn");
        }
    }

    /// The connection is gone and with it, most likely, the harness: then the engine is about to be stopped,
    /// and until that is known no other turn starts. A harness that lives on is asked for the reply.
    async fn broke_off(&self, names: &TurnNames, how: &HarnessError) -> Outcome {
        tracing::warn!(message = names.message, error = %how, "a turn broke off");
        let mut stops = self.0.stops.subscribe();
        // The sender is in the engine, so only the time can run out.
        let interrupted = Outcome::interrupted("the harness broke off the connection");
        if timeout(VERDICT, stops.wait_for(|stops| *stops)).await.is_ok() {
            return interrupted;
        }
        // The next turn must not meet this one still at work.
        self.abort(names).await;
        let conversation = names.conversation(&self.0.conversation);
        let found = timeout(ABORT_GRACE, self.0.harness.recover(conversation, names)).await;
        match found {
            Ok(Ok(Some(reply))) => Outcome::Completed(reply),
            _ => interrupted,
        }
    }
}
