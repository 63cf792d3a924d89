//! How busy a terminal is, and bringing it to rest before the pod is given back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use paddock_runnerapi::{Activity, ErrorBody, QuiesceRequest};

use super::Terminal;
use crate::turns::not_idle;

impl Terminal {
    /// How busy it is. Asking does not make it so.
    pub fn activity(&self) -> Activity {
        let idle = self.meter.idle().unwrap_or_default();
        Activity {
            idle_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
            quiesced: self.quiesced.load(Ordering::SeqCst),
            ..Activity::default()
        }
    }

    /// Takes no new viewers any more, if it is as idle as was asked for. May be asked again.
    ///
    /// # Errors
    /// `busy`: nothing has changed.
    pub fn quiesce(&self, request: QuiesceRequest) -> Result<Activity, ErrorBody> {
        if let Some(least) = request.if_idle_ms
            && !self.quiesced.load(Ordering::SeqCst)
        {
            let idle = self.meter.idle();
            if idle.is_none_or(|idle| idle < Duration::from_millis(least)) {
                return Err(not_idle(idle, least));
            }
        }
        if !self.quiesced.swap(true, Ordering::SeqCst) {
            tracing::info!(if_idle_ms = request.if_idle_ms, "quiesced: no more viewers are taken");
        }
        Ok(self.activity())
    }
}
