//! How busy the turns are, and bringing them to rest before the pod is given back.

use std::time::Duration;

use paddock_runnerapi::{Activity, ErrorBody, ErrorCode, QuiesceRequest, TurnCounts};
use tokio::time::timeout;

use super::engine::{Engine, error};
use crate::activity::Busy;

/// How long the harness may take to say whether it works.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

impl Engine {
    /// How busy the session is. Asking does not make it so.
    pub async fn activity(&self) -> Activity {
        let has_open_work = self.look().await;
        let idle = self.0.meter.idle().filter(|_| !has_open_work).unwrap_or_default();
        let transcript = self.position();
        let table = self.table();
        Activity {
            idle_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
            turns: TurnCounts {
                total: table.turns.len() as u64,
                running: u32::from(table.running.is_some()),
                queued: u32::try_from(table.queue.len()).unwrap_or(u32::MAX),
            },
            quiesced: table.quiesced,
            transcript,
        }
    }

    /// Keeps the session from being idle.
    pub fn busy(&self) -> Busy {
        self.0.meter.busy()
    }

    /// Takes no new turns any more, if the session is as idle as was asked for. Turns that run or wait go on,
    /// and those that are known are told as ever. May be asked again.
    ///
    /// # Errors
    /// `busy`, `journal_failed`: nothing has changed.
    pub async fn quiesce(&self, request: QuiesceRequest) -> Result<Activity, ErrorBody> {
        let has_open_work = self.look().await;
        {
            // No turn is half admitted: it counts as busy, or it comes too late.
            let _turnstile = self.0.admission.lock().await;
            let is_quiesced = self.table().quiesced;
            if let Some(least) = request.if_idle_ms.filter(|_| !is_quiesced) {
                let idle = self.0.meter.idle().filter(|_| !has_open_work);
                if idle.is_none_or(|idle| idle < Duration::from_millis(least)) {
                    return Err(not_idle(idle, least));
                }
            }
            self.0.journal.sync().await?;
            self.table().quiesced = true;
            if !is_quiesced {
                tracing::info!(if_idle_ms = request.if_idle_ms, "quiesced: no more turns are taken");
            }
        }
        Ok(self.activity().await)
    }

    /// Whether the harness works on something that no turn of ours stands for. That is a busy moment too, so
    /// somebody has to look now and then.
    pub async fn look(&self) -> bool {
        if self.0.meter.idle().is_none() {
            return false;
        }
        match timeout(LOOK_LIMIT, self.0.harness.has_open_work()).await {
            Ok(Ok(true)) => {
                self.0.meter.touch();
                true
            }
            Ok(Ok(false)) => false,
            // A harness that cannot say must not keep its session up for ever.
            Ok(Err(error)) => {
                tracing::warn!(%error, "the harness does not say whether it has open work");
                false
            }
            Err(_) => {
                tracing::warn!("the harness does not say in time whether it has open work");
                false
            }
        }
    }
}

/// The refusal to bring a session to rest that is not as idle as was asked for.
pub(crate) fn not_idle(idle: Option<Duration>, least_ms: u64) -> ErrorBody {
    let state = match idle {
        Some(idle) => format!("has been idle for {} ms", idle.as_millis()),
        None => "is busy".to_owned(),
    };
    error(
        ErrorCode::Busy,
        format!("bringing the session to rest: it {state}, and {least_ms} ms were asked for"),
    )
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
