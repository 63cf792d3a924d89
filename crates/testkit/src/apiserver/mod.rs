//! An API server in memory, for tests: it answers like a kube-apiserver, and misbehaves when a test asks for it.
//!
//! [`ApiServer::connect`] gives a tower service that can be put under `kube::Client::new`, in the name of one client.
//! What it knows is generic over kinds ([`Kinds`]) and objects are plain JSON. Time is tokio's, so a test with a paused
//! clock decides when it passes. What other programs do in a cluster happens only when the test calls it: the garbage
//! collector, the namespace controller, the end of a pod ([`steps`]). A [`Policy`] sees each request first and may
//! refuse it, lose its answer, delay it or answer from the past; it also holds the taps of the watches. Every change is
//! kept with its author ([`Change`]), every request with its outcome ([`Asked`]).
//!
//! It is checked against a real kube-apiserver by `tests/apiserver_conformance.rs`. It does not know: validation by CEL
//! rules, server-side apply, JSON patches, `generateName`, dry runs, authorisation.

mod create;
mod delete;
mod faults;
mod kinds;
mod list;
mod meta;
mod name;
mod record;
mod refusal;
mod request;
mod schema;
mod selector;
mod service;
mod state;
pub mod steps;
mod update;
mod watch;

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

pub use self::faults::{Policy, Tap, Treatment, Verdict};
pub use self::kinds::{Kind, Kinds};
pub use self::record::{Asked, Change};
pub use self::refusal::Refusal;
pub use self::request::{Call, Part, Verb};
pub use self::service::Connection;

use self::state::State;

/// An object as it is stored; shared, because many look at it and none may change it.
pub type Object = Arc<Value>;

/// The server; clones are the same server.
#[derive(Clone, Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    policy: Mutex<Box<dyn Policy>>,
    /// Wakes watches, in the order in which they wait: a run must be the same for the same seed.
    news: tokio::sync::Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiServer")
    }
}

impl ApiServer {
    /// An empty server whose clock shows `now` and goes on with tokio's. Must be called within tokio.
    pub fn new(kinds: Arc<Kinds>, now: Timestamp) -> Self {
        let state = State::new(kinds, now);
        let shared = Shared {
            state: Mutex::new(state),
            policy: Mutex::new(Box::new(faults::Flawless)),
            news: tokio::sync::Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A connection in the name of `client`, to be put under `kube::Client::new`.
    pub fn connect(&self, client: &str) -> Connection {
        Connection::new(self.clone(), client)
    }

    /// From now on `policy` decides how requests are treated.
    pub fn set_policy(&self, policy: impl Policy + 'static) {
        *self.shared.policy.lock() = Box::new(policy);
    }

    /// The time on the server's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.state.lock().now()
    }

    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.shared.state.lock().version()
    }

    /// An object as it is now. `namespace` is empty for kinds without.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Object> {
        self.shared.state.lock().read(plural, namespace, name)
    }

    /// All objects of a kind, sorted by namespace and name.
    pub fn objects(&self, plural: &str) -> Vec<Object> {
        self.shared.state.lock().all(plural)
    }

    /// Changes since the first `skip` ones.
    pub fn changes(&self, skip: usize) -> Vec<Change> {
        self.shared.state.lock().history.get(skip..).unwrap_or_default().to_vec()
    }

    /// Requests since the first `skip` ones.
    pub fn requests(&self, skip: usize) -> Vec<Asked> {
        self.shared.state.lock().requests.get(skip..).unwrap_or_default().to_vec()
    }

    /// Does one request at once, past every fault. `body` is null where there is none.
    pub fn request(&self, client: &str, call: &Call, body: Value) -> Result<(u16, Object), Refusal> {
        let answer = self.shared.state.lock().serve(client, call, body);
        self.publish();
        answer
    }

    /// Forgets all versions up to this one, or all there are: watches and continued lists from there get a 410.
    pub fn compact(&self, version: Option<u64>) {
        let mut state = self.shared.state.lock();
        let version = version.unwrap_or(state.version());
        state.compact(version);
    }

    /// Wakes the watches after a change.
    fn publish(&self) {
        self.shared.news.notify_waiters();
    }
}
