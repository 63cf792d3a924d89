//! What the key of a request allows.

use std::collections::BTreeSet;
use std::sync::Arc;

use paddock_api::Session;
use paddock_api::http::agent_name;

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
}

impl Access {
    /// The name of the key, never its value.
    pub fn name(&self) -> &str {
        match self {
            Self::Master => "master",
            Self::Scoped(key) => key.name(),
        }
    }

    /// Whether it may only read.
    pub fn read_only(&self) -> bool {
        match self {
            Self::Master => false,
            Self::Scoped(key) => key.rights().read_only,
        }
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
        }
    }
}
