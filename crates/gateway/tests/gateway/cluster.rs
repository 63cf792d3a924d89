//! An API server in memory, as far as the gateway needs one: versions, preconditions, and faults on demand.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session, labels};
use paddock_gateway::cluster::Cluster;
use paddock_gateway::index::Index;
use paddock_kubeio::look::{LogQuery, SlimEvent};
use paddock_kubeio::slim::{SlimPod, SlimSecret};
use paddock_kubeio::watch::Event;
use paddock_kubeio::write::{Precondition, WriteError, Written};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What the next request of a kind meets.
pub type Fault = Box<dyn FnOnce(&FakeCluster) -> Option<WriteError> + Send>;

/// Writes to an agent and its Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    CreateAgent,
    PatchAgent,
    DeleteAgent,
    CreateSecret,
    PatchSecret,
}

/// Whether the index follows what happens here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// At once.
    Live,
    /// Not at all, as if the watch were cut.
    Cut,
}

pub struct FakeCluster {
    index: Arc<Index>,
    state: Mutex<State>,
}

struct State {
    sessions: BTreeMap<String, Session>,
    agents: BTreeMap<String, Agent>,
    pods: BTreeMap<String, SlimPod>,
    sandboxes: BTreeMap<String, Sandbox>,
    pools: BTreeMap<String, SandboxWarmPool>,
    templates: BTreeMap<String, SandboxTemplate>,
    logs: BTreeMap<String, Bytes>,
    log_queries: Vec<LogQuery>,
    events: Vec<SlimEvent>,
    looks_fail: Option<WriteError>,
    log_fails: Option<WriteError>,
    version: u64,
    watch: Watch,
    reads: usize,
    patches: Vec<Value>,
    next_read: Option<Fault>,
    next_pod_read: Option<Fault>,
    next_create: Option<Fault>,
    next_patch: Option<Fault>,
    secrets: BTreeMap<String, Secret>,
    faults: BTreeMap<Write, Fault>,
    next_agent_read: Option<Fault>,
    /// Writes to agents and their Secrets that were done, in their order.
    writes: Vec<(Write, String)>,
}

impl FakeCluster {
    pub fn new(index: Arc<Index>) -> Self {
        let state = State {
            sessions: BTreeMap::new(),
            agents: BTreeMap::new(),
            pods: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            pools: BTreeMap::new(),
            templates: BTreeMap::new(),
            logs: BTreeMap::new(),
            log_queries: Vec::new(),
            events: Vec::new(),
            looks_fail: None,
            log_fails: None,
            version: 100,
            watch: Watch::Live,
            reads: 0,
            patches: Vec::new(),
            next_read: None,
            next_pod_read: None,
            next_create: None,
            next_patch: None,
            secrets: BTreeMap::new(),
            faults: BTreeMap::new(),
            next_agent_read: None,
            writes: Vec::new(),
        };
        Self { index, state: Mutex::new(state) }
    }

    pub fn set_watch(&self, watch: Watch) {
        self.state.lock().watch = watch;
    }

    pub fn fail_next_read(&self, fault: impl FnOnce(&Self) -> Option<WriteError> + Send + 'static) {
        self.state.lock().next_read = Some(Box::new(fault));
    }

    pub fn fail_next_pod_read(&self, fault: impl FnOnce(&Self) -> Option<WriteError> + Send + 'static) {
        self.state.lock().next_pod_read = Some(Box::new(fault));
    }

    pub fn fail_next_create(&self, fault: impl FnOnce(&Self) -> Option<WriteError> + Send + 'static) {
        self.state.lock().next_create = Some(Box::new(fault));
    }

    pub fn fail_next_patch(&self, fault: impl FnOnce(&Self) -> Option<WriteError> + Send + 'static) {
        self.state.lock().next_patch = Some(Box::new(fault));
    }

    pub fn fail_next_agent_read(&self, fault: impl FnOnce(&Self) -> Option<WriteError> + Send + 'static) {
        self.state.lock().next_agent_read = Some(Box::new(fault));
    }

    /// What the next write of this kind meets.
    pub fn fail_next(&self, write: Write, fault: impl FnOnce(&Self) -> Option<WriteError> + Send + 'static) {
        self.state.lock().faults.insert(write, Box::new(fault));
    }

