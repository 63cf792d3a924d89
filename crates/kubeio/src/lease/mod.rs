//! Leader election on a Lease, by client-go's rule.
//!
//! A follower takes over when it has seen no change of the Lease for the Lease's duration, measured with its own monotonic
//! clock from its own observation. The times written into the Lease are for people; no clock is ever compared with
//! another. The leader stops *before* a follower may start, because its deadline is shorter and counts from before the
//! last renewal was sent. Correctness never rests on this: two leaders may exist while a process is suspended, and every
//! write carries its precondition. Election only keeps two controllers from doing the same work.
//!
//! With the default timing a follower starts at most 2.5 s after a leader was killed, and at most 0.5 s after one that
//! stopped in good order.

mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::record::{Record, Records, Stored};
use crate::clock::Clock;
use crate::write::WriteError;

/// How long a stopping leader may take to give the Lease back.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);

/// The periods of an election. `retry_period < renew_deadline < lease_duration` must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// A follower takes over when the Lease has not changed for this long. Stored in whole seconds, rounded up.
    pub lease_duration: Duration,
    /// The leader stops when it could not renew for this long.
    pub renew_deadline: Duration,
    /// How often the leader renews, and how often a follower looks.
    pub retry_period: Duration,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(2),
            renew_deadline: Duration::from_millis(1500),
            retry_period: Duration::from_millis(500),
        }
    }
}

/// One candidate of an election.
#[derive(Debug)]
pub struct Elector {
    records: Records,
    timing: LeaseTiming,
    /// What this follower last saw, and when it first saw it so.
    observed: Option<(Record, Instant)>,
}

/// How a term as a leader ended.
enum End {
    Stopped(Stored),
    Lost(&'static str),
}

impl Elector {
    /// `identity` must differ between all processes that ever run at the same time: a pod's name, for example.
    pub fn new(
        client: kube::Client,
        namespace: impl Into<String>,
        name: impl Into<String>,
        identity: impl Into<String>,
        timing: LeaseTiming,
    ) -> Self {
        let records =
            Records::new(client, namespace.into(), name.into(), identity.into(), timing.lease_duration);
        Self { records, timing, observed: None }
    }

    /// Writes times of `clock` into the Lease.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.records.set_clock(clock);
        self
    }

    /// Takes part until `stop`. Sends true on becoming the leader, and false at once when that may no longer be so.
    ///
    /// On `stop` it sends false and gives the Lease back, so that a follower need not wait. Cancel `stop` only when the
    /// leader's work has ended.
    pub async fn run(mut self, state: watch::Sender<bool>, stop: CancellationToken) {
        while let Some((stored, since)) = self.campaign(&stop).await {
            tracing::info!(
                lease = self.records.name(),
                identity = self.records.identity(),
                "became the leader"
            );
            state.send_replace(true);
            let end = self.lead(stored, since, &stop).await;
            state.send_replace(false);
            self.observed = None;
            match end {
                End::Lost(reason) => {
                    tracing::warn!(lease = self.records.name(), reason, "no longer the leader");
                }
                End::Stopped(stored) => {
                    self.release(stored).await;
                    return;
                }
            }
        }
    }

