//! Watches: what changes, from a version on.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::Tap;
use super::meta;
use super::record::Change;
use super::refusal::Refusal;
use super::request::Call;
use super::selector::Selector;
use super::state::State;
use super::{ApiServer, Object};

/// How long a watch lives that asks for no time.
const LONGEST: Duration = Duration::from_secs(1800);
/// A bookmark comes this long before the end.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// The connection of a watch broke.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("connection reset by peer")]
pub(super) struct Reset;

/// One watch.
pub(super) struct Watch {
    server: ApiServer,
    client: String,
    call: Call,
    selector: Selector,
    /// Everything up to this version has been told.
    version: u64,
    /// Objects to be told first, for a watch that does not say where it begins.
    first: std::vec::IntoIter<Object>,
    end: Instant,
    bookmark_at: Instant,
    /// Nothing is told before.
    held_until: Option<Instant>,
    over: bool,
}

impl Watch {
    pub(super) fn open(server: &ApiServer, client: &str, call: &Call) -> Result<Self, Refusal> {
        let selector = Selector::parse(&call.query.label_selector, &call.query.field_selector)?;
        let state = server.shared.state.lock();
        let asked = match call.query.resource_version.as_str() {
            "" | "0" => None,
            text => Some(text.parse::<u64>().map_err(|_| Refusal::bad_request("invalid resource version"))?),
        };
        let mut first = Vec::new();
        if asked.is_none() {
            first.extend(state.table(call.index).values().filter(|object| within(call, object)).cloned());
            first.retain(|object| selector.matches(object));
        }
        let lives = call.query.timeout_seconds.map_or(LONGEST, |seconds| Duration::from_secs(seconds.into()));
        let now = Instant::now();
        let end = now + lives;
        Ok(Self {
            client: client.to_owned(),
            call: call.clone(),
            selector,
            version: asked.unwrap_or(state.version()),
            first: first.into_iter(),
            end,
            bookmark_at: (now + BOOKMARK_EVERY).min(end - BOOKMARK_BEFORE_END.min(lives)),
            held_until: None,
            over: false,
            server: server.clone(),
        })
    }

