//! Which decisions a change may alter.

use std::collections::BTreeSet;

use jiff::Timestamp;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session, labels};

use crate::engine::{Change, Engine, Work};
use crate::ids::{Key, label, uid};
use crate::node::Node;
use crate::pod::Pod;
use crate::pool::Account;
use crate::session::agent_of;
use crate::store::{Kept, Store, Stored};
use crate::volume_claim::VolumeClaim;

/// What a change of one kind touches.
pub(super) trait Watched: Kept {
    /// Marks what depends on the object of this name. Called while the object is in the store: before it is
    /// removed and after it was put in.
    fn touch(engine: &mut Engine, key: &Key);
}

macro_rules! watched {
    ($kind:ty, $touch:path) => {
        impl Watched for $kind {
            fn touch(engine: &mut Engine, key: &Key) {
                $touch(engine, key);
            }
        }
    };
}
watched!(Session, Engine::touch_session);
watched!(Agent, Engine::touch_agent);
watched!(SandboxTemplate, Engine::touch_template);
watched!(SandboxWarmPool, Engine::touch_pool);
watched!(Sandbox, Engine::touch_sandbox);
watched!(Pod, Engine::touch_sandbox);
watched!(VolumeClaim, Engine::touch_volume_claim);
watched!(Node, Engine::touch_node);

impl Engine {
    pub(super) fn apply<K: Watched>(&mut self, change: Change<K>, now: Timestamp) {
        match change {
            Change::Applied(object) => self.observe(object),
            Change::Deleted(object) => self.forget::<K>(&object.key(), object.uid()),
            Change::Synced(objects) => {
                for (key, uid) in self.store.missing_from(&objects, now) {
                    self.forget::<K>(&key, &uid);
                }
                for object in objects {
                    self.observe(object);
                }
            }
        }
    }

    pub(super) fn observe<K: Watched>(&mut self, object: K) {
        self.take_in(object, |store, object| {
            store.observe(object);
        });
    }

    /// Takes in what a read has found. Unlike a watch's events, its answer may be older than what was seen.
    pub(super) fn found<K: Watched>(&mut self, object: K, now: Timestamp) {
        if !self.store.is_gone::<K>(object.uid()) {
            self.take_in(object, |store, object| store.read(object, now));
        }
    }

    /// Lets `put` bring `object` into the store, and marks what depends on it where it is news.
    fn take_in<K: Watched>(&mut self, object: K, put: impl FnOnce(&mut Store, K)) {
        let key = object.key();
        if !self.store.is_news(&object) {
            // The echo of our own write, mostly: noted as seen, and nothing to decide.
            put(&mut self.store, object);
            return;
        }
        // What it was before may have concerned others than what it is now.
        K::touch(self, &key);
        put(&mut self.store, object);
        K::touch(self, &key);
    }

    pub(super) fn forget<K: Watched>(&mut self, key: &Key, uid: &str) {
        K::touch(self, key);
        self.store.remove::<K>(key, uid);
    }

    pub(super) fn all_work(&self) -> BTreeSet<Work> {
        let store = &self.store;
        let mut all = BTreeSet::new();
        all.extend(store.sessions.iter().map(|o| Work::Session(o.key())));
        all.extend(store.sandboxes.iter().map(|o| Work::Sandbox(Stored::key(o))));
        all.extend(store.pools.iter().map(|o| Work::Pool(o.key())));
        all.extend(store.agents.iter().map(|o| Work::Agent(o.key())));
        all
    }

    /// The session itself, the sandboxes assigned to it, and the agent where it counts its sessions.
    pub(super) fn touch_session(&mut self, key: &Key) {
        self.dirty.insert(Work::Session(key.clone()));
        if let Some(session) = self.store.sessions.get(key) {
            if let Some(agent) =
                agent_of(&self.store, session).filter(|agent| agent.spec.max_sessions.is_some())
            {
                self.dirty.insert(Work::Agent(agent.key()));
            }
            let sandboxes: Vec<Key> =
                self.store.sandboxes_of_session(uid(&session.metadata)).map(Stored::key).collect();
            self.dirty.extend(sandboxes.into_iter().map(Work::Sandbox));
        }
    }

