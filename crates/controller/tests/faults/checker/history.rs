//! Everything that was true in a namespace, revision by revision.
//!
//! All kinds share the API server's one counter of revisions, so the changes of several watches can be put into the
//! order in which they were made, whatever order they arrived in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    /// Its plural, as in paths.
    pub resource: &'static str,
    pub deleted: bool,
    pub object: Value,
    /// When the test heard of it.
    pub heard: Timestamp,
}

impl Change {
    pub fn name(&self) -> &str {
        meta(&self.object, "name")
    }

    pub fn uid(&self) -> &str {
        meta(&self.object, "uid")
    }
}

/// A string in an object's metadata.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

pub fn phase(session: &Value) -> &str {
    session["status"]["phase"].as_str().unwrap_or("Creating")
}

pub fn is_ready(session: &Value) -> bool {
    phase(session) == "Ready"
}

/// What its spec says that it shall be.
pub fn wanted_phase(session: &Value) -> &'static str {
    if session["spec"]["state"] == "Suspended" { "Suspended" } else { "Ready" }
}

/// It has ended for good, and is owed no pod any more.
pub fn is_final(session: &Value) -> bool {
    matches!(phase(session), "Failed" | "Dead")
}

/// Changes in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Change>);

impl History {
    pub fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by_key(|change| change.revision);
        Self(changes)
    }

    pub fn changes(&self) -> &[Change] {
        &self.0
    }

    /// Of one kind.
    pub fn of(&self, resource: &str) -> impl Iterator<Item = &Change> {
        self.0.iter().filter(move |change| change.resource == resource)
    }

    /// What there was of a kind just before `revision`, by UID.
    pub fn before(&self, resource: &str, revision: u64) -> BTreeMap<&str, &Value> {
        let mut there = BTreeMap::new();
        for change in self.of(resource).take_while(|change| change.revision < revision) {
            if change.deleted {
                there.remove(change.uid());
            } else {
                there.insert(change.uid(), &change.object);
            }
        }
        there
    }

    /// When the test heard that a session became Ready.
    pub fn ready_at(&self, session: &str) -> Option<Timestamp> {
        self.of("sessions").find(|c| c.name() == session && is_ready(&c.object)).map(|c| c.heard)
    }
}
