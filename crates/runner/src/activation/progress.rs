//! How far an activation is: which step it is at, and how long each took.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use paddock_runnerapi::{ActivationProgress, ActivationStep, StepTook};

/// See the module.
#[derive(Default)]
pub(super) struct Progress(Mutex<Told>);

#[derive(Default)]
struct Told {
    current: Option<(ActivationStep, Instant)>,
    done: Vec<StepTook>,
}

fn ms_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Told {
    fn leave(&mut self) {
        if let Some((step, begun)) = self.current.take() {
            let took_ms = ms_since(begun);
            tracing::info!(?step, took_ms, "a step of the activation is done");
            self.done.push(StepTook { step, took_ms });
        }
    }
}

impl Progress {
    /// An activation begins.
    pub(super) fn begin(&self) {
        *self.lock() = Told::default();
    }

    /// The step before is done, and this one begins.
    pub(super) fn enter(&self, step: ActivationStep) {
        let mut told = self.lock();
        told.leave();
        told.current = Some((step, Instant::now()));
    }

    /// All are done. Returns how long each took.
    pub(super) fn end(&self) -> Vec<StepTook> {
        let mut told = self.lock();
        told.leave();
        std::mem::take(&mut told.done)
    }

    /// The activation has failed, at the step that it is at.
    pub(super) fn fail(&self, why: &str) {
        if let Some((step, begun)) = self.lock().current.take() {
            tracing::warn!(?step, took_ms = ms_since(begun), why, "the activation failed");
        }
    }

    /// For who waits. Before the first step and after the last there is only the harness left to wait for.
    pub(super) fn now(&self) -> ActivationProgress {
        match self.lock().current {
            Some((step, begun)) => ActivationProgress { step, took_ms: ms_since(begun) },
            None => ActivationProgress { step: ActivationStep::OpeningHarness, took_ms: 0 },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
