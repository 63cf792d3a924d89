//! Everything the server knows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Object;
use super::kinds::{Kind, Kinds};
use super::record::{Asked, Change};
use super::refusal::Refusal;
use super::request::{Call, Part, Verb};

/// Where an object is: kind, namespace, name.
pub(super) type Place = (usize, String, String);

/// Who asks for what, as far as records need it.
#[derive(Clone, Debug)]
pub(super) struct Author {
    pub(super) by: Arc<str>,
    pub(super) verb: Verb,
    pub(super) part: Part,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) kinds: Arc<Kinds>,
    tables: Vec<BTreeMap<(String, String), Object>>,
    version: u64,
    uids: u64,
    /// Versions up to this one are forgotten.
    pub(super) compacted: u64,
    /// What watches and old pages are answered from, by place in `history`.
    pub(super) log: VecDeque<usize>,
    pub(super) history: Vec<Change>,
    pub(super) requests: Vec<Asked>,
    names: HashMap<String, Arc<str>>,
    epoch: (Timestamp, Instant),
}

impl State {
    pub(super) fn new(kinds: Arc<Kinds>, now: Timestamp) -> Self {
        Self {
            tables: vec![BTreeMap::new(); kinds.len()],
            kinds,
            version: 1,
            uids: 0,
            compacted: 0,
            log: VecDeque::new(),
            history: Vec::new(),
            requests: Vec::new(),
            names: HashMap::new(),
            epoch: (now, Instant::now()),
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.epoch.1.elapsed()).unwrap_or(SignedDuration::MAX);
        self.epoch.0.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// In whole seconds, as Kubernetes writes times.
    pub(super) fn stamp(&self, later: i64) -> String {
        let seconds = self.now().as_second().saturating_add(later);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
    }

    pub(super) fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }

    pub(super) fn author(&mut self, client: &str, verb: Verb, part: Part) -> Author {
        if !self.names.contains_key(client) {
            self.names.insert(client.to_owned(), client.into());
        }
        Author { by: self.names[client].clone(), verb, part }
    }

    pub(super) fn kind(&self, index: usize) -> Arc<Kind> {
        self.kinds.get(index).clone()
    }

    pub(super) fn get(&self, place: &Place) -> Option<&Object> {
        // The key is owned in the map and cheap to make beside everything else that a request costs.
        self.tables[place.0].get(&(place.1.clone(), place.2.clone()))
    }

    pub(super) fn table(&self, kind: usize) -> &BTreeMap<(String, String), Object> {
        &self.tables[kind]
    }

    pub(super) fn read(&self, plural: &str, namespace: &str, name: &str) -> Option<Object> {
        let index = self.kinds.by_plural(plural)?;
        self.get(&(index, namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn all(&self, plural: &str) -> Vec<Object> {
        let index = self.kinds.by_plural(plural);
        index.map(|index| self.tables[index].values().cloned().collect()).unwrap_or_default()
    }

    /// Stores `object` under the next version.
    pub(super) fn put(&mut self, place: &Place, mut object: Value, author: Author) -> Object {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let kind = self.kinds.get(place.0);
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.as_str().into();
        let object = Arc::new(object);
        let before = self.tables[place.0].insert((place.1.clone(), place.2.clone()), object.clone());
        self.note(place.0, before, object.clone(), false, author);
        object
    }

    /// Removes the object; `last` is its last state.
    pub(super) fn remove(&mut self, place: &Place, mut last: Value, author: Author) -> Object {
        self.version += 1;
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        let before = self.tables[place.0].remove(&(place.1.clone(), place.2.clone()));
        let last = Arc::new(last);
        self.note(place.0, before, last.clone(), true, author);
        last
    }

    fn note(&mut self, kind: usize, before: Option<Object>, after: Object, gone: bool, author: Author) {
        let Author { by, verb, part } = author;
        self.log.push_back(self.history.len());
        self.history.push(Change {
            version: self.version,
            at: Instant::now(),
            by,
            verb,
            part,
            kind: self.kind(kind),
            before,
            after,
            gone,
        });
    }

    pub(super) fn compact(&mut self, version: u64) {
        self.compacted = self.compacted.max(version.min(self.version));
        while self.log.front().is_some_and(|at| self.history[*at].version <= self.compacted) {
            self.log.pop_front();
        }
    }

    /// Does everything but watches. Returns status and body.
    pub(super) fn serve(&mut self, client: &str, call: &Call, body: Value) -> Result<(u16, Object), Refusal> {
        let author = self.author(client, call.verb, call.part);
        let place: Place = (call.index, call.namespace.clone(), call.name.clone());
        match call.verb {
            Verb::Get => match self.get(&place) {
                Some(object) => Ok((200, object.clone())),
                None => Err(Refusal::not_found(&call.kind, &call.name)),
            },
            Verb::List => self.list(call, None).map(|list| (200, Arc::new(list))),
            Verb::Watch => Err(Refusal::bad_request("a watch is no single answer")),
            Verb::Create => self.create(call, body, author).map(|made| (201, made)),
            Verb::Update if self.get(&place).is_none() && call.kind.traits.create_on_update => {
                self.create_by_update(call, body, author).map(|made| (201, made))
            }
            Verb::Update | Verb::Patch => self.update(call, &place, body, author).map(|made| (200, made)),
            Verb::Delete => self.delete(call, &place, &body, author),
        }
    }

    /// Changes an object in a way no rule of the API stands against, as components of the cluster do.
    pub(super) fn edit(&mut self, client: &str, place: &Place, change: impl FnOnce(&mut Value)) -> bool {
        let Some(old) = self.get(place).cloned() else { return false };
        let mut new = Value::clone(&old);
        change(&mut new);
        if new == *old {
            return false;
        }
        let author = self.author(client, Verb::Update, Part::Status);
        self.put(place, new, author);
        true
    }

    /// Refuses what goes into a namespace that is not there or is going.
    pub(super) fn admit_to_namespace(&self, call: &Call, name: &str) -> Result<(), Refusal> {
        if !call.kind.namespaced {
            return Ok(());
        }
        let Some(index) = self.kinds.by_plural("namespaces") else { return Ok(()) };
        match self.get(&(index, String::new(), call.namespace.clone())) {
            None => Err(Refusal::not_found(self.kinds.get(index), &call.namespace)),
            Some(found) if found["status"]["phase"] == "Terminating" => {
                Err(Refusal::terminating(&call.kind, name, &call.namespace))
            }
            Some(_) => Ok(()),
        }
    }

    /// A namespace, for tests to begin with.
    pub(super) fn namespace(&mut self, name: &str) {
        let Some(index) = self.kinds.by_plural("namespaces") else { return };
        let author = self.author("test", Verb::Create, Part::Main);
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let call = Call {
            verb: Verb::Create,
            kind: self.kind(index),
            index,
            namespace: String::new(),
            name: String::new(),
            part: Part::Main,
            query: super::request::Query::default(),
        };
        // It may be there already.
        let _ = self.create(&call, object, author);
    }
}
