//! The rules that a session lives by, as far as the index tells them.

use paddock_api::Session;
use paddock_api::agent::Lifecycle;
use paddock_api::http::agent_name;

use crate::gateway::Gateway;

/// The rules of `session`, where its agent is known.
pub fn known(gateway: &Gateway, session: &Session) -> Option<Lifecycle> {
    let saved = agent_name(session).and_then(|name| gateway.index.agent(name));
    session.lifecycle(saved.as_deref().map(|agent| &agent.spec))
}

/// The rules of `session`; where its agent is not known, its own and what holds where nobody says anything.
pub fn of(gateway: &Gateway, session: &Session) -> Lifecycle {
    known(gateway, session).unwrap_or_else(|| session.spec.lifecycle.clone())
}