    /// A sandbox, or the pod of its name; with its session and its pool.
    pub(super) fn touch_sandbox(&mut self, key: &Key) {
        self.dirty.insert(Work::Sandbox(key.clone()));
        // Labels may say nothing of a session: those of a pod come late, and its Sandbox may have been deleted by somebody.
        self.dirty.extend(self.store.sessions_at(key).cloned().map(Work::Session));
        // A pod outlives its Sandbox for a while; its session and its pool must hear of its end all the same.
        if let Some(pod) = self.store.pods.get(key) {
            if let Some(session) = pod.labels.get(labels::SESSION) {
                self.dirty.insert(Work::Session(Key::new(key.namespace.clone(), session.clone())));
            }
            let pools = self.store.pools_in(&key.namespace).filter(|pool| Account::of(pool).has(pod));
            self.dirty.extend(pools.map(Stored::key).map(Work::Pool));
        }
        let Some(sandbox) = self.store.sandboxes.get(key) else { return };
        if let Some(session) = label(&sandbox.metadata, labels::SESSION) {
            self.dirty.insert(Work::Session(Key::new(key.namespace.clone(), session)));
            return;
        }
        let Some(pool) = self.pool_of(sandbox).map(Stored::key) else { return };
        self.dirty.insert(Work::Pool(pool));
        if self.store.pods.get(key).is_some_and(|pod| pod.serving_ip().is_some()) {
            // A member that may be taken.
            let hopeful = self.hopeful.iter().filter(|session| session.namespace == key.namespace);
            self.dirty.extend(hopeful.cloned().map(Work::Session));
        }
    }

    /// The pods on a node, with their pools and sessions.
    fn touch_node(&mut self, key: &Key) {
        let pods: Vec<Key> = self.store.pods_on(&key.name).cloned().collect();
        for pod in pods {
            self.touch_sandbox(&pod);
        }
    }

    /// The sandbox that a volume claim was made for, and the session that has it now.
    fn touch_volume_claim(&mut self, key: &Key) {
        let Some(claim) = self.store.volume_claims.get(key) else { return };
        let session = claim.labels.get(labels::SESSION).map(|name| Key::new(key.namespace.clone(), name));
        let sandbox = claim.labels.get(labels::SANDBOX).map(|name| Key::new(key.namespace.clone(), name));
        self.dirty.extend(session.map(Work::Session));
        if let Some(sandbox) = sandbox {
            self.touch_sandbox(&sandbox);
        }
    }

    fn touch_pool(&mut self, key: &Key) {
        self.dirty.insert(Work::Pool(key.clone()));
        self.touch_waiting(&key.namespace);
    }

    fn touch_template(&mut self, key: &Key) {
        let pools: Vec<Key> = self
            .store
            .pools_in(&key.namespace)
            .filter(|p| p.spec.sandbox_template_ref.name == key.name)
            .map(Stored::key)
            .collect();
        self.dirty.extend(pools.into_iter().map(Work::Pool));
        self.touch_waiting(&key.namespace);
    }

    fn touch_agent(&mut self, key: &Key) {
        self.dirty.insert(Work::Agent(key.clone()));
        self.touch_waiting_sessions(&key.namespace);
    }

    /// Everything in a namespace that may have waited for a pool or a template.
    fn touch_waiting(&mut self, namespace: &str) {
        let agents: Vec<Key> = self.store.agents.in_namespace(namespace).map(Stored::key).collect();
        self.dirty.extend(agents.into_iter().map(Work::Agent));
        self.touch_waiting_sessions(namespace);
    }

    fn touch_waiting_sessions(&mut self, namespace: &str) {
        self.dirty.extend(self.store.starting_in(namespace).cloned().map(Work::Session));
    }
}
