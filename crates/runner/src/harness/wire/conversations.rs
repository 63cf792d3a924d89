//! What is said of conversations.

use std::collections::HashMap;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use super::client::Client;
use crate::harness::{HarnessError, reply};

/// How many messages of the history are read to find a reply.
pub(in crate::harness) const HISTORY: usize = 100;

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "type")]
    kind: String,
}

impl Client {
    /// The last messages, so many or all, in their order.
    pub(in crate::harness) async fn read_history(
        &self,
        conversation: &str,
        last: Option<usize>,
    ) -> Result<Bytes, HarnessError> {
        let limit = last.map(|last| format!("?limit={last}")).unwrap_or_default();
        let path = format!("/session/{conversation}/message{limit}");
        self.call("read the conversation", Method::GET, &path, None).await
    }

    /// The finished reply to a message.
    pub(in crate::harness) async fn find_reply(
        &self,
        conversation: &str,
        message: &str,
    ) -> Result<Option<Bytes>, HarnessError> {
        let history = self.read_history(conversation, Some(HISTORY)).await?;
        Ok(reply::find_finished(&history, message))
    }

    /// Which conversations are at work. Those of its own helpers are listed too; one that is idle may be missing.
    pub(in crate::harness) async fn at_work(&self) -> Result<Vec<String>, HarnessError> {
        let attempt = "tell whether it works";
        let status: HashMap<String, Status> = self.ask(attempt, Method::GET, "/session/status", None).await?;
        Ok(status.into_iter().filter(|(_, status)| status.kind != "idle").map(|(id, _)| id).collect())
    }

    /// Has a conversation stop what it does.
    pub(in crate::harness) async fn stop(&self, conversation: &str) -> Result<(), HarnessError> {
        let path = format!("/session/{conversation}/abort");
        self.call("abort the turn", Method::POST, &path, None).await.map(drop)
    }
}
