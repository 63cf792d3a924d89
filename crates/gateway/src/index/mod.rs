//! The session index: every Session and Agent of one namespace, in memory, fed by watches.
//!
//! The message path reads it instead of the API server. `store` holds the rules, without a clock; this module
//! adds the lock and lets readers wait for a change. Nothing is decided here about a session.

pub mod rules;
pub mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use paddock_api::{Agent, Session};
use paddock_kubeio::watch::Event;
use parking_lot::RwLock;
use tokio::sync::watch;

use store::{Effect, Store};

/// See the module.
#[derive(Debug)]
pub struct Index {
    sessions: RwLock<Store<Session>>,
    agents: RwLock<Store<Agent>>,
    changes: watch::Sender<u64>,
}

impl Default for Index {
    fn default() -> Self {
        Self { sessions: RwLock::default(), agents: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl Index {
    /// Takes an event of the Session watch.
    pub fn apply_session(&self, event: Event<Session>) {
        let effect = self.sessions.write().apply(event);
        self.tell(effect);
    }

    /// Takes an event of the Agent watch.
    pub fn apply_agent(&self, event: Event<Agent>) {
        let effect = self.agents.write().apply(event);
        self.tell(effect);
    }

    /// Takes a Session as the API server returned it to us.
    pub fn record_session(&self, session: Session) {
        let effect = self.sessions.write().record(session, Instant::now());
        self.tell(effect);
    }

    /// Takes the API server's word that there is no such Session.
    pub fn forget_session(&self, name: &str) {
        self.sessions.write().forget(name);
    }

    /// Takes an Agent as the API server stored it for us.
    pub fn record_agent(&self, agent: Agent) {
        let effect = self.agents.write().record(agent, Instant::now());
        self.tell(effect);
    }

    /// Takes it that the API server has deleted this Agent for us.
    pub fn record_agent_deletion(&self, agent: &Agent) {
        let effect = self.agents.write().record_deletion(agent, Instant::now());
        self.tell(effect);
    }

    /// Takes the API server's word that there is no such Agent.
    pub fn forget_agent(&self, name: &str) {
        self.agents.write().forget(name);
    }

    /// Whether both kinds have been listed completely.
    pub fn synced(&self) -> bool {
        self.sessions.read().synced() && self.agents.read().synced()
    }

    /// The newest known state of a Session.
    pub fn session(&self, name: &str) -> Option<Arc<Session>> {
        self.sessions.read().get(name, Instant::now())
    }

    /// Every Session, in no order, whoever asks: a route shows those that its `Ask::access` sees.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.read().all(Instant::now())
    }

    /// The newest known state of an Agent.
    pub fn agent(&self, name: &str) -> Option<Arc<Agent>> {
        self.agents.read().get(name, Instant::now())
    }

    /// Every Agent, in no order, whoever asks: a route shows those that its `Ask::access` sees.
    pub fn agents(&self) -> Vec<Arc<Agent>> {
        self.agents.read().all(Instant::now())
    }

    /// Waits until `enough` holds for a Session's newest known state, or until `deadline`; returns that state.
    pub async fn session_when(
        &self,
        name: &str,
        deadline: tokio::time::Instant,
        enough: impl Fn(Option<&Session>) -> bool,
    ) -> Option<Arc<Session>> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let session = self.session(name);
            if enough(session.as_deref()) {
                return session;
            }
            // The sender lives as long as `self`, so only the deadline can end the wait.
            if !matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return self.session(name);
            }
        }
    }

    /// Tells of changes, from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn tell(&self, effect: Effect) {
        if effect == Effect::Changed {
            self.changes.send_modify(|revision| *revision = revision.wrapping_add(1));
        }
    }
}
