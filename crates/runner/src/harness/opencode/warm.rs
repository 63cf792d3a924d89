//! Throwaway turns in the very folder that the task will use: what is slow the first time (catalogue, file
//! services, the compiler warming up) happens before a session waits for it. The model is the runner's own
//! stub, so a warm-up costs nothing and never leaves the pod.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::config::{MODEL, PROVIDER};
use crate::harness::HarnessError;
use crate::harness::wire::client::Client;
use crate::model_proxy::WARM_TOOL_PROMPT;

/// How many turns bring a fresh process to its speed (measured, shared notes).
pub(super) const FIRST: usize = 3;
/// How many keep it there.
pub(super) const AGAIN: usize = 1;

#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) id: String,
}

/// Runs so many turns in a conversation of their own and deletes it.
pub(super) async fn warm(client: &Client, turns: usize) -> Result<(), HarnessError> {
    let title = json!({"title": "warm-up"});
    let created: Created =
        client.ask("open a warm-up conversation", Method::POST, "/session", Some(&title)).await?;
    let path = format!("/session/{}/message", created.id);
    let message = json!({
        "model": {"providerID": PROVIDER, "modelID": MODEL},
        "system": "warm-up",
        "parts": [{"type": "text", "text": WARM_TOOL_PROMPT}],
    });
    for _ in 0..turns {
        client.call("run a warm-up turn", Method::POST, &path, Some(&message)).await?;
    }
    let path = format!("/session/{}", created.id);
    client.call("delete the warm-up conversation", Method::DELETE, &path, None).await?;
    Ok(())
}
