//! What the journal of earlier runs says about the session and its turns.

use std::collections::HashMap;

use paddock_runnerapi::TurnState;

use super::journal::Span;
use super::record::{Activation, Digest, Record};
use crate::harness::TurnNames;

/// A turn of an earlier run.
#[derive(Debug)]
pub struct RestoredTurn {
    /// Of its parts.
    pub digest: Digest,
    /// What the harness knows it by, where it was handed over.
    pub names: Option<TurnNames>,
    /// How it ended and where its outcome is, where it ended.
    pub ended: Option<(TurnState, Span)>,
}

/// The session's past, in this pod and in those before it.
#[derive(Debug, Default)]
pub struct Restored {
    /// Its latest binding.
    pub activation: Option<Activation>,
    /// The incarnation in which the journal began.
    pub began_in: Option<u32>,
    /// The journal's pod waits for the conversation of earlier ones.
    pub needs_conversation: bool,
    /// The turns by id.
    pub turns: HashMap<String, RestoredTurn>,
    /// Names of the turn that was handed over last: later names must sort after them.
    pub latest: Option<TurnNames>,
}

impl Restored {
    /// Takes the next line of the journal.
    pub fn see(&mut self, record: Record, span: Span) {
        match record {
            Record::Activated(activation) => {
                if self.began_in.is_none() {
                    self.began_in = Some(activation.request.incarnation);
                    self.needs_conversation = activation.request.continues;
                }
                self.activation = Some(*activation);
            }
            Record::Accepted { turn, digest, .. } => {
                self.turns.insert(turn, RestoredTurn { digest, names: None, ended: None });
            }
            Record::Started { turn, names, .. } => {
                self.latest = Some(names.clone());
                if let Some(known) = self.turns.get_mut(&turn) {
                    known.names = Some(names);
                }
            }
            Record::Continued { .. } => self.needs_conversation = false,
            Record::Messages { .. } => {}
            Record::Ended { turn, state, .. } => {
                if let Some(known) = self.turns.get_mut(&turn) {
                    known.ended = Some((state, span));
                }
            }
        }
    }
}
