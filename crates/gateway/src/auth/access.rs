//! What the key of a request allows.

use std::collections::BTreeSet;
use std::sync::Arc;

use paddock_api::Session;
use paddock_api::http::agent_name;
use paddock_runnerapi::TerminalToken;

use super::scoped::ScopedKey;

/// What a scoped key allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The agents it may see and use, with their sessions; all where there are none named.
    pub agents: Option<BTreeSet<String>>,
    /// Whether it may only read.
    pub read_only: bool,
}

/// Whose request it is, and so what it may do. Routes that list or make something look at it; that a request names only
/// what its key may see is checked before, for every route (`routes::access`).
#[derive(Clone, Debug)]
pub enum Access {
    /// The master key's: everything.
    Master,
    /// A scoped key's: what its rights say.
    Scoped(Arc<ScopedKey>),
    /// Of one who was given a token for a session's terminal: what the key that it was given to may do, with that session.
    Lent {
        /// The key's.
        by: Box<Access>,
        /// UID of the session.
        session_uid: String,
    },
}

impl Access {
    /// The name of the key, never its value.
    pub fn name(&self) -> &str {
        match self {
            Self::Master => "master",
            Self::Scoped(key) => key.name(),
            Self::Lent { by, .. } => by.name(),
        }
    }

    /// Whether it may only read.
    pub fn read_only(&self) -> bool {
        match self {
            Self::Master => false,
            Self::Scoped(key) => key.rights().read_only,
            Self::Lent { by, .. } => by.read_only(),
        }
    }

    /// Whether it is for a session with another UID only.
    pub fn is_lent_for_another(&self, session: &Session) -> bool {
        match self {
            Self::Lent { session_uid, .. } => session.metadata.uid.as_ref() != Some(session_uid),
            Self::Master | Self::Scoped(_) => false,
        }
    }

    /// Whether it is for one session only.
    pub fn is_lent(&self) -> bool {
        matches!(self, Self::Lent { .. })
    }

    /// What may be given away to attach to `session` with; nothing for whoever may not.
    pub fn lends(&self, session: &Session) -> Option<TerminalToken> {
        let key = match self {
            Self::Scoped(key) if !key.rights().read_only => Some(key.name().to_owned()),
            Self::Master => None,
            Self::Scoped(_) | Self::Lent { .. } => return None,
        };
        Some(TerminalToken { session_uid: session.metadata.uid.clone()?, key })
    }

    /// Whether it is for certain agents only.
    pub fn bound(&self) -> bool {
        self.agents().is_some()
    }

    /// Whether it sees the agent of this name.
    pub fn sees_agent(&self, name: &str) -> bool {
        self.agents().is_none_or(|agents| agents.contains(name))
    }

    /// Whether it sees `session`. One that was made without an Agent object belongs to none, and is seen by keys for all
    /// agents only.
    pub fn sees(&self, session: &Session) -> bool {
        self.agents().is_none_or(|agents| agent_name(session).is_some_and(|agent| agents.contains(agent)))
    }

    fn agents(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Master => None,
            Self::Scoped(key) => key.rights().agents.as_ref(),
            Self::Lent { by, .. } => by.agents(),
        }
    }
}
