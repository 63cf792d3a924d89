//! What is known of one kind: objects as the watch told them, and our own writes that it has not shown yet.
//!
//! A client that has created or stopped a session must read it so at once, though the watch is a moment behind.
//! So our writes lie over the watched objects until the watch shows that version or a later one, or says that
//! the object is gone. An own write that the watch never confirms (the object was deleted while the watch was
//! down) is forgotten after [`UNCONFIRMED`]. In the same way an object that we have deleted is not shown any more.
//! The clock is passed in; nothing here waits or does IO.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use paddock_kubeio::watch::Event;

/// How long an own write is believed without the watch confirming it.
pub const UNCONFIRMED: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Store<K> {
    synced: bool,
    watched: BTreeMap<String, Arc<K>>,
    written: HashMap<String, Written<K>>,
    deleted: HashMap<String, Deletion>,
}

#[derive(Debug)]
struct Written<K> {
    object: Arc<K>,
    forget_at: Instant,
}

#[derive(Debug)]
struct Deletion {
    uid: String,
    forget_at: Instant,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { synced: false, watched: BTreeMap::new(), written: HashMap::new(), deleted: HashMap::new() }
    }
}

/// Whether readers can see a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They can.
    Changed,
    /// They cannot.
    Unchanged,
}

impl<K: ResourceExt + Clone + PartialEq> Store<K> {
    /// Whether a complete list has ever been seen.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Takes an event of the watch.
    pub fn apply(&mut self, event: Event<K>) -> Effect {
        match event {
            Event::Synced(objects) => {
                let listed: BTreeMap<_, _> =
                    objects.into_iter().map(|object| (object.name_any(), Arc::new(object))).collect();
                // A list may be older than a write of ours; such a write stays until its time is over.
                self.written.retain(|name, own| {
                    listed.get(name).is_none_or(|seen| newer(own.object.as_ref(), seen.as_ref()))
                });
                let changed = !self.synced || listed != self.watched;
                self.watched = listed;
                self.synced = true;
                if changed { Effect::Changed } else { Effect::Unchanged }
            }
            Event::Applied(object) => {
                let name = object.name_any();
                if self.written.get(&name).is_some_and(|own| !newer(own.object.as_ref(), &object)) {
                    self.written.remove(&name);
                }
                let object = Arc::new(object);
                let before = self.watched.insert(name, object.clone());
                if before.is_some_and(|before| before == object) {
                    Effect::Unchanged
                } else {
                    Effect::Changed
                }
            }
            Event::Deleted(object) => {
                let name = object.name_any();
                if self.written.get(&name).is_some_and(|own| own.object.uid() == object.uid()) {
                    self.written.remove(&name);
                }
                if self.deleted.get(&name).is_some_and(|own| Some(&own.uid) == object.uid().as_ref()) {
                    self.deleted.remove(&name);
                }
                match self.watched.remove(&name) {
                    Some(_) => Effect::Changed,
                    None => Effect::Unchanged,
                }
            }
        }
    }

    /// Takes an object as the API server returned it to us, at `now`.
    pub fn record(&mut self, object: K, now: Instant) -> Effect {
        self.written.retain(|_, own| own.forget_at > now);
        let name = object.name_any();
        let known = self.get(&name, now).is_some_and(|known| !newer(&object, &known));
        if known {
            return Effect::Unchanged;
        }
        self.written.insert(name, Written { object: Arc::new(object), forget_at: now + UNCONFIRMED });
        Effect::Changed
    }

    /// Takes it that the API server has deleted this object for us, at `now`.
    pub fn record_deletion(&mut self, object: &K, now: Instant) -> Effect {
        self.deleted.retain(|_, own| own.forget_at > now);
        let (name, Some(uid)) = (object.name_any(), object.uid()) else { return Effect::Unchanged };
        self.deleted.insert(name, Deletion { uid, forget_at: now + UNCONFIRMED });
        Effect::Changed
    }

    /// Takes the API server's word that there is no such object.
    pub fn forget(&mut self, name: &str) {
        self.written.remove(name);
    }

    /// The newest known state of an object.
    pub fn get(&self, name: &str, now: Instant) -> Option<Arc<K>> {
        let own = self.written.get(name).filter(|own| own.forget_at > now).map(|own| &own.object);
        let newest = match (own, self.watched.get(name)) {
            (Some(own), Some(watched)) if newer(own.as_ref(), watched.as_ref()) => own,
            (_, Some(watched)) => watched,
            (own, None) => own?,
        };
        let deletion = self.deleted.get(name).filter(|deletion| deletion.forget_at > now);
        let is_deleted = deletion.is_some_and(|deletion| newest.uid().as_ref() == Some(&deletion.uid));
        (!is_deleted).then(|| newest.clone())
    }

    /// The newest known state of every object.
    pub fn all(&self, now: Instant) -> Vec<Arc<K>> {
        let unseen = self.written.keys().filter(|name| !self.watched.contains_key(*name));
        self.watched.keys().chain(unseen).filter_map(|name| self.get(name, now)).collect()
    }
}

/// Whether `a` is a later state than `b`. Versions of custom resources are numbers that only grow.
fn newer<K: ResourceExt>(a: &K, b: &K) -> bool {
    let version = |object: &K| object.resource_version().and_then(|version| version.parse::<u64>().ok());
    match (version(a), version(b)) {
        (Some(a), Some(b)) => a > b,
        // Not comparable: what the watch says counts.
        _ => false,
    }
}
