//! How a turn ended.

use bytes::Bytes;
use paddock_runnerapi::{ErrorBody, ErrorCode, TurnState};

/// The end of a turn, the same for everyone who waits for it or asks later.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The harness replied, with this JSON document.
    Completed(Bytes),
    /// The harness failed or took too long.
    Failed(ErrorBody),
    /// Runner or harness died while it ran.
    Interrupted(ErrorBody),
}

impl Outcome {
    /// A turn whose end nobody saw.
    pub fn interrupted(how: &str) -> Self {
        let error = format!("running the turn: {how}; it may have had effects, send it again under a new id");
        Self::Interrupted(ErrorBody { code: ErrorCode::Interrupted, error })
    }

    /// The state to show.
    pub fn state(&self) -> TurnState {
        match self {
            Self::Completed(_) => TurnState::Completed,
            Self::Failed(_) => TurnState::Failed,
            Self::Interrupted(_) => TurnState::Interrupted,
        }
    }

    /// The reply, or why there is none.
    ///
    /// # Errors
    /// The error of a turn that did not complete.
    pub fn into_result(self) -> Result<Bytes, ErrorBody> {
        match self {
            Self::Completed(reply) => Ok(reply),
            Self::Failed(error) | Self::Interrupted(error) => Err(error),
        }
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Completed(reply) => reply.len(),
            Self::Failed(error) | Self::Interrupted(error) => error.error.len(),
        }
    }
}
