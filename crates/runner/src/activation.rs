//! Binding the pod to its session: the first session UID wins, for ever.
//!
//! The claim is taken in memory before anything is done for the session, and it is never given up: a failed
//! activation may have left the session's environment behind, so nobody else may have the pod. It is in the
//! journal before the answer, so a restart of the container finds it.
//!
//! The journal may also be that of an earlier pod, whose volume this one was given. Then the volume already
//! belongs to a session: only that one may have the pod, and its activation goes on where the earlier pod
//! stopped, with what the new request says of the agent.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use paddock_runnerapi::{ActivateRequest, ActivateResponse, EnvVar, ErrorBody, ErrorCode, TurnRequest};
use serde_json::json;

use crate::activity::Meter;
use crate::bound::{Bound, Turns};
use crate::events::{self, Hub};
use crate::harness::{Harness, HarnessError, MessageHarness, TurnNames};
use crate::turns::{Activation, Engine, Journal, JournalError, Record, Restored};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    uid: String,
    incarnation: u32,
}

impl Claim {
    fn of(request: &ActivateRequest) -> Self {
        Self { uid: request.session.uid.clone(), incarnation: request.incarnation }
    }

    /// Whether a pod with this claim may go on with what an earlier one left. It may be of the same
    /// incarnation: the controller makes a second pod for it where the first came to nothing.
    fn follows(&self, earlier: &Self) -> bool {
        self.uid == earlier.uid && self.incarnation >= earlier.incarnation
    }
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
    pod_uid: String,
    meter: Arc<Meter>,
    claim: Mutex<Option<Claim>>,
    /// Whose journal the pod found, where an earlier pod wrote it.
    earlier: OnceLock<Claim>,
    /// What that pod left, until it is taken over. Held while an activation runs: it runs once, and whoever
    /// else asks waits for it.
    past: tokio::sync::Mutex<Restored>,
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

fn volume_of_other() -> ErrorBody {
    let text = "activating the pod: its volume holds the journal of another session or of a later incarnation; take another pod";
    error(ErrorCode::BoundToOther, text)
}

impl Activator {
    /// For a booted harness in the pod with this UID. The harness feeds `meter` too, where it has work that no turn stands for.
    pub fn new(harness: Arc<dyn Harness>, journal: Journal, pod_uid: String, meter: Arc<Meter>) -> Self {
        Self {
            harness,
            journal,
            pod_uid,
            meter,
            claim: Mutex::default(),
            earlier: OnceLock::new(),
            past: tokio::sync::Mutex::default(),
            bound: OnceLock::new(),
        }
    }

    /// Whether what happens can still be written down.
    pub fn is_usable(&self) -> bool {
        self.journal.is_usable()
    }

    /// The session, if the pod has one.
    pub fn bound(&self) -> Option<&Arc<Bound>> {
        self.bound.get()
    }

    /// Goes on with the session of before the container restarted. One that an earlier pod had is kept until
    /// this pod is activated for it.
    ///
    /// # Errors
    /// [`RestoreError`]: the pod cannot serve its session.
    pub async fn restore(&self, mut past: Restored) -> Result<(), RestoreError> {
        let Some(mut activation) = past.activation.take() else { return Ok(()) };
        let claim = Claim::of(&activation.request);
        if activation.pod_uid.as_ref().is_some_and(|uid| *uid != self.pod_uid) {
            tracing::info!(
                session = claim.uid,
                incarnation = claim.incarnation,
                "the volume holds the session of an earlier pod"
            );
            past.activation = Some(activation);
            *self.past.lock().await = past;
            // It was not set before: this is called once.
            let _ = self.earlier.set(claim);
            return Ok(());
        }
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim.clone());
        let conversation = self.reopen(&activation.request, &activation, past.latest.as_ref()).await?;
        if conversation != activation.harness_session_id {
            activation.harness_session_id = conversation;
            self.journal.append(vec![Record::Activated(Box::new(activation.clone()))]).await?;
        }
        let turns = self.turns(&activation, &mut past).await?;
        tracing::info!(session = claim.uid, "the pod goes on with its session");
        self.set(activation, turns);
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
        self.check_initial_turn(&request)?;
        let claim = Claim::of(&request);
        self.take(&claim)?;
        let mut past = self.past.lock().await;
        if let Some(bound) = self.bound.get() {
            if Claim::of(&bound.activation.request) != claim {
                return Err(bound_to_other());
            }
            self.take_initial_turn(bound, request).await?;
            return Ok(bound.response.clone());
        }
        let activation = self.begin(request, &past, begun).await?;
        self.journal.append(vec![Record::Activated(Box::new(activation.clone()))]).await?;
        let turns = self.turns(&activation, &mut past).await?;
        *past = Restored::default();
        let took_ms = activation.took_ms;
        tracing::info!(session = claim.uid, incarnation = claim.incarnation, took_ms, "activated");
        self.meter.touch();
        Ok(self.set(activation, turns).response.clone())
    }

