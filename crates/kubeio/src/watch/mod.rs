//! Watches that survive anything.
//!
//! [`run`] lists a kind, follows its changes, and starts over where it must, for ever. Every watch has its own task and
//! its own backoff, so trouble with one kind does not delay another. A watch is ended from both sides after 30 to 40 s,
//! which is how a connection that is open at this end only is found out; an object that cannot be decoded is counted and
//! passed over. A watch never decides what an event means.
//!
//! ```text
//!            ┌────────────── 410, undecodable deletion ─────────────┐
//!            ▼                                                      │
//!   list ──► Synced ──► follow ──► Applied / Deleted, bookmarks ────┤
//!    ▲  fails │            ▲                                        │
//!    └─ wait ─┘            └── at once after a full watch, else wait ┘
//! ```

mod fetch;
mod frames;
mod freshness;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::time::Duration;

use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

pub use self::freshness::Freshness;

use self::fetch::Fetcher;
use self::frames::{Frame, Lines};
use crate::backoff::{Backoff, spread};
use crate::write::WriteError;

const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Below 5 s, so that a server that came back is noticed within 5 s.
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// Lists that follow a 410 have their own, shorter scale: the server has just answered, and data is stale until then.
const LONGEST_RELIST_DELAY: Duration = Duration::from_secs(2);
/// The longest Retry-After that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// A watch that lived this long proves that all is well again.
const HEALTHY: Duration = Duration::from_secs(5);
/// For how long the server is asked to keep a watch open: this, and up to the spread more.
const SHORTEST_WINDOW: Duration = Duration::from_secs(30);
const WINDOW_SPREAD: Duration = Duration::from_secs(10);
/// How much later than asked the server may end a watch.
const LATENESS: Duration = Duration::from_secs(5);

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<K> {
    /// Replaces everything known of this kind.
    Synced(Vec<K>),
    /// An object was created or changed.
    Applied(K),
    /// An object is gone; this is its last state.
    Deleted(K),
}

/// What a sink returns that wants no more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// What a sink may return: nothing, or whether it wants to go on.
pub trait Answer {
    /// Whether the watch goes on.
    fn proceed(self) -> Result<(), Closed>;
}

impl Answer for () {
    fn proceed(self) -> Result<(), Closed> {
        Ok(())
    }
}

impl Answer for Result<(), Closed> {
    fn proceed(self) -> Result<(), Closed> {
        self
    }
}

/// Which part of the cluster is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    Cluster,
    /// One namespace.
    Namespace(String),
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Where.
    pub scope: Scope,
    /// In the syntax of `kubectl --selector`.
    pub label_selector: Option<String>,
    /// In the syntax of `kubectl --field-selector`.
    pub field_selector: Option<String>,
}

/// Follows a kind, and calls `sink` with every event in order. Ends only if the sink answers `Err(Closed)`.
///
/// Call it as `run::<Session, _>(client, options, freshness, |event| ...)`, in a task of its own.
pub async fn run<K, R>(
    client: kube::Client,
    options: WatchOptions,
    freshness: Freshness,
    sink: impl FnMut(Event<K>) -> R + Send,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    R: Answer,
{
    let kind = K::kind(&()).into_owned();
    let fetcher = Fetcher::<K>::new(client, options);
    let mut watch = Watch { fetcher, kind, freshness, sink };
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    let mut relists = Backoff::new(FIRST_DELAY, LONGEST_RELIST_DELAY);
    let mut version = None;
    loop {
        let begun = Instant::now();
        let Err(stop) = watch.advance(&mut version).await else {
            backoff.reset();
            continue;
        };
        let healthy = begun.elapsed() >= HEALTHY;
        if healthy {
            relists.reset();
            backoff.reset();
        }
        let wait = match &stop {
            Stop::Closed => return,
            Stop::Lapsed if healthy => continue,
            Stop::Lapsed => backoff.next(),
            Stop::Relist(_) => {
                version = None;
                relists.next()
            }
            Stop::Failed(WriteError::Throttled { retry_after: Some(wait) }) => {
                backoff.next().max((*wait).min(LONGEST_RETRY_AFTER))
            }
            Stop::Failed(_) => backoff.next(),
        };
        watch.report(&stop, wait);
        sleep(wait).await;
    }
}

/// Why a step of a watch ended.
#[derive(Debug)]
enum Stop {
    /// The server ended the watch, as it does after the time it was asked for.
    Lapsed,
    /// What is known cannot be carried on from; all has to be listed.
    Relist(&'static str),
    /// No answer, or a refusal.
    Failed(WriteError),
    /// The sink wants no more.
    Closed,
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected { status: 410, .. } => Self::Relist("Expired"),
            error => Self::Failed(error),
        }
    }
}

