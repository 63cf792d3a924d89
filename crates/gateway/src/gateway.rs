//! What every request is served with. Made once at the start; holds no state of any turn.

use std::sync::Arc;
use std::time::Duration;

use paddock_runnerapi::SigningKey;
use paddock_websocket::Pace;

use crate::auth::{Keys, MasterKey, ScopedKeys};
use crate::cluster::Cluster;
use crate::http::body::BodyLimits;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::relay::connections::Connections;
use crate::relay::tokens::Tokens;
use crate::server::drain::Drain;
use crate::transcripts::Keeper;

/// What a client may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Largest request head in bytes.
    pub max_head_bytes: usize,
    /// Longest time for a request's head.
    pub head_timeout: Duration,
    /// Longest time between two requests, between two pieces of a body, and without reading an answer.
    pub idle_timeout: Duration,
    /// Most connections at a time.
    pub max_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 * 1024 * 1024,
            max_head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            max_connections: 20_000,
        }
    }
}

/// How pods are talked to.
#[derive(Clone, Copy, Debug)]
pub struct RelayTimes {
    /// Longest time for a connection to be made.
    pub connect: Duration,
    /// Pause before an address that refused is tried again.
    pub retry_pause: Duration,
    /// Longest time to wait for the reply to an initial prompt when a session is read.
    pub initial_reply: Duration,
    /// How long a stream of events is silent at most.
    pub heartbeat: Duration,
    /// How long a client of `/stream` is held until its session is ready.
    pub stream_ready: Duration,
    /// The clocks of a terminal's two connections.
    pub terminal: Pace,
}

impl Default for RelayTimes {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            retry_pause: Duration::from_millis(250),
            initial_reply: Duration::from_secs(2),
            heartbeat: Duration::from_secs(15),
            stream_ready: Duration::from_secs(60),
            terminal: Pace::default(),
        }
    }
}

/// See the module.
pub struct Gateway {
    /// Sessions and Agents.
    pub index: Arc<Index>,
    /// The API server.
    pub cluster: Arc<dyn Cluster>,
    /// The namespace it serves; part of derived session names.
    pub namespace: String,
    /// Who may use all of the API.
    pub master_key: Arc<MasterKey>,
    /// Who may use parts of it; none where there are no such keys.
    pub scoped_keys: Option<Arc<ScopedKeys>>,
    /// Signs tokens for pods.
    pub signing_key: SigningKey,
    /// Those that were signed and are good for a while.
    pub tokens: Tokens,
    /// Those to pods that rest.
    pub connections: Connections,
    /// What a client may use up.
    pub limits: Limits,
    /// How pods are talked to.
    pub relay: RelayTimes,
    /// What was said, beyond the pods; none where it goes with them.
    pub transcripts: Option<Arc<Keeper>>,
    /// What operators see.
    pub metrics: Arc<Metrics>,
    /// How far the shutdown is.
    pub drain: Drain,
}

impl Gateway {
    /// The keys that clients may show.
    pub fn keys(&self) -> Keys<'_> {
        Keys { master: &self.master_key, scoped: self.scoped_keys.as_deref(), signing: &self.signing_key }
    }

    /// What a request's body may be.
    pub fn body_limits(&self) -> BodyLimits {
        BodyLimits { max_bytes: self.limits.max_body_bytes, stall: self.limits.idle_timeout }
    }
}
