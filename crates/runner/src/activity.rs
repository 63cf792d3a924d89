//! How long the session has had nothing to do.
//!
//! Everything that keeps a session from being idle feeds one meter: turns from their acceptance to their end,
//! messages that are being read, and open work of the harness that no turn of ours stands for. Whoever only
//! looks (probes, the controller) must not feed it. The clock is the monotonic one, in the pod: a clock that is
//! set cannot make a session look idle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Measures idle time, from its making.
#[derive(Debug)]
pub struct Meter(Mutex<State>);

#[derive(Debug)]
struct State {
    /// How many things keep the session busy.
    open: usize,
    last_busy: Instant,
}

/// Keeps the session busy until it is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Meter>);

impl Meter {
    /// A session that was busy just now.
    pub fn start() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { open: 0, last_busy: Instant::now() })))
    }

    /// The session is busy at this moment.
    pub fn touch(&self) {
        self.state().last_busy = Instant::now();
    }

    /// The session is busy from now on.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.state().open += 1;
        Busy(Arc::clone(self))
    }

    /// How long the session has been idle; `None` while it is busy.
    pub fn idle(&self) -> Option<Duration> {
        self.idle_at(Instant::now())
    }

    fn idle_at(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        (state.open == 0).then(|| now.saturating_duration_since(state.last_busy))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open = state.open.saturating_sub(1);
        state.last_busy = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if so much time had passed since now.
    fn later(meter: &Meter, seconds: u64) -> Option<Duration> {
        meter.idle_at(Instant::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn idle_time_counts_from_the_last_busy_moment() {
        let meter = Meter::start();
        let hour = Duration::from_secs(3600);
        assert!(later(&meter, 3600).unwrap() >= hour);
        meter.0.lock().unwrap().last_busy -= hour;
        assert!(meter.idle().unwrap() >= hour);
        meter.touch();
        assert!(meter.idle().unwrap() < hour);
    }

    #[test]
    fn while_anything_is_open_the_session_is_busy() {
        let meter = Meter::start();
        let (first, second) = (meter.busy(), meter.busy());
        drop(first);
        assert_eq!(later(&meter, 3600), None);
        meter.0.lock().unwrap().last_busy -= Duration::from_secs(60);
        drop(second);
        assert!(meter.idle().unwrap() < Duration::from_secs(60));
    }
}
