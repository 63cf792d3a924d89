//! Questions that a harness asks in the middle of a turn.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use crate::harness::HarnessError;

/// How often a running turn is checked for a question that nobody will answer.
const QUESTION_CHECK: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Asked {
    id: String,
}

/// Everything is allowed by configuration, but a repository may bring its own: then nobody is there to
/// answer, and the turn would wait for ever. Never returns.
pub(in crate::harness) async fn refuse(client: &Client) {
    loop {
        tokio::time::sleep(QUESTION_CHECK).await;
        for (list, verb, answer) in
            [("permission", "reply", json!({"reply": "reject"})), ("question", "reject", json!({}))]
        {
            let asked = client.ask("list open questions", Method::GET, &format!("/{list}"), None).await;
            let asked: Vec<Asked> = match asked {
                Ok(asked) => asked,
                // Other servers than opencode have no such path, and no such questions.
                Err(HarnessError::Refused { status: 404, .. }) => continue,
                Err(error) => {
                    tracing::warn!(%error, "open questions cannot be read");
                    continue;
                }
            };
            for Asked { id } in asked {
                let path = format!("/{list}/{id}/{verb}");
                let done = client.call("refuse a question", Method::POST, &path, Some(&answer)).await;
                tracing::warn!(list, id, refused = done.is_ok(), "the harness asked and nobody can answer");
            }
        }
    }
}
