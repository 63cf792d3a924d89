//! Objects as last seen.
//!
//! A watch tells about our own writes late. So that no decision is made twice on the same stale object,
//! every successful write is put in here at once, and a watch event that is older than what is here is
//! ignored. That takes the place of expectation counters.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::session::Phase;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session, labels};
use serde_json::Value;

use crate::ids::{Key, controller_uid, label, uid};
use crate::node::Node;
use crate::pod::Pod;
use crate::volume_claim::VolumeClaim;

/// How long a written object may be missing from a fresh list before it counts as gone. A list that was
/// answered just before the write does not have it.
const UNSEEN_GRACE: SignedDuration = SignedDuration::from_secs(10);

/// How long no watch may show an object that we wrote or read before the API server is asked for it.
pub(crate) const UNSEEN_LIMIT: SignedDuration = SignedDuration::from_secs(5);

/// What the store needs to know of an object.
pub trait Stored {
    /// Namespace and name.
    fn key(&self) -> Key;
    /// UID.
    fn uid(&self) -> &str;
    /// Version.
    fn resource_version(&self) -> &str;
    /// Puts UID and version of a write's answer in.
    fn stamp(&mut self, uid: &str, resource_version: &str);
    /// Notes that it is on its way out.
    fn mark_deleting(&mut self);
    /// Whether this, seen in the very version that we wrote, tells more than we knew when we wrote it.
    fn tells_more(&self, _written: &Self) -> bool {
        false
    }
}

macro_rules! stored {
    ($($kind:ty),*) => {$(
        impl Stored for $kind {
            fn key(&self) -> Key {
                Key::of(&self.metadata)
            }
            fn uid(&self) -> &str {
                uid(&self.metadata)
            }
            fn resource_version(&self) -> &str {
                self.metadata.resource_version.as_deref().unwrap_or_default()
            }
            fn stamp(&mut self, uid: &str, resource_version: &str) {
                stamp_meta(&mut self.metadata, uid, resource_version);
            }
            fn mark_deleting(&mut self) {
                use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
                self.metadata.deletion_timestamp.get_or_insert(Time(Timestamp::UNIX_EPOCH));
            }
        }
    )*};
}
stored!(Agent, Session, Sandbox, SandboxTemplate, SandboxWarmPool);

fn stamp_meta(meta: &mut ObjectMeta, uid: &str, resource_version: &str) {
    meta.uid = Some(uid.to_owned());
    meta.resource_version = Some(resource_version.to_owned());
}

macro_rules! stored_slim {
    ($($kind:ty),*) => {$(
        impl Stored for $kind {
            fn key(&self) -> Key {
                <$kind>::key(self)
            }
            fn uid(&self) -> &str {
                &self.uid
            }
            fn resource_version(&self) -> &str {
                &self.resource_version
            }
            fn stamp(&mut self, uid: &str, resource_version: &str) {
                self.uid = uid.to_owned();
                self.resource_version = resource_version.to_owned();
            }
            fn mark_deleting(&mut self) {
                self.deleting = true;
            }
            // The API server adds to what it is given: a pod's scheduling gates show in its status at once.
            fn tells_more(&self, written: &Self) -> bool {
                !written.deleting && self != written
            }
        }
    )*};
}
stored_slim!(Pod, VolumeClaim, Node);

/// Objects of one kind.
#[derive(Clone, Debug)]
pub struct Table<K> {
    rows: BTreeMap<Key, Row<K>>,
    gone: Gone,
}

/// UIDs of objects that were seen to go. An answer that was under way then must not bring them back.
#[derive(Clone, Debug, Default)]
struct Gone {
    known: BTreeSet<String>,
    /// The latest last.
    order: VecDeque<String>,
}

impl Gone {
    fn has(&self, uid: &str) -> bool {
        self.known.contains(uid)
    }

    fn add(&mut self, uid: &str) {
        if self.known.insert(uid.to_owned()) {
            self.order.push_back(uid.to_owned());
        }
        if self.order.len() > GONE
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// How many gone objects are remembered: more than can be under way at once.
const GONE: usize = 4096;

#[derive(Clone, Debug)]
struct Row<K> {
    object: K,
    /// When we wrote or read it, while no watch has shown it.
    unseen_since: Option<Timestamp>,
}

impl<K: Stored> Row<K> {
    /// The first that a watch shows of our own write, in the version that we know by the answer.
    fn is_told_more_by(&self, object: &K) -> bool {
        self.unseen_since.is_some()
            && self.object.uid() == object.uid()
            && self.object.resource_version() == object.resource_version()
            && object.tells_more(&self.object)
    }
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), gone: Gone::default() }
    }
}

