//! The session that a pod serves: its turns, its terminal, or both.

use std::sync::Arc;

use paddock_runnerapi::{
    ActivateResponse, Activity, ErrorBody, ErrorCode, Position, QuiesceRequest, TranscriptPage,
};

use crate::events::Hub;
use crate::terminal::Terminal;
use crate::turns::{Activation, Engine};

/// The session.
pub struct Bound {
    /// What it was activated with.
    pub activation: Activation,
    /// The answer to that.
    pub response: ActivateResponse,
    /// Its turns, where its harness answers messages.
    pub turns: Option<Turns>,
    /// Its terminal, where its harness has one.
    pub terminal: Option<Arc<Terminal>>,
}

/// What a session has whose harness answers messages.
pub struct Turns {
    /// The turns.
    pub engine: Engine,
    /// What happens, for those who follow it.
    pub events: Arc<Hub>,
}

impl Bound {
    /// UID of the session.
    pub fn session_uid(&self) -> &str {
        &self.activation.request.session.uid
    }

    /// Its turns.
    ///
    /// # Errors
    /// `terminal_only`: its harness has none.
    pub fn turns(&self) -> Result<&Turns, ErrorBody> {
        self.turns.as_ref().ok_or_else(terminal_only)
    }

    /// Its terminal.
    ///
    /// # Errors
    /// `no_terminal`: its harness has none.
    pub fn terminal(&self) -> Result<&Arc<Terminal>, ErrorBody> {
        self.terminal.as_ref().ok_or_else(no_terminal)
    }

    /// How busy it is. Asking does not make it so.
    ///
    /// # Errors
    /// Its harness has neither messages nor a terminal.
    pub async fn activity(&self) -> Result<Activity, ErrorBody> {
        match &self.turns {
            // Terminal and turns share their meter.
            Some(turns) => Ok(turns.engine.activity().await),
            None => Ok(self.terminal()?.activity()),
        }
    }

    /// What was said in it after a place in the journal, or where that ends. To a terminal nothing is said.
    ///
    /// # Errors
    /// `bad_request` where there is no such place; `journal_failed`.
    pub async fn transcript(&self, after: Option<u64>) -> Result<TranscriptPage, ErrorBody> {
        let Some(Turns { engine, .. }) = &self.turns else {
            let Position { journal, seq } = Position::default();
            return Ok(TranscriptPage { journal, entries: Vec::new(), through: seq, end: seq });
        };
        engine.transcript(after.unwrap_or_else(|| engine.position().seq)).await
    }

    /// Brings it to rest, if it is as idle as was asked for.
    ///
    /// # Errors
    /// `busy`, `journal_failed`: nothing has changed.
    pub async fn quiesce(&self, request: QuiesceRequest) -> Result<Activity, ErrorBody> {
        match &self.turns {
            Some(turns) => turns.engine.quiesce(request).await,
            None => self.terminal()?.quiesce(request),
        }
    }

    /// Ends its turns and its terminal, because the pod ends.
    pub async fn stop(&self, why: &'static str) {
        if let Some(turns) = &self.turns {
            turns.engine.stop(why).await;
            turns.events.close();
        }
        if let Some(terminal) = &self.terminal {
            terminal.close(why).await;
        }
    }
}

fn terminal_only() -> ErrorBody {
    let text = "asking for the session's messages: its harness is a terminal program and takes none; attach to its terminal";
    ErrorBody { code: ErrorCode::TerminalOnly, error: text.to_owned() }
}

fn no_terminal() -> ErrorBody {
    let text = "attaching: the session's harness has no terminal; send it messages";
    ErrorBody { code: ErrorCode::NoTerminal, error: text.to_owned() }
}
