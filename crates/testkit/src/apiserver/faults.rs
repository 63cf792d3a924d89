//! How a test makes the server misbehave.

use std::time::Duration;

use super::ApiServer;
use super::refusal::Refusal;
use super::request::Call;

/// Decides how the requests of all clients are treated.
pub trait Policy: Send {
    /// How this request to `server` is treated. Asked once, when it comes. (A policy that kept the server would keep it for
    /// ever, for the server keeps its policy.)
    fn treat(&mut self, server: &ApiServer, client: &str, call: &Call) -> Treatment {
        let _ = (server, client, call);
        Treatment::default()
    }

    /// What happens to a watch next. Asked whenever it has something to tell; `waiting` is how many events.
    fn tap(&mut self, client: &str, call: &Call, waiting: usize) -> Tap {
        let _ = (client, call, waiting);
        Tap::Deliver
    }
}

/// No faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flawless;

impl Policy for Flawless {}

/// How a request is treated.
#[derive(Clone, Debug, Default)]
pub struct Treatment {
    /// How long it is on its way.
    pub before: Duration,
    /// What is done.
    pub verdict: Verdict,
    /// How long the answer is on its way.
    pub after: Duration,
}

impl From<Verdict> for Treatment {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, ..Self::default() }
    }
}

/// What is done about a request.
#[derive(Clone, Debug, Default)]
pub enum Verdict {
    /// It is done and answered.
    #[default]
    Serve,
    /// It is refused and not done.
    Refuse(Refusal),
    /// It never arrives: the client sees its connection break.
    Break,
    /// It never arrives, and the client hears nothing.
    Swallow,
    /// It is done, and the client sees its connection break.
    Lose,
    /// It is done, and the client hears nothing.
    Mute,
    /// A get or list is answered as of this version; a watch or a write is served as usual.
    AsOf(u64),
}

/// What a watch does with what it has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// The next event is told.
    Deliver,
    /// The next event is told later, and all others with it.
    Delay(Duration),
    /// Several changes of one object are told as one.
    Coalesce,
    /// The connection breaks.
    Cut,
    /// Nothing is heard of the watch for so long, even past its end; then the connection breaks.
    Freeze(Duration),
    /// The watch is told that its version is too old.
    Expire,
}