impl<K: Stored> Table<K> {
    /// The object of this name.
    pub fn get(&self, key: &Key) -> Option<&K> {
        self.rows.get(key).map(|row| &row.object)
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.rows.values().map(|row| &row.object)
    }

    /// All objects of a namespace.
    pub fn in_namespace<'a, 'n>(
        &'a self,
        namespace: &'n str,
    ) -> impl Iterator<Item = &'a K> + use<'a, 'n, K> {
        let from = Key::new(namespace, "");
        self.rows
            .range(from..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, row)| &row.object)
    }

    /// Takes a watched object in. False when what is here is as new.
    fn observe(&mut self, object: K) -> bool {
        let key = object.key();
        let is_news = self.is_news(&object);
        if let Some(row) = self.rows.get_mut(&key) {
            if row.object.uid() == object.uid() {
                row.unseen_since = None;
            }
            // Of an earlier object of this name too: a late watch must not hide the one that we made since.
            if !is_news {
                return false;
            }
        }
        self.rows.insert(key, Row { object, unseen_since: None });
        true
    }

    /// True when `object` tells something that is not here yet.
    fn is_news(&self, object: &K) -> bool {
        self.rows.get(&object.key()).is_none_or(|row| {
            is_newer(object.resource_version(), row.object.resource_version()) || row.is_told_more_by(object)
        })
    }

    /// Takes the result of an own write in.
    fn written(&mut self, object: K, now: Timestamp) {
        if self.gone.has(object.uid()) {
            return;
        }
        let key = object.key();
        if let Some(row) = self.rows.get(&key)
            && !is_newer(object.resource_version(), row.object.resource_version())
        {
            return;
        }
        self.rows.insert(key, Row { object, unseen_since: Some(now) });
    }

    /// Takes in what a read has found. No watch has shown it by that, and none may: it can go before the next one begins.
    fn read(&mut self, object: K, now: Timestamp) {
        match self.rows.get_mut(&object.key()) {
            Some(row) if row.object.uid() == object.uid() => {
                row.unseen_since = row.unseen_since.map(|_| now);
                if is_newer(object.resource_version(), row.object.resource_version()) {
                    row.object = object;
                }
            }
            Some(row) if !is_newer(object.resource_version(), row.object.resource_version()) => {}
            _ => {
                self.rows.insert(object.key(), Row { object, unseen_since: Some(now) });
            }
        }
    }

    /// UID of the object of this name, if we wrote or read it so long ago that a watch must have shown it, and none has. It may
    /// have gone between two watches.
    pub fn never_seen(&self, key: &Key, now: Timestamp) -> Option<&str> {
        let row = self.rows.get(key)?;
        // Where the clock was set back, nobody knows how long ago that was.
        row.unseen_since
            .is_some_and(|since| now < since || now >= since + UNSEEN_LIMIT)
            .then(|| row.object.uid())
    }

    /// Drops an object that is gone, unless the name is another object's by now.
    fn remove(&mut self, key: &Key, uid: &str) -> bool {
        self.gone.add(uid);
        match self.rows.get(key) {
            Some(row) if row.object.uid() == uid => self.rows.remove(key).is_some(),
            _ => false,
        }
    }

    /// Notes that an object is on its way out.
    fn mark_deleting(&mut self, key: &Key, uid: &str) {
        if let Some(row) = self.rows.get_mut(key)
            && row.object.uid() == uid
        {
            row.object.mark_deleting();
        }
    }

    /// Keys and UIDs of objects that a fresh list no longer has. One that we wrote a moment ago may be younger than the list;
    /// not so where the list has something that is younger still.
    fn missing_from(&self, list: &[K], now: Timestamp) -> Vec<(Key, String)> {
        let listed: BTreeSet<Key> = list.iter().map(Stored::key).collect();
        let is_younger =
            |row: &Row<K>| list.iter().any(|o| is_newer(o.resource_version(), row.object.resource_version()));
        self.rows
            .iter()
            .filter(|(key, _)| !listed.contains(*key))
            .filter(|(_, row)| {
                row.unseen_since.is_none_or(|since| now - UNSEEN_GRACE > since || is_younger(row))
            })
            .map(|(key, row)| (key.clone(), row.object.uid().to_owned()))
            .collect()
    }
}

/// True when version `new` of an object is later than `old`. Versions are numbers in every API server that
/// stores in etcd; where they are not, the newcomer wins.
fn is_newer(new: &str, old: &str) -> bool {
    match (new.parse::<u64>(), old.parse::<u64>()) {
        (Ok(new), Ok(old)) => new > old,
        _ => new != old,
    }
}

