//! Going on with a conversation that began in an earlier pod, whose volume this one does not have.
//!
//! The controller knows that there was one, and the transcript store has it: a gateway gives it to the pod when the first turn
//! comes. Until then no turn is taken, or the harness would answer without knowing what was said.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use paddock_runnerapi::{ConversationRequest, ErrorBody, ErrorCode};

use super::engine::{Engine, error};
use super::record::Record;
use crate::harness::{HarnessError, Passed};

impl Engine {
    /// The session's own conversation.
    pub fn conversation(&self) -> &str {
        &self.0.conversation
    }

    /// A client's own request to the harness, which begins no turn.
    ///
    /// # Errors
    /// The harness's.
    pub async fn pass(&self, request: Request<Bytes>) -> Result<Passed, HarnessError> {
        self.0.harness.pass(request).await
    }

    /// Gives the harness what was said in earlier pods. Does nothing where it is not waited for.
    ///
    /// # Errors
    /// `harness_failed`, `journal_failed`: it is still waited for.
    pub async fn go_on_with(&self, request: ConversationRequest) -> Result<(), ErrorBody> {
        let engine = self.clone();
        // A task: the gateway may be gone before it is done.
        let task = tokio::spawn(async move { engine.give(request).await });
        task.await.unwrap_or_else(|_| {
            Err(error(ErrorCode::ShuttingDown, "giving the conversation: the runner is stopping"))
        })
    }

    async fn give(&self, request: ConversationRequest) -> Result<(), ErrorBody> {
        let _turnstile = self.0.admission.lock().await;
        if self.has_conversation().is_ok() {
            return Ok(());
        }
        let count = request.messages.len();
        if count > 0 {
            self.0.harness.restore(&self.0.conversation, request.messages).await?;
        }
        self.0.journal.append(vec![Record::continued(count)]).await?;
        self.0.needs_conversation.store(false, Ordering::SeqCst);
        tracing::info!(messages = count, "the harness has the conversation of the session's earlier pods");
        Ok(())
    }

    /// Whether the harness knows what was said before.
    ///
    /// # Errors
    /// `needs_conversation`.
    pub fn has_conversation(&self) -> Result<(), ErrorBody> {
        if !self.0.needs_conversation.load(Ordering::SeqCst) {
            return Ok(());
        }
        let text = "asking the session: its pod is new and waits for the conversation of the ones before";
        Err(error(ErrorCode::NeedsConversation, text))
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