struct Watch<K, S> {
    fetcher: Fetcher<K>,
    kind: String,
    freshness: Freshness,
    sink: S,
}

impl<K, S, R> Watch<K, S>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
    S: FnMut(Event<K>) -> R,
    R: Answer,
{
    /// Lists if nothing is known, else follows. `version` is what is known so far.
    async fn advance(&mut self, version: &mut Option<String>) -> Result<(), Stop> {
        match version {
            None => {
                let listing = self.fetcher.list().await?;
                for (error, identity) in &listing.undecodable {
                    self.undecodable(error, &identity.metadata.namespace, &identity.metadata.name);
                }
                (self.sink)(Event::Synced(listing.objects)).proceed()?;
                self.freshness.mark_synced();
                *version = Some(listing.version);
                Ok(())
            }
            Some(version) => self.follow(version).await,
        }
    }

    async fn follow(&mut self, version: &mut String) -> Result<(), Stop> {
        let window = window();
        let deadline = Instant::now() + window + LATENESS;
        let mut lines = Lines::new(self.fetcher.watch(version, window).await?);
        self.freshness.touch();
        loop {
            let line = match timeout_at(deadline, lines.next()).await {
                Err(_) => return Err(failed("the watch stayed silent past its end; the connection is dead")),
                Ok(Err(error)) => return Err(failed(&error)),
                Ok(Ok(None)) => return Err(Stop::Lapsed),
                Ok(Ok(Some(line))) => line,
            };
            let frame =
                Frame::parse(&line).map_err(|error| failed(&format!("malformed watch event: {error}")))?;
            self.freshness.touch();
            let seen = self.deliver(frame)?;
            if !seen.is_empty() {
                *version = seen;
            }
        }
    }

    /// Hands an event on. Returns the version that is known with it.
    fn deliver(&mut self, frame: Frame<K>) -> Result<String, Stop> {
        let event = match frame {
            Frame::Applied(object) => Event::Applied(object),
            Frame::Deleted(object) => Event::Deleted(object),
            Frame::Bookmark(version) => return Ok(version),
            Frame::Undecodable { deletion, error, identity } => {
                self.undecodable(&error, &identity.metadata.namespace, &identity.metadata.name);
                // Passing over a deletion would keep its object for ever; a list tells what is left.
                return if deletion {
                    Err(Stop::Relist("UndecodableDeletion"))
                } else {
                    Ok(identity.metadata.resource_version)
                };
            }
            Frame::Unknown(kind) => {
                tracing::warn!(kind = self.kind, event = kind, "watch event of an unknown type passed over");
                return Ok(String::new());
            }
            Frame::Error(error) => return Err(error.into()),
        };
        let (Event::Applied(object) | Event::Deleted(object)) = &event else { return Ok(String::new()) };
        let version = object.meta().resource_version.clone().unwrap_or_default();
        (self.sink)(event).proceed()?;
        Ok(version)
    }

    fn undecodable(&self, error: &serde_json::Error, namespace: &str, name: &str) {
        self.freshness.count_undecodable();
        tracing::error!(
            kind = self.kind, namespace, name, %error,
            "object cannot be decoded and is passed over; correct it or remove it"
        );
    }

    fn report(&self, stop: &Stop, wait: Duration) {
        self.freshness.count_restart();
        match stop {
            Stop::Closed | Stop::Lapsed => {
                tracing::info!(kind = self.kind, ?wait, "watch ended early; resuming")
            }
            Stop::Relist(reason) => {
                tracing::info!(kind = self.kind, reason, ?wait, "watch lost its place; listing again")
            }
            Stop::Failed(error) => {
                self.freshness.count_error();
                tracing::warn!(
                    kind = self.kind, reason = error.reason(), %error, ?wait, stale_for = ?self.freshness.stale_for(),
                    "cannot watch; trying again"
                );
            }
        }
    }
}

/// Spread, so that the watches of a process do not all end together.
fn window() -> Duration {
    SHORTEST_WINDOW + spread(WINDOW_SPREAD)
}

fn failed(what: &str) -> Stop {
    Stop::Failed(WriteError::Unavailable(what.to_owned()))
}