/// Everything seen of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Agents.
    pub agents: Table<Agent>,
    /// Sessions.
    pub sessions: Table<Session>,
    /// SandboxTemplates.
    pub templates: Table<SandboxTemplate>,
    /// SandboxWarmPools.
    pub pools: Table<SandboxWarmPool>,
    /// Sandboxes.
    pub sandboxes: Table<Sandbox>,
    /// Pods that belong to Sandboxes.
    pub pods: Table<Pod>,
    /// Volume claims that were made for Sandboxes.
    pub volume_claims: Table<VolumeClaim>,
    /// Nodes.
    pub nodes: Table<Node>,
    /// Sessions on their way to Ready.
    starting: BTreeSet<Key>,
    /// Sessions by the name of the Sandbox, and so of the pod, that their status names.
    by_place: BTreeMap<Key, BTreeSet<Key>>,
    by_node: BTreeMap<String, BTreeSet<Key>>,
    by_session: BTreeMap<String, BTreeSet<Key>>,
    by_pool: BTreeMap<String, BTreeSet<Key>>,
    /// Pod specs of Sandboxes, by the hash of the template they were made from: thousands have the same one, and it is kept
    /// once.
    pod_specs: BTreeMap<String, Weak<Value>>,
}

/// A kind that the store keeps.
pub trait Kept: Stored + Sized {
    /// Where it is kept.
    fn table(store: &Store) -> &Table<Self>;
    /// See [`Kept::table`].
    fn table_mut(store: &mut Store) -> &mut Table<Self>;
    /// Called with every object that is to be kept.
    fn share(_store: &mut Store, _object: &mut Self) {}
    /// Called around every change of the object of this name: before it with `false`, after it with `true`.
    fn index(_store: &mut Store, _key: &Key, _present: bool) {}
}

macro_rules! kept {
    ($kind:ty, $table:ident $(, $index:path $(, $share:path)?)?) => {
        impl Kept for $kind {
            fn table(store: &Store) -> &Table<Self> {
                &store.$table
            }
            fn table_mut(store: &mut Store) -> &mut Table<Self> {
                &mut store.$table
            }
            $(fn index(store: &mut Store, key: &Key, present: bool) {
                $index(store, key, present);
            }
            $(fn share(store: &mut Store, object: &mut Self) {
                $share(store, object);
            })?)?
        }
    };
}
kept!(Agent, agents);
kept!(Session, sessions, Store::index_session);
kept!(SandboxTemplate, templates);
kept!(SandboxWarmPool, pools);
kept!(Sandbox, sandboxes, Store::index_sandbox, Store::share_pod_spec);
kept!(Pod, pods, Store::index_pod);
kept!(VolumeClaim, volume_claims);
kept!(Node, nodes);

impl Store {
    /// Takes a watched object in. False when it brings nothing new.
    pub fn observe<K: Kept>(&mut self, mut object: K) -> bool {
        K::share(self, &mut object);
        let key = object.key();
        self.change(&key, |table| table.observe(object))
    }

    /// Takes the result of an own write in.
    pub fn written<K: Kept>(&mut self, mut object: K, now: Timestamp) {
        K::share(self, &mut object);
        let key = object.key();
        self.change(&key, |table| table.written(object, now));
    }

    /// Takes in what a read has found.
    pub fn read<K: Kept>(&mut self, mut object: K, now: Timestamp) {
        K::share(self, &mut object);
        let key = object.key();
        self.change(&key, |table| table.read(object, now));
    }

    /// Drops an object that is gone.
    pub fn remove<K: Kept>(&mut self, key: &Key, uid: &str) -> bool {
        self.change(key, |table: &mut Table<K>| table.remove(key, uid))
    }

    /// Notes that an object is on its way out.
    pub fn mark_deleting<K: Kept>(&mut self, key: &Key, uid: &str) {
        K::table_mut(self).mark_deleting(key, uid);
    }

    /// True when `object` tells something that is not here yet.
    pub fn is_news<K: Kept>(&self, object: &K) -> bool {
        K::table(self).is_news(object)
    }

    /// True when the object with this UID was seen to go.
    pub fn is_gone<K: Kept>(&self, uid: &str) -> bool {
        K::table(self).gone.has(uid)
    }

    /// Keys and UIDs of objects that a fresh list no longer has.
    pub fn missing_from<K: Kept>(&self, list: &[K], now: Timestamp) -> Vec<(Key, String)> {
        K::table(self).missing_from(list, now)
    }

    fn change<K: Kept, R>(&mut self, key: &Key, change: impl FnOnce(&mut Table<K>) -> R) -> R {
        K::index(self, key, false);
        let result = change(K::table_mut(self));
        K::index(self, key, true);
        result
    }

