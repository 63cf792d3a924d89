//! Everything that happens to one kind in one namespace, without gaps.
//!
//! Independent of the watches under test. It resumes where it broke off; where that is not possible, as after a restart of
//! the API server, it says so.

use std::time::Duration;

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, ListParams, WatchParams};
use kube::core::{DynamicObject, WatchEvent};
use serde_json::Value;
use tokio::time::sleep;

const PAUSE: Duration = Duration::from_millis(50);

/// What was seen.
pub enum Seen {
    /// The object as it is from this revision of the whole cluster on.
    Changed(u64, Value),
    /// The object as it last was, gone since this revision.
    Deleted(u64, Value),
    /// All there is at this revision. What happened before is unknown, for it is the beginning, or the server no longer
    /// has it.
    Listed(u64, Vec<Value>),
}

/// Tells `sink` of every change, for ever.
pub async fn follow(api: Api<DynamicObject>, mut sink: impl FnMut(Seen)) {
    let mut version: Option<String> = None;
    loop {
        match &mut version {
            None => {
                let Ok(list) = api.list(&ListParams::default()).await else {
                    sleep(PAUSE).await;
                    continue;
                };
                let at = list.metadata.resource_version.unwrap_or_default();
                sink(Seen::Listed(at.parse().unwrap_or_default(), list.items.iter().map(json).collect()));
                version = Some(at);
            }
            Some(version_seen) => {
                if !watch(&api, version_seen, &mut sink).await {
                    version = None;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Follows until the watch ends. False if it cannot be resumed.
async fn watch(api: &Api<DynamicObject>, version: &mut String, sink: &mut impl FnMut(Seen)) -> bool {
    let params = WatchParams::default().timeout(60);
    let stream = match api.watch(&params, version).await {
        Ok(stream) => stream,
        Err(kube::Error::Api(status)) => return status.code != 410,
        Err(_) => return true,
    };
    let mut stream = std::pin::pin!(stream);
    while let Some(Ok(event)) = stream.next().await {
        let (object, deleted) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark(bookmark) => {
                version.clone_from(&bookmark.metadata.resource_version);
                continue;
            }
            WatchEvent::Error(status) => return status.code != 410,
        };
        *version = object.resource_version().unwrap_or_default();
        let (revision, object) = (revision(&object), json(&object));
        sink(if deleted { Seen::Deleted(revision, object) } else { Seen::Changed(revision, object) });
    }
    true
}

fn revision(object: &DynamicObject) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap()
}