    /// The next piece of the body; none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Reset>> {
        if self.over {
            return None;
        }
        if let Some(object) = self.first.next() {
            return Some(Ok(line("ADDED", &object)));
        }
        let server = self.server.clone();
        loop {
            // Waits from here on, so that no change slips through between the look and the wait.
            let news = server.shared.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(until) = self.held_until {
                if Instant::now() < until {
                    sleep_until(until.min(self.end)).await;
                    if until > self.end {
                        return None;
                    }
                }
                self.held_until = None;
                if let Some(events) = self.take(usize::MAX, false) {
                    return Some(Ok(events));
                }
            }
            if self.is_expired() {
                self.over = true;
                return Some(Ok(self.expired()));
            }
            let waiting = self.waiting();
            if waiting > 0 {
                let tap = self.server.shared.policy.lock().tap(&self.client, &self.call, waiting);
                match tap {
                    Tap::Deliver => {
                        if let Some(events) = self.take(1, false) {
                            return Some(Ok(events));
                        }
                    }
                    Tap::Coalesce => {
                        if let Some(events) = self.take(usize::MAX, true) {
                            return Some(Ok(events));
                        }
                    }
                    Tap::Delay(pause) => self.held_until = Some(Instant::now() + pause),
                    Tap::Cut => {
                        self.over = true;
                        return Some(Err(Reset));
                    }
                    Tap::Freeze(time) => {
                        sleep(time).await;
                        self.over = true;
                        return Some(Err(Reset));
                    }
                    Tap::Expire => {
                        self.over = true;
                        return Some(Ok(self.expired()));
                    }
                }
                continue;
            }
            // Versions that do not concern this watch need not be looked at again.
            let quiet_at = if self.call.query.bookmarks { self.bookmark_at } else { self.end };
            tokio::select! {
                biased;
                () = news => {}
                () = sleep_until(quiet_at.min(self.end)) => {
                    if Instant::now() >= self.end {
                        return None;
                    }
                    self.bookmark_at += BOOKMARK_EVERY;
                    return Some(Ok(self.bookmark()));
                }
            }
        }
    }

    fn is_expired(&self) -> bool {
        let state = self.server.shared.state.lock();
        self.version < state.compacted
    }

    fn expired(&self) -> Bytes {
        let oldest = self.server.shared.state.lock().compacted;
        line("ERROR", &Refusal::expired(self.version, oldest + 1).status())
    }

    fn bookmark(&self) -> Bytes {
        let version = self.version.to_string();
        let object = json!({
            "kind": self.call.kind.kind, "apiVersion": self.call.kind.api_version(),
            "metadata": {"resourceVersion": version, "creationTimestamp": null},
        });
        line("BOOKMARK", &object)
    }

    /// How many events are to be told. Goes on over those that are not.
    fn waiting(&mut self) -> usize {
        let state = self.server.shared.state.lock();
        let count = later(&state, self.version).filter(|change| self.event(change).is_some()).count();
        if count == 0 {
            self.version = self.version.max(state.version());
        }
        count
    }

    /// Up to `most` events, as lines; with `coalesce`, only the last state of each object.
    fn take(&mut self, most: usize, coalesce: bool) -> Option<Bytes> {
        let state = self.server.shared.state.lock();
        let mut told: Vec<(&'static str, Object, u64)> = Vec::new();
        let mut version = self.version;
        for change in later(&state, self.version) {
            if told.len() >= most {
                break;
            }
            version = change.version;
            let Some((kind, object)) = self.event(change) else { continue };
            let earlier = told
                .iter()
                .position(|(_, known, _)| coalesce && meta::text(known, "uid") == meta::text(&object, "uid"));
            let known = earlier.map(|at| told.remove(at).0);
            match (known, kind) {
                // It came and went unseen.
                (Some("ADDED"), "DELETED") => {}
                (Some("ADDED"), _) => told.push(("ADDED", object, change.version)),
                _ => told.push((kind, object, change.version)),
            }
        }
        drop(state);
        self.version = version;
        let mut lines = BytesMut::new();
        for (kind, object, version) in told {
            let version = version.to_string();
            if meta::text(&object, "resourceVersion") == version {
                lines.put(line(kind, &object));
            } else {
                // An object that has left the selection is told as it was, with the version of the change.
                let mut last = Value::clone(&object);
                last["metadata"]["resourceVersion"] = version.into();
                lines.put(line(kind, &last));
            }
        }
        (!lines.is_empty()).then(|| lines.freeze())
    }

    /// What this watch tells of a change. An object that leaves the selection is told as deleted, with its last state
    /// within it.
    fn event(&self, change: &Change) -> Option<(&'static str, Object)> {
        if !std::sync::Arc::ptr_eq(&change.kind, &self.call.kind) || !within(&self.call, &change.after) {
            return None;
        }
        let was = change.before.as_ref().is_some_and(|before| self.selector.matches(before));
        let is = !change.gone && self.selector.matches(&change.after);
        match (was, is) {
            (false, true) => Some(("ADDED", change.after.clone())),
            (true, true) => Some(("MODIFIED", change.after.clone())),
            (true, false) if change.gone => Some(("DELETED", change.after.clone())),
            (true, false) => change.before.clone().map(|before| ("DELETED", before)),
            (false, false) => None,
        }
    }
}

/// Changes after `version`.
fn later(state: &State, version: u64) -> impl Iterator<Item = &Change> {
    let from = state.log.partition_point(|at| state.history[*at].version <= version);
    state.log.range(from..).map(|at| &state.history[*at])
}

fn within(call: &Call, object: &Value) -> bool {
    (call.namespace.is_empty() || meta::text(object, "namespace") == call.namespace)
        && (call.name.is_empty() || meta::text(object, "name") == call.name)
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}
