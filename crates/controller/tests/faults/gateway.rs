//! A gateway as far as controllers see it: it saves the transcripts that are asked for, and says so.

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use paddock_api::labels;
use paddock_runnerapi::Saved;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::checker::history::{is_ready, meta};
use crate::follow::{Seen, follow};

/// How long saving takes.
const SAVING: Duration = Duration::from_millis(50);

/// Works for ever.
pub async fn run(sessions: Api<DynamicObject>) {
    let (sender, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(follow(sessions.clone(), move |seen| {
        let _ = sender.send(seen);
    }));
    while let Some(seen) = seen.recv().await {
        let changed = match seen {
            Seen::Changed(_, session) => vec![session],
            Seen::Listed(_, sessions) => sessions,
            Seen::Deleted(..) => Vec::new(),
        };
        for session in changed {
            if let Some(saved) = wanted(&session) {
                sleep(SAVING).await;
                let patch =
                    Patch::Merge(json!({"metadata": {"annotations": {labels::TRANSCRIPT_SAVED: saved}}}));
                // The server may be away; the next change brings the session back here.
                let _ = sessions.patch(meta(&session, "name"), &PatchParams::default(), &patch).await;
            }
        }
    }
}

/// What is to be said of a session whose transcript is asked for.
fn wanted(session: &Value) -> Option<String> {
    let through = session["status"]["transcriptWanted"].as_str()?.parse().ok()?;
    let saved = Saved { pod_uid: session["status"]["pod"]["uid"].as_str()?.to_owned(), through }.to_string();
    let is_news = session["metadata"]["annotations"][labels::TRANSCRIPT_SAVED] != saved;
    (is_ready(session) && is_news).then_some(saved)
}
