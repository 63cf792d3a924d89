//! Reads for people who want to know what is wrong: a container's log, the Events about an object. Both are bounded, and nothing
//! is decided by them.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::params::ListParams;
use kube::core::subresource::LogParams;
use serde::Deserialize;

use crate::request::{self, Page, Repeat};
use crate::write::{WriteError, collection};

/// Which part of a container's log is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The container's name.
    pub container: String,
    /// Only what was written within the last so many seconds.
    pub since_seconds: u32,
    /// Only so many of the last lines.
    pub tail_lines: u32,
    /// Of those only so many bytes, from the first on.
    pub most_bytes: u32,
}

/// What a container has written; nothing where there is no such pod.
pub async fn log(
    client: &kube::Client,
    namespace: &str,
    pod: &str,
    query: &LogQuery,
) -> Result<Option<Bytes>, WriteError> {
    let params = LogParams {
        container: Some(query.container.clone()),
        since_seconds: Some(query.since_seconds.into()),
        tail_lines: Some(query.tail_lines.into()),
        limit_bytes: Some(query.most_bytes.into()),
        ..LogParams::default()
    };
    match request::send(client, collection::<Pod>(namespace).logs(pod, &params), Repeat::Client).await {
        Ok(log) => Ok(Some(log)),
        Err(WriteError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One Event, in the words of whoever wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimEvent {
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// One word.
    pub reason: Option<String>,
    /// A sentence.
    pub message: Option<String>,
    /// What it is about.
    pub involved_object: Involved,
    count: Option<u32>,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
}

/// The object that an Event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Involved {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    count: Option<u32>,
    last_observed_time: Option<Timestamp>,
}

impl SlimEvent {
    /// When it was seen last.
    pub fn last(&self) -> Option<Timestamp> {
        let series = self.series.as_ref().and_then(|series| series.last_observed_time);
        series.or(self.last_timestamp).or(self.event_time)
    }

    /// How often it was seen.
    pub fn count(&self) -> u32 {
        self.series.as_ref().and_then(|series| series.count).or(self.count).unwrap_or(1)
    }
}

/// The Events about objects of this name, of any kind, in no order; so many at most. One that cannot be read is left out.
pub async fn events(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    most: u32,
) -> Result<Vec<SlimEvent>, WriteError> {
    let params = ListParams::default().fields(&format!("involvedObject.name={name}")).limit(most);
    let body = request::send(client, collection::<Event>(namespace).list(&params), Repeat::Client).await?;
    let page: Page<'_> = request::decode(&body, "list of events")?;
    let items = page.items.unwrap_or_default();
    Ok(items.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect())
}
