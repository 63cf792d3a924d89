//! What the test itself sees of a namespace: its state now, and how it came to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::checker::history::{Change, History, is_ready, meta, phase, wanted_phase};
use crate::cluster::{CLAIM, Cluster, Kind, POD, POOL, SANDBOX, SESSION};
use crate::follow::{Seen, follow};

const RECORDED: [Kind; 5] = [SESSION, POOL, SANDBOX, POD, CLAIM];

/// Follows a namespace for as long as the test runs.
#[derive(Clone)]
pub struct Recorder {
    tape: Arc<Mutex<Tape>>,
    ticks: watch::Receiver<u64>,
}

#[derive(Default)]
struct Tape {
    changes: Vec<Change>,
    world: World,
    /// Lists seen: one of each kind to begin with, more after a gap.
    lists: usize,
}

/// The namespace as last heard of.
#[derive(Default)]
pub struct World(BTreeMap<&'static str, BTreeMap<String, Value>>);

impl World {
    pub fn all(&self, kind: &Kind) -> impl Iterator<Item = &Value> {
        self.0.get(kind.plural).into_iter().flat_map(BTreeMap::values)
    }

    pub fn get(&self, kind: &Kind, name: &str) -> Option<&Value> {
        self.0.get(kind.plural)?.get(name)
    }

    pub fn is_ready(&self, session: &str) -> bool {
        self.get(&SESSION, session).is_some_and(is_ready)
    }

    /// Whether the session is what its spec says that it shall be.
    pub fn is_as_wanted(&self, session: &str) -> bool {
        self.get(&SESSION, session).is_some_and(|session| phase(session) == wanted_phase(session))
    }
}

impl Recorder {
    pub fn start(cluster: &Cluster, namespace: &str) -> Self {
        let (sender, ticks) = watch::channel(0);
        let tape = Arc::new(Mutex::new(Tape::default()));
        for kind in RECORDED {
            let (tape, sender) = (tape.clone(), sender.clone());
            let api = cluster.api(&kind, namespace);
            tokio::spawn(follow(api, move |seen| {
                tape.lock().note(kind.plural, seen);
                sender.send_modify(|tick| *tick += 1);
            }));
        }
        Self { tape, ticks }
    }

    /// Waits for something to be true of the namespace; panics with `what` if it is not by `deadline`.
    pub async fn until<T>(&self, what: &str, deadline: Instant, test: impl Fn(&World) -> Option<T>) -> T {
        let mut ticks = self.ticks.clone();
        loop {
            ticks.mark_unchanged();
            if let Some(found) = test(&self.tape.lock().world) {
                return found;
            }
            if timeout_at(deadline, ticks.changed()).await.is_err() {
                panic!("not in time: {what}; {}", self.summary());
            }
        }
    }

    /// When the session was heard to be Ready; waits for it.
    pub async fn ready(&self, session: &str, within: Duration) -> Timestamp {
        let deadline = Instant::now() + within;
        self.until(&format!("{session} is Ready"), deadline, |world| world.is_ready(session).then_some(()))
            .await;
        self.history().ready_at(session).expect("it has just been heard of")
    }

    pub fn look<T>(&self, look: impl Fn(&World) -> T) -> T {
        look(&self.tape.lock().world)
    }

    pub fn history(&self) -> History {
        History::new(self.tape.lock().changes.clone())
    }

    /// How often something may have been missed.
    pub fn gaps(&self) -> usize {
        self.tape.lock().lists - RECORDED.len()
    }

    /// For messages.
    fn summary(&self) -> String {
        let tape = self.tape.lock();
        let sessions: Vec<String> = tape
            .world
            .all(&SESSION)
            .filter(|session| phase(session) != wanted_phase(session))
            .map(|session| format!("{}: {}", session["metadata"]["name"], session["status"]))
            .collect();
        let count = |kind| tape.world.all(kind).count();
        format!(
            "{} sandboxes, {} pods, pools {:?}, sessions that are not as they should be: {sessions:?}",
            count(&SANDBOX),
            count(&POD),
            tape.world.all(&POOL).map(|pool| pool["status"].to_string()).collect::<Vec<_>>(),
        )
    }
}

impl Tape {
    fn note(&mut self, resource: &'static str, seen: Seen) {
        match seen {
            Seen::Changed(revision, object) => self.add(resource, revision, false, object),
            Seen::Deleted(revision, object) => self.add(resource, revision, true, object),
            Seen::Listed(revision, objects) => {
                self.lists += 1;
                let listed: BTreeSet<&str> = objects.iter().map(|object| meta(object, "uid")).collect();
                let known = self.world.0.get(resource).into_iter().flat_map(BTreeMap::values);
                let gone: Vec<Value> =
                    known.filter(|object| !listed.contains(meta(object, "uid"))).cloned().collect();
                for object in gone {
                    self.add(resource, revision, true, object);
                }
                for object in objects {
                    let at = meta(&object, "resourceVersion").parse().unwrap_or_default();
                    self.add(resource, at, false, object);
                }
            }
        }
    }

    fn add(&mut self, resource: &'static str, revision: u64, deleted: bool, object: Value) {
        let name = meta(&object, "name").to_owned();
        let kind = self.world.0.entry(resource).or_default();
        if deleted {
            kind.remove(&name);
        } else {
            kind.insert(name, object.clone());
        }
        self.changes.push(Change { revision, resource, deleted, object, heard: Timestamp::now() });
    }
}
