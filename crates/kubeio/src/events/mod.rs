//! Kubernetes Events: what `kubectl describe` shows of what was done to an object, and why.
//!
//! Best effort by design. Publishing never waits and never fails: events go through a bounded queue to a task of their
//! own, at a bounded rate, and what does not fit is dropped and counted. An event that repeats becomes a series with a
//! count, written at most every 30 s. Nothing may depend on an event, and no secret may be put into one.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::write::{self, Precondition, WriteError};

const QUEUE: usize = 256;
/// Events that are remembered so that their repetition is recognised.
const REMEMBERED: usize = 512;
/// A repetition after a longer pause is a new event.
const SERIES_WINDOW: Duration = Duration::from_secs(6 * 60);
/// The least time between two writes of the same series.
const SERIES_PAUSE: Duration = Duration::from_secs(30);
const BURST: f64 = 50.0;
const PER_SECOND: f64 = 2.0;
/// Limits of the events API.
const LONGEST_NOTE: usize = 1024;
const LONGEST_NAME: usize = 253;

/// What an event means for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All is as it should be.
    Normal,
    /// Somebody may have to act.
    Warning,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Publishes events; clones share the queue. The task ends with the last clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: Option<mpsc::Sender<Occurrence>>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Occurrence {
    about: ObjectReference,
    kind: Kind,
    reason: &'static str,
    message: String,
}

impl Recorder {
    /// Starts the recorder's task; must be called within tokio. `component` is for example `paddock-controller`,
    /// `instance` the name of its pod.
    pub fn new(client: kube::Client, component: &str, instance: &str) -> Self {
        Self::with_clock(client, component, instance, Clock::system())
    }

    /// The same with times of `clock` in the events.
    pub fn with_clock(client: kube::Client, component: &str, instance: &str, clock: Clock) -> Self {
        let (queue, occurrences) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let scribe = Scribe {
            client,
            clock,
            component: component.to_owned(),
            instance: instance.to_owned(),
            dropped: Arc::clone(&dropped),
            series: HashMap::new(),
            allowance: Allowance { left: BURST, at: Instant::now() },
        };
        tokio::spawn(scribe.run(occurrences));
        Self { queue: Some(queue), dropped }
    }

    /// Records nothing.
    pub fn disabled() -> Self {
        Self { queue: None, dropped: Arc::new(AtomicU64::new(0)) }
    }

    /// Queues an event. `reason` is one CamelCase word out of a bounded set, `message` a sentence for people.
    pub fn publish(&self, about: ObjectReference, kind: Kind, reason: &'static str, message: String) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(Occurrence { about, kind, reason, message }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were not written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What makes two occurrences the same event. The message is left out: it may hold changing numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    kind: Kind,
    reason: &'static str,
}

/// An event that was written.
#[derive(Clone, Debug)]
struct Series {
    namespace: String,
    name: String,
    uid: String,
    note: String,
    count: i32,
    seen: Instant,
    written: Instant,
}

struct Scribe {
    client: kube::Client,
    clock: Clock,
    component: String,
    instance: String,
    dropped: Arc<AtomicU64>,
    series: HashMap<Key, Series>,
    allowance: Allowance,
}

impl Scribe {
    async fn run(mut self, mut occurrences: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = occurrences.recv().await {
            let about = occurrence.about.name.clone().unwrap_or_default();
            let reason = occurrence.reason;
            if let Err(error) = self.record(occurrence).await {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(object = about, event = reason, reason = error.reason(), %error, "event not written");
            }
        }
    }

    async fn record(&mut self, occurrence: Occurrence) -> Result<(), WriteError> {
        let now = Instant::now();
        let key = Key {
            uid: occurrence.about.uid.clone().unwrap_or_default(),
            kind: occurrence.kind,
            reason: occurrence.reason,
        };
        if let Some(series) = self.series.get_mut(&key)
            && now.duration_since(series.seen) < SERIES_WINDOW
        {
            series.seen = now;
            series.count = series.count.saturating_add(1);
            if now.duration_since(series.written) < SERIES_PAUSE {
                return Ok(());
            }
            series.written = now;
            self.allowance.spend(now)?;
            let series = series.clone();
            // What an event says cannot be changed: other words are another event.
            if series.note == shortened(&occurrence.message, LONGEST_NOTE) {
                match self.extend(&series).await {
                    // The server forgets events after an hour.
                    Err(WriteError::NotFound | WriteError::Conflict) => {}
                    outcome => return outcome,
                }
            }
        } else {
            self.allowance.spend(now)?;
        }
        let written = self.begin(&occurrence, now).await?;
        self.forget_some(now);
        self.series.insert(key, written);
        Ok(())
    }

    async fn begin(&self, occurrence: &Occurrence, now: Instant) -> Result<Series, WriteError> {
        let about = &occurrence.about;
        // Events about objects without a namespace are kept in this one.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let time = self.clock.now();
        let suffix = format!(".{:x}", time.as_nanosecond());
        let subject = shortened(about.name.as_deref().unwrap_or("unnamed"), LONGEST_NAME - suffix.len());
        let name = format!("{subject}{suffix}");
        let note = shortened(&occurrence.message, LONGEST_NOTE).to_owned();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(time)),
            regarding: Some(about.clone()),
            type_: Some(occurrence.kind.as_str().to_owned()),
            reason: Some(occurrence.reason.to_owned()),
            // The events API asks for the action apart from the reason; Paddock's reasons name the action.
            action: Some(occurrence.reason.to_owned()),
            note: Some(note.clone()),
            reporting_controller: Some(self.component.clone()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        let written = write::create(&self.client, &namespace, &event).await?;
        Ok(Series { namespace, name, uid: written.uid, note, count: 1, seen: now, written: now })
    }

    async fn extend(&self, series: &Series) -> Result<(), WriteError> {
        let patch = json!({"series": {
            "count": series.count,
            "lastObservedTime": MicroTime(self.clock.now()),
        }});
        let precondition = Precondition { uid: series.uid.clone(), resource_version: None };
        write::merge_patch::<Event>(&self.client, &series.namespace, &series.name, precondition, patch)
            .await
            .map(drop)
    }

    /// Makes room for one more.
    fn forget_some(&mut self, now: Instant) {
        if self.series.len() < REMEMBERED {
            return;
        }
        self.series.retain(|_, series| now.duration_since(series.seen) < SERIES_WINDOW);
        while self.series.len() >= REMEMBERED {
            let oldest = self.series.iter().min_by_key(|(_, series)| series.seen).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.series.remove(&oldest);
        }
    }
}

/// How many writes are allowed now.
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn spend(&mut self, now: Instant) -> Result<(), WriteError> {
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * PER_SECOND).min(BURST);
        self.at = now;
        if self.left < 1.0 {
            return Err(WriteError::Throttled { retry_after: None });
        }
        self.left -= 1.0;
        Ok(())
    }
}

/// The longest beginning that is at most `limit` bytes.
fn shortened(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
