//! Binding the pod to its session: the first session UID wins, for ever.
//!
//! The claim is taken in memory before anything is done for the session, and it is never given up: a failed
//! activation may have left the session's environment behind, so nobody else may have the pod. It is in the
//! journal before the answer, so a restart of the container finds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use paddock_runnerapi::{ActivateRequest, ActivateResponse, EnvVar, ErrorBody, ErrorCode, TurnRequest};
use serde_json::json;

use crate::harness::{Harness, HarnessError};
use crate::turns::{Activation, Engine, Journal, JournalError, Record, Restored, RestoredTurn};

/// The session and its turns.
pub struct Bound {
    activation: Activation,
    response: ActivateResponse,
    /// The turns.
    pub engine: Engine,
}

impl Bound {
    /// UID of the session.
    pub fn session_uid(&self) -> &str {
        &self.activation.request.session.uid
    }

    fn is_for(&self, claim: &Claim) -> bool {
        self.session_uid() == claim.uid && self.activation.request.incarnation == claim.incarnation
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    uid: String,
    incarnation: u32,
}

/// The session that the pod had before the container restarted cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The harness.
    #[error(transparent)]
    Harness(#[from] HarnessError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Gives the pod its session.
pub struct Activator {
    harness: Arc<dyn Harness>,
    journal: Journal,
    claim: Mutex<Option<Claim>>,
    /// Activation runs once; whoever else asks waits for it.
    running: tokio::sync::Mutex<()>,
    bound: OnceLock<Arc<Bound>>,
}

fn error(code: ErrorCode, text: &str) -> ErrorBody {
    ErrorBody { code, error: text.to_owned() }
}

/// Whether shells can take all of these.
fn check_env(env: &[EnvVar]) -> Result<(), ErrorBody> {
    for EnvVar { name, value } in env {
        let starts = name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
        let goes_on = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !starts || !goes_on || value.contains('\0') {
            let text = format!("activating the pod: agent.env: {name:?} cannot be a variable of a shell");
            return Err(error(ErrorCode::BadRequest, &text));
        }
    }
    Ok(())
}

fn bound_to_other() -> ErrorBody {
    let text = "activating the pod: it belongs to another session or incarnation; take another pod";
    error(ErrorCode::BoundToOther, text)
}

impl Activator {
    /// For a booted harness.
    pub fn new(harness: Arc<dyn Harness>, journal: Journal) -> Self {
        let (claim, running) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { harness, journal, claim, running, bound: OnceLock::new() }
    }

    /// The session, if the pod has one.
    pub fn bound(&self) -> Option<&Arc<Bound>> {
        self.bound.get()
    }

    /// Goes on with the session of an earlier run, if there was one.
    ///
    /// # Errors
    /// [`RestoreError`]: the pod cannot serve its session.
    pub async fn restore(&self, restored: Restored) -> Result<(), RestoreError> {
        let Restored { activation: Some(activation), turns, latest } = restored else { return Ok(()) };
        let claim = Claim {
            uid: activation.request.session.uid.clone(),
            incarnation: activation.request.incarnation,
        };
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
        self.harness.reopen(&activation.request, latest.as_ref()).await?;
        let engine = self.engine(&activation, turns).await?;
        tracing::info!(session = activation.request.session.uid, "the pod goes on with its session");
        self.set(activation, engine);
        Ok(())
    }

    /// Binds the pod to the session, or repeats the answer.
    ///
    /// # Errors
    /// `bound_to_other`, `harness_failed`, `journal_failed`.
    pub async fn activate(self: &Arc<Self>, request: ActivateRequest) -> Result<ActivateResponse, ErrorBody> {
        let activator = Arc::clone(self);
        // A task: the controller may be gone before it is done.
        let task = tokio::spawn(async move { activator.run(request).await });
        task.await
            .unwrap_or_else(|_| Err(error(ErrorCode::ShuttingDown, "activating the pod: it is stopping")))
    }

    async fn run(&self, request: ActivateRequest) -> Result<ActivateResponse, ErrorBody> {
        let begun = Instant::now();
        check_env(&request.agent.env)?;
        let claim = Claim { uid: request.session.uid.clone(), incarnation: request.incarnation };
        {
            let mut holder = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
            if *holder.get_or_insert_with(|| claim.clone()) != claim {
                return Err(bound_to_other());
            }
        }
        let _running = self.running.lock().await;
        if let Some(bound) = self.bound.get() {
            if !bound.is_for(&claim) {
                return Err(bound_to_other());
            }
            self.take_initial_turn(bound, request).await?;
            return Ok(bound.response.clone());
        }
        let harness_session_id = self.harness.open(&request).await?;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let activation = Activation { request, harness_session_id, took_ms };
        self.journal.append(vec![Record::Activated(Box::new(activation.clone()))]).await?;
        let engine = self.engine(&activation, HashMap::new()).await?;
        tracing::info!(session = claim.uid, incarnation = claim.incarnation, took_ms, "activated");
        Ok(self.set(activation, engine).response.clone())
    }

    /// A session's first turn may come after its activation: once the assignment of the pod is written, so
    /// that no second pod is ever given it.
    async fn take_initial_turn(&self, bound: &Bound, request: ActivateRequest) -> Result<(), ErrorBody> {
        if request.initial_turn.as_ref().is_none_or(|turn| bound.engine.knows(&turn.id)) {
            return Ok(());
        }
        let activation = Activation { request, ..bound.activation.clone() };
        self.journal.append(vec![Record::Activated(Box::new(activation.clone()))]).await?;
        start_initial_turn(&activation, &bound.engine);
        Ok(())
    }

    async fn engine(
        &self,
        activation: &Activation,
        turns: HashMap<String, RestoredTurn>,
    ) -> Result<Engine, JournalError> {
        Engine::new(Arc::clone(&self.harness), self.journal.clone(), activation, turns).await
    }

    fn set(&self, activation: Activation, engine: Engine) -> &Arc<Bound> {
        let response = ActivateResponse {
            session_uid: activation.request.session.uid.clone(),
            incarnation: activation.request.incarnation,
            harness_session_id: activation.harness_session_id.clone(),
            capabilities: self.harness.capabilities(),
            took_ms: activation.took_ms,
        };
        start_initial_turn(&activation, &engine);
        self.bound.get_or_init(|| Arc::new(Bound { activation, response, engine }))
    }
}

/// Submits the initial turn unless the journal knows it. Its task is queued before the answer leaves, so it
/// is admitted before any turn of a client.
fn start_initial_turn(activation: &Activation, engine: &Engine) {
    let Some(turn) = &activation.request.initial_turn else { return };
    if engine.knows(&turn.id) {
        return;
    }
    let request =
        TurnRequest { id: turn.id.clone(), parts: vec![json!({"type": "text", "text": turn.text})] };
    let engine = engine.clone();
    tokio::spawn(async move {
        if let Err(failed) = engine.submit(request).await {
            tracing::warn!(error = %failed, "the initial turn failed");
        }
    });
}

#[cfg(test)]
#[path = "activation_tests.rs"]
mod tests;
