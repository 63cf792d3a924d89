//! Hands the events of a session to everybody who follows it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use paddock_runnerapi::events::HEARTBEAT;
use paddock_runnerapi::{ErrorBody, ErrorCode, EventId, EventLine, Gap};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::ring::{Bounds, Next, Ring};

/// How much is kept for those who come late or read slowly: the events of some minutes of work.
const KEPT: Bounds = Bounds { events: 4096, bytes: 2 << 20 };
/// Readers at once.
pub(crate) const READERS: usize = 256;
/// How long a reader may have to wait for the subscription, so that it misses nothing of what it does next.
const SUBSCRIPTION_WAIT: Duration = Duration::from_secs(2);

/// What readers wait for.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The number of the latest event.
    latest: u64,
    /// The harness's events arrive.
    subscribed: bool,
    /// No more will come.
    closed: bool,
}

/// See the module.
pub struct Hub {
    incarnation: u32,
    ring: Mutex<Ring>,
    state: watch::Sender<State>,
    readers: Arc<Semaphore>,
}

impl Hub {
    /// For the pod that is this incarnation of its session.
    pub fn new(incarnation: u32) -> Arc<Self> {
        // In thousandths of a millisecond, which come faster than events: numbers grow over restarts of the container too.
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(1).max(1);
        Self::with(incarnation, now, KEPT)
    }

    fn with(incarnation: u32, first: u64, bounds: Bounds) -> Arc<Self> {
        let state = watch::Sender::new(State { latest: first - 1, ..State::default() });
        let (ring, readers) = (Mutex::new(Ring::new(first, bounds)), Arc::new(Semaphore::new(READERS)));
        Arc::new(Self { incarnation, ring, state, readers })
    }

    /// Takes what the harness said, one JSON document; `rests` where the conversation has come to rest with it.
    pub fn said(&self, event: Box<RawValue>, rests: bool) {
        self.push(|id| EventLine { id, event: Some(event), rests, gap: None });
    }

    /// Events are missing at this place.
    pub fn missed(&self, gap: Gap) {
        self.push(|id| EventLine { id, event: None, rests: false, gap: Some(gap) });
    }

    fn push(&self, line: impl FnOnce(EventId) -> EventLine) {
        let mut ring = self.ring();
        let latest = ring.push(|seq| written(&line(self.id(seq))));
        self.state.send_modify(|state| state.latest = latest);
    }

    /// Whether the harness's events arrive.
    pub fn subscribed(&self, subscribed: bool) {
        self.state.send_modify(|state| state.subscribed = subscribed);
    }

    /// Nothing will happen any more: who reads comes to an end.
    pub fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Returns once it is closed.
    pub async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| state.closed).await;
    }

    /// Reads from the event after this one on, or from now on.
    ///
    /// # Errors
    /// `too_many_streams`.
    pub async fn reader(self: &Arc<Self>, after: Option<EventId>) -> Result<Reader, ErrorBody> {
        let room = Arc::clone(&self.readers).try_acquire_owned().map_err(|_| {
            let error = format!("following the session: {READERS} others do so already; try again later");
            ErrorBody { code: ErrorCode::TooManyStreams, error }
        })?;
        let mut state = self.state.subscribe();
        let arrives = state.wait_for(|state| state.subscribed || state.closed);
        if timeout(SUBSCRIPTION_WAIT, arrives).await.is_err() {
            tracing::warn!("a reader of events goes without the harness, which does not tell them now");
        }
        let latest = self.ring().latest();
        let (at, gap) = match after {
            None => (latest, None),
            Some(id) if id.incarnation == self.incarnation => match self.ring().after(id.seq) {
                Next::Missing(floor) => (floor, Some(Gap::UnknownId)),
                Next::Event(..) | Next::Nothing => (id.seq, None),
            },
            // Of another pod; how that went on is not known here.
            Some(_) => match self.ring().after(0) {
                Next::Missing(floor) => (floor, Some(Gap::UnknownId)),
                Next::Event(..) | Next::Nothing => (latest, Some(Gap::UnknownId)),
            },
        };
        Ok(Reader { hub: Arc::clone(self), state, at, begun: false, gap, _room: room })
    }

    fn id(&self, seq: u64) -> EventId {
        EventId { incarnation: self.incarnation, seq }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written(line: &EventLine) -> Bytes {
    // A type of ours always has a JSON form.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// One who follows the session.
pub struct Reader {
    hub: Arc<Hub>,
    state: watch::Receiver<State>,
    /// The number of the event that it was given last.
    at: u64,
    begun: bool,
    /// What it must be told first.
    gap: Option<Gap>,
    _room: OwnedSemaphorePermit,
}

impl Reader {
    /// The next line, or an empty one if none comes for a while; nothing once no more will come.
    pub async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            return Some(self.line(None));
        }
        if let Some(gap) = self.gap.take() {
            return Some(self.line(Some(gap)));
        }
        loop {
            let state = *self.state.borrow_and_update();
            let next = self.hub.ring().after(self.at);
            match next {
                Next::Event(number, line) => {
                    self.at = number;
                    return Some(line);
                }
                Next::Missing(floor) => {
                    self.at = floor;
                    return Some(self.line(Some(Gap::SlowReader)));
                }
                Next::Nothing if state.closed => return None,
                Next::Nothing => match timeout(HEARTBEAT, self.state.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(Bytes::from_static(b"\n")),
                },
            }
        }
    }

    fn line(&self, gap: Option<Gap>) -> Bytes {
        written(&EventLine { id: self.hub.id(self.at), event: None, rests: false, gap })
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