    fn check_initial_turn(&self, request: &ActivateRequest) -> Result<(), ErrorBody> {
        if request.initial_turn.is_none() || self.messages().is_some() {
            return Ok(());
        }
        let text = "activating the pod: the session has a first prompt (spec.prompt), and its harness is a terminal program, \
                    which takes no messages; make the session without it";
        Err(error(ErrorCode::BadRequest, text))
    }

    /// Claims the pod for a session, once and for ever.
    fn take(&self, claim: &Claim) -> Result<(), ErrorBody> {
        let mut holder = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        match &*holder {
            Some(holder) if holder == claim => Ok(()),
            Some(_) => Err(bound_to_other()),
            None if self.earlier.get().is_some_and(|earlier| !claim.follows(earlier)) => {
                Err(volume_of_other())
            }
            None => {
                *holder = Some(claim.clone());
                Ok(())
            }
        }
    }

    /// Gives the harness its session: a new one, or the one that an earlier pod had.
    async fn begin(
        &self,
        mut request: ActivateRequest,
        past: &Restored,
        begun: Instant,
    ) -> Result<Activation, HarnessError> {
        let harness_session_id = match &past.activation {
            None => self.harness.open(&request).await?,
            Some(earlier) => {
                // Asked for once is enough: that pod may have ended before the turn was accepted.
                request.initial_turn =
                    request.initial_turn.take().or_else(|| earlier.request.initial_turn.clone());
                self.reopen(&request, earlier, past.latest.as_ref()).await?
            }
        };
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Activation {
            request,
            harness_session_id,
            took_ms,
            steps: Vec::new(),
            pod_uid: Some(self.pod_uid.clone()),
        })
    }

    async fn reopen(
        &self,
        request: &ActivateRequest,
        earlier: &Activation,
        latest: Option<&TurnNames>,
    ) -> Result<String, HarnessError> {
        self.harness.reopen(request, &earlier.harness_session_id, latest).await
    }

    /// A session's first turn may come after its activation: once the assignment of the pod is written, so
    /// that no second pod is ever given it.
    async fn take_initial_turn(&self, bound: &Bound, request: ActivateRequest) -> Result<(), ErrorBody> {
        let Some(turn) = &request.initial_turn else { return Ok(()) };
        let engine = &bound.turns()?.engine;
        if engine.knows(&turn.id) {
            return Ok(());
        }
        let activation = Activation { request, ..bound.activation.clone() };
        self.journal.append(vec![Record::Activated(Box::new(activation.clone()))]).await?;
        start_initial_turn(&activation, engine);
        Ok(())
    }

    fn messages(&self) -> Option<Arc<dyn MessageHarness>> {
        Arc::clone(&self.harness).answers_messages()
    }

    async fn turns(
        &self,
        activation: &Activation,
        past: &mut Restored,
    ) -> Result<Option<Turns>, JournalError> {
        let Some(harness) = self.messages() else { return Ok(None) };
        let meter = Arc::clone(&self.meter);
        let engine = Engine::new(harness, self.journal.clone(), meter, activation, past).await?;
        Ok(Some(Turns { engine, events: Hub::new(activation.request.incarnation) }))
    }

    fn set(&self, activation: Activation, turns: Option<Turns>) -> &Arc<Bound> {
        let response = ActivateResponse {
            session_uid: activation.request.session.uid.clone(),
            incarnation: activation.request.incarnation,
            harness_session_id: activation.harness_session_id.clone(),
            capabilities: Arc::clone(&self.harness).capabilities(),
            took_ms: activation.took_ms,
            steps: activation.steps.clone(),
        };
        self.bound.get_or_init(|| {
            if let (Some(turns), Some(harness)) = (&turns, self.messages()) {
                let conversation = activation.harness_session_id.clone();
                tokio::spawn(events::follow(harness, conversation, Arc::clone(&turns.events)));
                start_initial_turn(&activation, &turns.engine);
            }
            Arc::new(Bound { activation, response, turns, terminal: self.harness.terminal() })
        })
    }
}

/// Submits the initial turn unless the journal knows it. Its task is queued before the answer leaves, so it
/// is admitted before any turn of a client.
fn start_initial_turn(activation: &Activation, engine: &Engine) {
    let Some(turn) = &activation.request.initial_turn else { return };
    if engine.knows(&turn.id) {
        return;
    }
    let request = TurnRequest::message(&turn.id, vec![json!({"type": "text", "text": turn.text})]);
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