    /// Writes to agents and their Secrets that were done, in their order.
    pub fn writes(&self) -> Vec<Write> {
        self.state.lock().writes.iter().map(|(write, _)| *write).collect()
    }

    /// The agent as it is stored.
    pub fn agent(&self, name: &str) -> Option<Agent> {
        self.state.lock().agents.get(name).cloned()
    }

    /// The names of all agents.
    pub fn agents(&self) -> Vec<String> {
        self.state.lock().agents.keys().cloned().collect()
    }

    /// The Secret of this name.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.state.lock().secrets.get(name).cloned()
    }

    /// What a Secret has in it.
    pub fn values(&self, name: &str) -> BTreeMap<String, String> {
        let data = self.secret(name).and_then(|secret| secret.data).unwrap_or_default();
        data.into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect()
    }

    /// Stores a Secret, whatever was there.
    pub fn put_secret(&self, secret: Value) {
        let mut secret: Secret = serde_json::from_value(secret).unwrap();
        let mut state = self.state.lock();
        secret.metadata.resource_version = Some(state.next_version());
        state.secrets.insert(secret.metadata.name.clone().unwrap(), secret);
    }

    /// Changes an agent, as kubectl would.
    pub fn edit_agent(&self, name: &str, change: &Value) {
        let mut agent = serde_json::to_value(self.agent(name).unwrap()).unwrap();
        merge(&mut agent, change);
        let mut state = self.state.lock();
        agent["metadata"]["resourceVersion"] = json!(state.next_version());
        let agent: Agent = serde_json::from_value(agent).unwrap();
        state.agents.insert(name.to_owned(), agent.clone());
        if state.watch == Watch::Live {
            self.index.apply_agent(Event::Applied(agent));
        }
    }

    /// Does a write, unless something else is to happen to it.
    fn write<T>(
        &self,
        write: Write,
        name: &str,
        act: impl FnOnce(&mut State) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let fault = self.state.lock().faults.remove(&write);
        let outcome = fault.and_then(|fault| fault(self));
        // A lost answer is one to a write that was done.
        if let Some(error) = outcome.clone().filter(|error| !error.outcome_unknown()) {
            return Err(error);
        }
        let mut state = self.state.lock();
        let done = act(&mut state)?;
        state.writes.push((write, name.to_owned()));
        outcome.map_or(Ok(done), Err)
    }

    /// How often a session was read.
    pub fn reads(&self) -> usize {
        self.state.lock().reads
    }

    /// The changes that were made to sessions, in their order.
    pub fn patches(&self) -> Vec<Value> {
        self.state.lock().patches.clone()
    }

    /// The session as it is stored.
    pub fn session(&self, name: &str) -> Session {
        self.state.lock().sessions[name].clone()
    }

    /// Stores a session, whatever was there, and tells the watch.
    pub fn put(&self, session: Value) {
        let mut session: Session = serde_json::from_value(session).unwrap();
        let mut state = self.state.lock();
        session.metadata.resource_version = Some(state.next_version());
        let name = session.metadata.name.clone().unwrap();
        state.sessions.insert(name, session.clone());
        state.tell(&self.index, session);
    }

    /// Replaces a session's status, as the controller would.
    pub fn put_status(&self, name: &str, status: Value) {
        let mut session = serde_json::to_value(self.session(name)).unwrap();
        session["status"] = status;
        self.put(session);
    }

    /// Changes a session's spec, as kubectl would.
    pub fn put_spec(&self, name: &str, change: &Value) {
        let mut session = serde_json::to_value(self.session(name)).unwrap();
        merge(&mut session["spec"], change);
        self.put(session);
    }

    /// Stores a pod, whatever was there.
    pub fn put_pod(&self, pod: Value) {
        let pod: SlimPod = serde_json::from_value(pod).unwrap();
        self.state.lock().pods.insert(pod.metadata.name.clone().unwrap(), pod);
    }

    /// Stores a Sandbox whose harness container has this name.
    pub fn put_sandbox(&self, name: &str, container: &str) {
        let env = json!([{"name": "TOKEN", "value": "a-plain-secret"}]);
        let sandbox = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"podTemplate": {"spec": {"containers": [{"name": container, "env": env}]}}},
        });
        self.state.lock().sandboxes.insert(name.to_owned(), serde_json::from_value(sandbox).unwrap());
    }

    /// Stores a pool for opencode with so many members ready, and its template.
    pub fn put_pool(&self, name: &str, ready: u32) {
        let pool = json!({
            "metadata": {"name": name}, "spec": {"replicas": 2, "sandboxTemplateRef": {"name": "template"}},
            "status": {"replicas": 2, "readyReplicas": ready},
        });
        let template = json!({
            "metadata": {"name": "template", "annotations": {labels::HARNESS: "opencode"}},
            "spec": {"podTemplate": {"spec": {"containers": []}}},
        });
        let mut state = self.state.lock();
        state.pools.insert(name.to_owned(), serde_json::from_value(pool).unwrap());
        state.templates.insert("template".to_owned(), serde_json::from_value(template).unwrap());
    }

    /// What a pod's containers have written.
    pub fn put_log(&self, pod: &str, log: &'static [u8]) {
        self.state.lock().logs.insert(pod.to_owned(), Bytes::from_static(log));
    }

    /// An event, as the API server stores it.
    pub fn put_event(&self, event: Value) {
        self.state.lock().events.push(serde_json::from_value(event).unwrap());
    }

    /// From now on sandboxes, pools, logs and events cannot be read.
    pub fn fail_looks(&self, error: WriteError) {
        self.state.lock().looks_fail = Some(error);
    }

    /// From now on logs cannot be read.
    pub fn fail_logs(&self, error: WriteError) {
        self.state.lock().log_fails = Some(error);
    }

    /// How logs were asked for.
    pub fn log_queries(&self) -> Vec<LogQuery> {
        self.state.lock().log_queries.clone()
    }

    fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> Result<T, WriteError> {
        let mut state = self.state.lock();
        match state.looks_fail.clone() {
            Some(error) => Err(error),
            None => Ok(look(&mut state)),
        }
    }

    pub fn put_agent(&self, name: &str) {
        self.put_agent_with(name, &json!({}));
    }

    /// An agent with these rules of a session's life.
    pub fn put_agent_with(&self, name: &str, lifecycle: &Value) {
        let agent: Agent = serde_json::from_value(json!({
            "apiVersion": "paddock.dev/v1alpha1", "kind": "Agent",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"model": "m", "displayName": format!("The {name}"), "lifecycle": lifecycle},
        }))
        .unwrap();
        let mut state = self.state.lock();
        state.agents.insert(name.to_owned(), agent.clone());
        if state.watch == Watch::Live {
            self.index.apply_agent(Event::Applied(agent));
        }
    }

    fn patch(
        &self,
        name: &str,
        precondition: &Precondition,
        patch: &Value,
        part: &str,
    ) -> Result<Written, WriteError> {
        let fault = self.state.lock().next_patch.take();
        let outcome = fault.and_then(|fault| fault(self));
        // A lost answer is one to a write that was done.
        if let Some(error) = outcome.clone().filter(|error| !error.outcome_unknown()) {
            return Err(error);
        }
        let mut state = self.state.lock();
        let session = state.sessions.get(name).ok_or(WriteError::NotFound)?;
        let same = session.metadata.uid.as_deref() == Some(precondition.uid.as_str())
            && precondition.resource_version == session.metadata.resource_version;
        if !same {
            return Err(WriteError::Conflict);
        }
        let mut value = serde_json::to_value(session).unwrap();
        if let Some(new) = patch.get(part) {
            merge(&mut value[part], new);
        }
        if let Some(new) = patch["metadata"].get("annotations") {
            merge(&mut value["metadata"]["annotations"], new);
        }
        let mut session: Session = serde_json::from_value(value).unwrap();
        let version = state.next_version();
        session.metadata.resource_version = Some(version.clone());
        let uid = session.metadata.uid.clone().unwrap();
        state.sessions.insert(name.to_owned(), session.clone());
        state.patches.push(patch.clone());
        state.tell(&self.index, session);
        outcome.map_or(Ok(Written { uid, resource_version: version, created: None }), Err)
    }
}

