//! Which object is decided on first.
//!
//! Sessions come before everything else, the oldest first: when several wait for the same pool, its members go
//! to them in the order in which they were made.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::engine::starting::Age;
use crate::engine::{Engine, Work};
use crate::ids::{Key, uid};

impl Engine {
    /// The most urgent object that must be decided on. `sessions` are those that were put in order already.
    pub(super) fn most_urgent(&mut self, sessions: &mut VecDeque<Work>) -> Option<Work> {
        if sessions.is_empty() && matches!(self.dirty.first(), Some(Work::Session(_))) {
            let first_other = Work::Sandbox(Key::new("", ""));
            let others = self.dirty.split_off(&first_other);
            let mut waiting: Vec<Work> = std::mem::replace(&mut self.dirty, others).into_iter().collect();
            waiting.sort_by_cached_key(|work| self.age(work));
            sessions.extend(waiting);
        }
        sessions.pop_front().or_else(|| self.dirty.pop_first())
    }

    pub(super) fn age(&self, work: &Work) -> Age {
        let session = match work {
            Work::Session(key) => self.store.sessions.get(key),
            _ => None,
        };
        let created = session.and_then(|s| s.metadata.creation_timestamp.as_ref()).map(|t| t.0);
        (created.unwrap_or(Timestamp::MAX), session.map(|s| uid(&s.metadata).to_owned()).unwrap_or_default())
    }
}
