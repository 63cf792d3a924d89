//! Those who ask for an activation while it goes on wait for the same one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use paddock_runnerapi::{
    ACTIVATE_PATIENCE_MS, ActivateRequest, ActivateResponse, ActivationProgress, ErrorBody, ErrorCode,
};
use tokio::time::timeout;

use super::{Activator, Claim, bound_to_other, check_env, equip, error};
use crate::bound::Bound;

/// What is answered to who asks for an activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The pod serves the session.
    Done(ActivateResponse),
    /// It goes on. Asked again, it is waited for again.
    Going(ActivationProgress),
}

type Running = Shared<BoxFuture<'static, Result<ActivateResponse, ErrorBody>>>;

/// The activation that runs, or whose end nobody has been told yet.
pub(super) type Slot = Mutex<Option<Running>>;

impl Activator {
    /// Binds the pod to the session, or repeats the answer.
    ///
    /// # Errors
    /// `bound_to_other`, `activation_failed`, `harness_failed`, `journal_failed`.
    pub async fn activate(self: &Arc<Self>, request: ActivateRequest) -> Result<Answer, ErrorBody> {
        check_env(&request.agent.env)?;
        self.check_initial_turn(&request)?;
        equip::check(&request, &*self.harness)?;
        let claim = Claim::of(&request);
        self.take(&claim)?;
        if let Some(bound) = self.bound.get() {
            return self.repeat(bound, request).await.map(Answer::Done);
        }
        let (running, is_ours) = self.join(&request);
        let patience = Duration::from_millis(ACTIVATE_PATIENCE_MS);
        let Ok(ended) = timeout(patience, running.clone()).await else {
            return Ok(Answer::Going(self.progress.now()));
        };
        self.tell(&running);
        let response = ended?;
        match self.bound.get().filter(|_| !is_ours) {
            Some(bound) => self.repeat(bound, request).await.map(Answer::Done),
            None => Ok(Answer::Done(response)),
        }
    }

    /// The running activation and whether this request began it.
    fn join(self: &Arc<Self>, request: &ActivateRequest) -> (Running, bool) {
        let mut slot = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*slot {
            return (running.clone(), false);
        }
        let (activator, request) = (Arc::clone(self), request.clone());
        // A task: the controller may be gone before it is done.
        let task = tokio::spawn(async move { activator.run(request).await });
        let running = task.map(|ended| ended.unwrap_or_else(|_| Err(stopping()))).boxed().shared();
        *slot = Some(running.clone());
        (running, true)
    }

    /// Somebody knows how this one ended: who asks from now on wants another.
    fn tell(&self, running: &Running) {
        let mut slot = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|other| other.ptr_eq(running)) {
            *slot = None;
        }
    }

    /// The answer of a pod that has its session. The request may bring the first turn.
    async fn repeat(
        self: &Arc<Self>,
        bound: &Arc<Bound>,
        request: ActivateRequest,
    ) -> Result<ActivateResponse, ErrorBody> {
        if Claim::of(&bound.activation.request) != Claim::of(&request) {
            return Err(bound_to_other());
        }
        let (activator, bound) = (Arc::clone(self), Arc::clone(bound));
        let task = tokio::spawn(async move {
            // One at a time, or two would write the turn down.
            let _past = activator.past.lock().await;
            activator.take_initial_turn(&bound, request).await.map(|()| bound.response.clone())
        });
        task.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> ErrorBody {
    error(ErrorCode::ShuttingDown, "activating the pod: it is stopping")
}
