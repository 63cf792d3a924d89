//! What is kept for those who check.

use std::sync::Arc;

use tokio::time::Instant;

use super::Object;
use super::kinds::Kind;
use super::request::{Part, Verb};

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version it made.
    pub version: u64,
    /// When.
    pub at: Instant,
    /// Whose request it was.
    pub by: Arc<str>,
    /// What was asked for; a PUT or PATCH that took the last finalizer off is the end of the object too.
    pub verb: Verb,
    /// Which part was written.
    pub part: Part,
    /// The kind.
    pub kind: Arc<Kind>,
    /// The object before; none if it is new.
    pub before: Option<Object>,
    /// The object with this version; if it is gone, its last state.
    pub after: Object,
    /// Whether it is gone.
    pub gone: bool,
}

impl Change {
    /// A text in the object's metadata.
    pub fn meta(&self, field: &str) -> &str {
        self.after["metadata"][field].as_str().unwrap_or_default()
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.meta("namespace"), self.meta("name"))
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it came.
    pub at: Instant,
    /// Who.
    pub by: Arc<str>,
    /// What was asked for.
    pub verb: Verb,
    /// Of which kind.
    pub kind: Arc<Kind>,
    /// Namespace and name, as far as they were given.
    pub key: (String, String),
    /// Main or status.
    pub part: Part,
    /// The status of the answer; none if the client got none.
    pub code: Option<u16>,
}