    /// Waits for the Lease to be free and takes it. Returns what was stored, and a time before it was; none on `stop`.
    async fn campaign(&mut self, stop: &CancellationToken) -> Option<(Stored, Instant)> {
        loop {
            let begun = Instant::now();
            // A write under way is waited for, so that a Lease won at the last moment is given back.
            let outcome = timeout(self.timing.renew_deadline, self.try_take()).await;
            let next = match outcome {
                Ok(Ok(Attempt::Taken(stored))) if stop.is_cancelled() => {
                    self.release(stored).await;
                    return None;
                }
                Ok(Ok(Attempt::Taken(stored))) => return Some((stored, begun)),
                Ok(Ok(Attempt::HeldUntil(expiry))) => expiry.min(begun + self.timing.retry_period),
                Ok(Err(WriteError::Conflict | WriteError::AlreadyExists)) => begun + self.timing.retry_period,
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.records.name(), reason = error.reason(), %error, "cannot take part in the election; trying again");
                    begun + self.timing.retry_period
                }
                Err(_) => {
                    tracing::warn!(
                        lease = self.records.name(),
                        reason = "Timeout",
                        "cannot take part in the election; trying again"
                    );
                    Instant::now()
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = sleep_until(next) => {}
            }
        }
    }

    async fn try_take(&mut self) -> Result<Attempt, WriteError> {
        let Some(stored) = self.records.read().await? else {
            return Ok(Attempt::Taken(self.records.create().await?));
        };
        let record = stored.record();
        if !record.holder.is_empty() && record.holder != self.records.identity() {
            let expiry = self.observe(record);
            if Instant::now() < expiry {
                return Ok(Attempt::HeldUntil(expiry));
            }
        }
        self.records.take(&stored).await.map(Attempt::Taken)
    }

    /// Compares with what was seen before. Returns when the Lease will have been unchanged for its duration.
    fn observe(&mut self, record: Record) -> Instant {
        let duration = record.duration.unwrap_or(self.timing.lease_duration);
        match &self.observed {
            Some((known, since)) if *known == record => *since + duration,
            _ => {
                let now = Instant::now();
                self.observed = Some((record, now));
                now + duration
            }
        }
    }

    /// Renews until that fails for too long, another took the Lease, or `stop`.
    async fn lead(&self, mut stored: Stored, mut renewed: Instant, stop: &CancellationToken) -> End {
        let mut attempted = renewed;
        loop {
            let deadline = renewed + self.timing.renew_deadline;
            let next = (attempted + self.timing.retry_period).min(deadline);
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped(stored),
                () = sleep_until(next) => {}
            }
            attempted = Instant::now();
            // One attempt must not use up the time of the next.
            let patience = (attempted + self.timing.renew_deadline / 2).min(deadline);
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped(stored),
                outcome = timeout_at(patience, self.renew(&stored)) => outcome,
            };
            match outcome {
                Ok(Ok(Renewal::Done(now_stored))) => {
                    stored = now_stored;
                    renewed = attempted;
                }
                Ok(Ok(Renewal::Taken)) => return End::Lost("Taken"),
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.records.name(), reason = error.reason(), %error, "cannot renew the lease; trying again")
                }
                Err(_) => tracing::warn!(
                    lease = self.records.name(),
                    reason = "Timeout",
                    "cannot renew the lease; trying again"
                ),
            }
            if Instant::now() >= renewed + self.timing.renew_deadline {
                return End::Lost("Expired");
            }
        }
    }

    async fn renew(&self, stored: &Stored) -> Result<Renewal, WriteError> {
        let mut stored = stored.clone();
        loop {
            match self.records.renew(&stored).await {
                Ok(stored) => return Ok(Renewal::Done(stored)),
                // Somebody changed the object, or an earlier renewal was stored without our knowing: look who holds it.
                Err(WriteError::Conflict) => match self.records.read().await? {
                    Some(found) if found.record().holder == self.records.identity() => stored = found,
                    Some(_) | None => return Ok(Renewal::Taken),
                },
                Err(WriteError::NotFound) => return Ok(Renewal::Taken),
                Err(error) => return Err(error),
            }
        }
    }

    async fn release(&self, stored: Stored) {
        let attempt = async {
            match self.records.release(&stored).await {
                Err(WriteError::Conflict) => match self.records.read().await? {
                    Some(found) if found.record().holder == self.records.identity() => {
                        self.records.release(&found).await
                    }
                    Some(_) | None => Ok(()),
                },
                outcome => outcome,
            }
        };
        match timeout(RELEASE_WITHIN, attempt).await {
            Ok(Ok(())) => tracing::info!(lease = self.records.name(), "gave the lease back"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.records.name(), reason = error.reason(), %error, "cannot give the lease back; it will expire");
            }
            Err(_) => {
                tracing::warn!(
                    lease = self.records.name(),
                    reason = "Timeout",
                    "cannot give the lease back; it will expire"
                );
            }
        }
    }
}

/// What came of an attempt to take the Lease.
enum Attempt {
    Taken(Stored),
    HeldUntil(Instant),
}

/// What came of an attempt to keep it.
enum Renewal {
    Done(Stored),
    Taken,
}
