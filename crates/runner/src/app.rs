//! What the server's routes share: who may ask, and how far the pod is.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use paddock_runnerapi::{ErrorBody, ErrorCode, Scope, VerifyingKeys};

use crate::activation::Activator;

/// How far the pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another pod still has the volume, or the harness boots or warms up.
    Booting,
    /// It serves.
    Ready,
    /// The runner was told to end.
    Stopping,
    /// The harness ended by itself.
    HarnessLost,
}

/// The pod.
pub struct App {
    pod_uid: String,
    keys: VerifyingKeys,
    phase: Mutex<Phase>,
    activator: OnceLock<Arc<Activator>>,
}

impl App {
    /// A pod that boots.
    pub fn new(pod_uid: String, keys: VerifyingKeys) -> Arc<Self> {
        let (phase, activator) = (Mutex::new(Phase::Booting), OnceLock::new());
        Arc::new(Self { pod_uid, keys, phase, activator })
    }

    /// The harness is booted and warm.
    pub fn ready(&self, activator: Arc<Activator>) {
        if self.activator.set(activator).is_ok() {
            self.enter(Phase::Ready);
        }
    }

    /// Changes the phase.
    pub fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// How far the pod is.
    pub fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the container is worth keeping.
    pub fn is_alive(&self) -> bool {
        let can_write = self.activator.get().is_none_or(|activator| activator.is_usable());
        self.phase() != Phase::HarnessLost && can_write
    }

    /// Checks a bearer token and returns the session UID it is bound to.
    ///
    /// # Errors
    /// `unauthorized`.
    pub fn authenticate(&self, token: Option<&str>, scope: Scope) -> Result<String, ErrorBody> {
        let refuse = |why: String| ErrorBody { code: ErrorCode::Unauthorized, error: why };
        let token =
            token.ok_or_else(|| refuse("checking who asks: the bearer token is missing".to_owned()))?;
        self.keys
            .verify(token, &self.pod_uid, scope)
            .map_err(|error| refuse(format!("checking who asks: {error}")))
    }

    /// The activator of a pod that serves.
    ///
    /// # Errors
    /// `not_ready`, `shutting_down`.
    pub fn activator(&self) -> Result<&Arc<Activator>, ErrorBody> {
        match (self.phase(), self.activator.get()) {
            (Phase::Stopping | Phase::HarnessLost, _) => {
                let error = "asking the pod: it is shutting down".to_owned();
                Err(ErrorBody { code: ErrorCode::ShuttingDown, error })
            }
            (Phase::Ready, Some(activator)) => Ok(activator),
            _ => {
                let error = "asking the pod: its harness is still booting; try again shortly".to_owned();
                Err(ErrorBody { code: ErrorCode::NotReady, error })
            }
        }
    }

    /// Accepts no more turns and ends those that run, and the streams of events.
    pub async fn stop(&self, phase: Phase, why: &'static str) {
        self.enter(phase);
        let bound = self.activator.get().and_then(|activator| activator.bound());
        if let Some(bound) = bound {
            bound.stop(why).await;
        }
    }
}