impl State {
    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn tell_of_agent(&self, index: &Index, event: Event<Agent>) {
        if self.watch == Watch::Live {
            index.apply_agent(event);
        }
    }

    fn tell(&self, index: &Index, session: Session) {
        if self.watch == Watch::Live {
            index.apply_session(Event::Applied(session));
        }
    }
}

/// An object with `patch` made to it, if it is the one that is meant.
fn patched<K: serde::Serialize + serde::de::DeserializeOwned + kube::Resource>(
    object: Option<&K>,
    precondition: &Precondition,
    patch: &Value,
    version: String,
) -> Result<K, WriteError> {
    let object = object.ok_or(WriteError::NotFound)?;
    let meta = object.meta();
    let same = meta.uid.as_deref() == Some(precondition.uid.as_str())
        && precondition.resource_version.as_ref().is_none_or(|v| meta.resource_version.as_ref() == Some(v));
    if !same {
        return Err(WriteError::Conflict);
    }
    let mut value = serde_json::to_value(object).unwrap();
    merge(&mut value, patch);
    let mut object: K = serde_json::from_value(value).unwrap();
    object.meta_mut().resource_version = Some(version);
    Ok(object)
}

fn as_written<K: kube::Resource>(object: &K) -> Written {
    let meta = object.meta();
    Written {
        uid: meta.uid.clone().unwrap(),
        resource_version: meta.resource_version.clone().unwrap(),
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

impl Cluster for FakeCluster {
    fn create_session<'a>(&'a self, session: &'a Session) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            let fault = self.state.lock().next_create.take();
            let outcome = fault.and_then(|fault| fault(self));
            // A lost answer is one to a write that was done.
            if let Some(error) = outcome.clone().filter(|error| !error.outcome_unknown()) {
                return Err(error);
            }
            let mut state = self.state.lock();
            let name = session.metadata.name.clone().unwrap();
            if state.sessions.contains_key(&name) {
                return Err(WriteError::AlreadyExists);
            }
            let mut session = session.clone();
            let version = state.next_version();
            let uid = format!("uid-{name}");
            session.metadata.uid = Some(uid.clone());
            session.metadata.resource_version = Some(version.clone());
            session.metadata.creation_timestamp =
                serde_json::from_value(json!("2026-02-02T00:00:00Z")).unwrap();
            let created = session.metadata.creation_timestamp.as_ref().map(|time| time.0);
            state.sessions.insert(name, session.clone());
            state.tell(&self.index, session);
            outcome.map_or(Ok(Written { uid, resource_version: version, created }), Err)
        })
    }

    fn read_session<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Session>, WriteError>> {
        Box::pin(async move {
            let fault = {
                let mut state = self.state.lock();
                state.reads += 1;
                state.next_read.take()
            };
            match fault.and_then(|fault| fault(self)) {
                Some(error) => Err(error),
                None => Ok(self.state.lock().sessions.get(name).cloned()),
            }
        })
    }

    fn read_agent<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Agent>, WriteError>> {
        Box::pin(async move {
            let fault = self.state.lock().next_agent_read.take();
            match fault.and_then(|fault| fault(self)) {
                Some(error) => Err(error),
                None => Ok(self.state.lock().agents.get(name).cloned()),
            }
        })
    }

    fn read_pod<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SlimPod>, WriteError>> {
        Box::pin(async move {
            let fault = self.state.lock().next_pod_read.take();
            match fault.and_then(|fault| fault(self)) {
                Some(error) => Err(error),
                None => Ok(self.state.lock().pods.get(name).cloned()),
            }
        })
    }

    fn read_sandbox<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Sandbox>, WriteError>> {
        Box::pin(async move { self.look(|state| state.sandboxes.get(name).cloned()) })
    }

    fn read_pool<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SandboxWarmPool>, WriteError>> {
        Box::pin(async move { self.look(|state| state.pools.get(name).cloned()) })
    }

    fn list_pools(&self) -> BoxFuture<'_, Result<Vec<SandboxWarmPool>, WriteError>> {
        Box::pin(async move { self.look(|state| state.pools.values().cloned().collect()) })
    }

    fn list_templates(&self) -> BoxFuture<'_, Result<Vec<SandboxTemplate>, WriteError>> {
        Box::pin(async move { self.look(|state| state.templates.values().cloned().collect()) })
    }

    fn read_log<'a>(
        &'a self,
        pod: &'a str,
        query: &'a LogQuery,
    ) -> BoxFuture<'a, Result<Option<Bytes>, WriteError>> {
        Box::pin(async move {
            self.look(|state| {
                state.log_queries.push(query.clone());
                match state.log_fails.clone() {
                    Some(error) => Err(error),
                    None => Ok(state.logs.get(pod).cloned()),
                }
            })?
        })
    }

    fn read_events<'a>(
        &'a self,
        name: &'a str,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<SlimEvent>, WriteError>> {
        Box::pin(async move {
            self.look(|state| {
                let about = state.events.iter().filter(|event| event.involved_object.name == name);
                about.take(most as usize).cloned().collect()
            })
        })
    }

    fn patch_session<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move { self.patch(name, &precondition, &patch, "spec") })
    }

    fn patch_session_status<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move { self.patch(name, &precondition, &patch, "status") })
    }

    fn create_agent<'a>(&'a self, agent: &'a Agent) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            let name = agent.metadata.name.clone().unwrap();
            self.write(Write::CreateAgent, &name.clone(), |state| {
                if state.agents.contains_key(&name) {
                    return Err(WriteError::AlreadyExists);
                }
                let mut agent = agent.clone();
                agent.metadata.uid = Some(format!("uid-{name}"));
                agent.metadata.resource_version = Some(state.next_version());
                agent.metadata.creation_timestamp =
                    serde_json::from_value(json!("2026-02-02T00:00:00Z")).unwrap();
                let written = as_written(&agent);
                state.agents.insert(name, agent.clone());
                state.tell_of_agent(&self.index, Event::Applied(agent));
                Ok(written)
            })
        })
    }

    fn patch_agent<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            self.write(Write::PatchAgent, name, |state| {
                let version = state.next_version();
                let agent = patched(state.agents.get(name), &precondition, &patch, version)?;
                let written = as_written(&agent);
                state.agents.insert(name.to_owned(), agent.clone());
                state.tell_of_agent(&self.index, Event::Applied(agent));
                Ok(written)
            })
        })
    }

    fn delete_agent<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            self.write(Write::DeleteAgent, name, |state| {
                let Some(agent) = state.agents.get(name).cloned() else { return Ok(()) };
                if agent.metadata.uid.as_deref() != Some(&precondition.uid) {
                    return Err(WriteError::Conflict);
                }
                state.agents.remove(name);
                // The garbage collector.
                state.secrets.retain(|_, secret| {
                    let owners = secret.metadata.owner_references.iter().flatten();
                    !owners.into_iter().any(|owner| owner.uid == precondition.uid)
                });
                state.tell_of_agent(&self.index, Event::Deleted(agent));
                Ok(())
            })
        })
    }

    fn create_secret<'a>(&'a self, secret: &'a Secret) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            let name = secret.metadata.name.clone().unwrap();
            self.write(Write::CreateSecret, &name.clone(), |state| {
                if state.secrets.contains_key(&name) {
                    return Err(WriteError::AlreadyExists);
                }
                let mut secret = secret.clone();
                secret.metadata.uid = Some(format!("uid-{name}"));
                secret.metadata.resource_version = Some(state.next_version());
                let written = as_written(&secret);
                state.secrets.insert(name, secret);
                Ok(written)
            })
        })
    }

    fn read_secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SlimSecret>, WriteError>> {
        Box::pin(async move {
            let secret = self.secret(name);
            Ok(secret.map(|secret| serde_json::from_value(serde_json::to_value(secret).unwrap()).unwrap()))
        })
    }

    fn patch_secret<'a>(
        &'a self,
        name: &'a str,
        precondition: Precondition,
        patch: Value,
    ) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            self.write(Write::PatchSecret, name, |state| {
                let version = state.next_version();
                let secret = patched(state.secrets.get(name), &precondition, &patch, version)?;
                let written = as_written(&secret);
                state.secrets.insert(name.to_owned(), secret);
                Ok(written)
            })
        })
    }
}