    /// Sandboxes assigned to the session with this UID.
    pub fn sandboxes_of_session(&self, session_uid: &str) -> impl Iterator<Item = &Sandbox> {
        self.by_session.get(session_uid).into_iter().flatten().filter_map(|key| self.sandboxes.get(key))
    }

    /// Sandboxes owned by the pool with this UID.
    pub fn sandboxes_of_pool(&self, pool_uid: &str) -> impl Iterator<Item = &Sandbox> {
        self.by_pool.get(pool_uid).into_iter().flatten().filter_map(|key| self.sandboxes.get(key))
    }

    /// Pools of a namespace.
    pub fn pools_in<'a, 'n>(
        &'a self,
        namespace: &'n str,
    ) -> impl Iterator<Item = &'a SandboxWarmPool> + use<'a, 'n> {
        self.pools.in_namespace(namespace)
    }

    /// Templates of a namespace.
    pub fn templates_in<'a, 'n>(
        &'a self,
        namespace: &'n str,
    ) -> impl Iterator<Item = &'a SandboxTemplate> + use<'a, 'n> {
        self.templates.in_namespace(namespace)
    }

    /// Sessions of a namespace that are on their way to Ready.
    pub fn starting_in<'a, 'n>(&'a self, namespace: &'n str) -> impl Iterator<Item = &'a Key> + use<'a, 'n> {
        let from = Key::new(namespace, "");
        self.starting.range(from..).take_while(move |key| key.namespace == namespace)
    }

    /// Sessions whose status names the Sandbox of this name, or its pod.
    pub fn sessions_at(&self, sandbox: &Key) -> impl Iterator<Item = &Key> {
        self.by_place.get(sandbox).into_iter().flatten()
    }

    /// True for a session on its way to Ready.
    pub fn is_starting(&self, session: &Key) -> bool {
        self.starting.contains(session)
    }

    /// Pods on the node of this name.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Key> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// The pod of a Sandbox: same name, owned by it.
    pub fn pod_of(&self, sandbox: &Sandbox) -> Option<&Pod> {
        let pod = self.pods.get(&Stored::key(sandbox))?;
        (pod.owner_uid.as_deref() == Some(uid(&sandbox.metadata))).then_some(pod)
    }

    fn share_pod_spec(&mut self, sandbox: &mut Sandbox) {
        let Some(hash) = label(&sandbox.metadata, labels::TEMPLATE_HASH) else { return };
        let own = &mut sandbox.spec.pod_template.spec;
        if let Some(known) = self.pod_specs.get(hash).and_then(Weak::upgrade) {
            // A label is anybody's to write, and sessions change their pods.
            if known == *own {
                *own = known;
            }
            return;
        }
        self.pod_specs.retain(|_, spec| spec.strong_count() > 0);
        self.pod_specs.insert(hash.to_owned(), Arc::downgrade(own));
    }

    fn index_session(&mut self, key: &Key, present: bool) {
        let Some(session) = self.sessions.get(key) else { return };
        let place = session.status.as_ref().and_then(|status| status.sandbox.as_ref());
        let place = place.map(|sandbox| Key::new(key.namespace.clone(), sandbox.name.clone()));
        let phase = session.status.as_ref().map(|s| s.phase).unwrap_or_default();
        if let Some(place) = place {
            index(&mut self.by_place, &place, key, present);
        }
        if present && phase == Phase::Creating {
            self.starting.insert(key.clone());
        } else {
            self.starting.remove(key);
        }
    }

    fn index_pod(&mut self, key: &Key, present: bool) {
        let Some(node) = self.pods.get(key).and_then(|pod| pod.node.clone()) else { return };
        index(&mut self.by_node, &node, key, present);
    }

    fn index_sandbox(&mut self, key: &Key, present: bool) {
        let Some(sandbox) = self.sandboxes.get(key) else { return };
        let session = label(&sandbox.metadata, labels::SESSION_UID);
        let owner = controller_uid(&sandbox.metadata);
        let (map, id) = match (session, owner) {
            (Some(session), _) => (&mut self.by_session, session),
            (None, Some(owner)) => (&mut self.by_pool, owner),
            (None, None) => return,
        };
        index(map, id, key, present);
    }
}

/// Puts `key` into the set of this name, or takes it out.
fn index<I, Q>(map: &mut BTreeMap<I, BTreeSet<Key>>, id: &Q, key: &Key, present: bool)
where
    I: Ord + Borrow<Q>,
    Q: Ord + ToOwned<Owned = I> + ?Sized,
{
    if present {
        map.entry(id.to_owned()).or_default().insert(key.clone());
    } else if let Some(keys) = map.get_mut(id) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(id);
        }
    }
}
