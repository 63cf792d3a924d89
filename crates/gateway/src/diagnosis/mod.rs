//! What is known about one session, gathered for a person who wants to know why it does not do as it should.
//!
//! `reading` asks everybody who knows something, side by side and not for long; what cannot be read is said in its place. `issues`
//! finds what is wrong in what was read, and decides nothing else. `view` has the fields that are shown, which `show` fills: never a
//! pod's spec, an environment, a prompt or a message.

pub mod issues;
pub mod reading;
pub mod show;
pub mod view;

use paddock_api::{Agent, Sandbox, SandboxWarmPool, Session};
use paddock_kubeio::look::SlimEvent;
use paddock_kubeio::slim::SlimPod;

/// What came of looking at one part.
#[derive(Clone, Debug, PartialEq)]
pub enum Part<T> {
    /// Nothing names it.
    Unnamed,
    /// Nothing of this name exists.
    Missing(String),
    /// This is it.
    Found(T),
    /// It could not be read; why.
    Unread(String),
}

impl<T> Part<T> {
    /// What was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Unnamed | Self::Missing(_) | Self::Unread(_) => None,
        }
    }
}

/// What the runner said to a question that only the session's own can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It serves the session.
    Serves {
        /// How long its answer took, in milliseconds.
        took_ms: u64,
    },
    /// Something answers, and does not serve the session; what it said.
    Refuses(String),
    /// Nothing answers; why.
    Silent(String),
}

/// All that was read.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The session.
    pub session: Session,
    /// The Agent that it names.
    pub agent: Part<Agent>,
    /// The pod of its Sandbox.
    pub pod: Part<SlimPod>,
    /// Its Sandbox.
    pub sandbox: Part<Sandbox>,
    /// The pool that its agent names, or that serves agents which name none.
    pub pool: Part<SandboxWarmPool>,
    /// What happened to session, Sandbox and pod, the latest first.
    pub events: Part<Vec<SlimEvent>>,
    /// Whether its runner answers.
    pub probe: Part<Probe>,
}
