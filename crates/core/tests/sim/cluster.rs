//! What the API server, the kubelet, the runners and the garbage collector do, as far as the engine can see.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use paddock_api::session::Phase;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session, labels};
use paddock_core::ids::{controller_uid, label, uid};
use paddock_core::op::{ActivationFailure, Op, Outcome, Patch, Refresh, Refreshed, Target, WriteFailure};
use paddock_core::pod::{Pod, PodPhase};
use paddock_core::store::Stored;
use paddock_core::{Change, Engine, Key};
use paddock_runnerapi::{ActivateResponse, Capabilities};

/// How long a pod takes until it is ready.
pub const BOOT: SignedDuration = SignedDuration::from_secs(8);

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum Event {
    Session(Change<Session>),
    Agent(Change<Agent>),
    Template(Change<SandboxTemplate>),
    Pool(Change<SandboxWarmPool>),
    Sandbox(Change<Sandbox>),
    Pod(Change<Pod>),
}

impl Event {
    pub fn feed(self, engine: &mut Engine, now: Timestamp) {
        match self {
            Self::Session(change) => engine.sessions_changed(change, now),
            Self::Agent(change) => engine.agents_changed(change, now),
            Self::Template(change) => engine.templates_changed(change, now),
            Self::Pool(change) => engine.pools_changed(change, now),
            Self::Sandbox(change) => engine.sandboxes_changed(change, now),
            Self::Pod(change) => engine.pods_changed(change, now),
        }
    }
}

/// The truth.
#[derive(Debug, Default)]
pub struct Cluster {
    pub now: Timestamp,
    version: u64,
    uids: u64,
    pub sessions: BTreeMap<Key, Session>,
    pub agents: BTreeMap<Key, Agent>,
    pub templates: BTreeMap<Key, SandboxTemplate>,
    pub pools: BTreeMap<Key, SandboxWarmPool>,
    pub sandboxes: BTreeMap<Key, Sandbox>,
    pub pods: BTreeMap<Key, Pod>,
    /// Which session UID each pod UID serves: the runners' locks. Never shrinks.
    pub runners: BTreeMap<String, String>,
    /// Every event ever, in order.
    pub events: Vec<Event>,
    /// Number of writes that were done.
    pub writes: u64,
    /// Pods of these templates never become ready.
    pub broken_templates: BTreeSet<String>,
}

impl Cluster {
    pub fn new() -> Self {
        Self { now: Timestamp::from_second(1_000_000).unwrap(), ..Self::default() }
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn born(&mut self, meta: &mut ObjectMeta) {
        self.uids += 1;
        meta.uid = Some(format!("uid-{}", self.uids));
        meta.resource_version = Some(self.next_version());
        meta.creation_timestamp = Some(Time(self.now));
        meta.generation = Some(1);
    }

    // What a user does.

    pub fn add_session(&mut self, mut session: Session) {
        self.born(&mut session.metadata);
        self.sessions.insert(session.key(), session.clone());
        self.events.push(Event::Session(Change::Applied(session)));
    }

    pub fn add_agent(&mut self, mut agent: Agent) {
        self.born(&mut agent.metadata);
        self.agents.insert(agent.key(), agent.clone());
        self.events.push(Event::Agent(Change::Applied(agent)));
    }

    pub fn put_template(&mut self, mut template: SandboxTemplate) {
        self.born(&mut template.metadata);
        self.templates.insert(template.key(), template.clone());
        self.events.push(Event::Template(Change::Applied(template)));
    }

    pub fn add_pool(&mut self, mut pool: SandboxWarmPool) {
        self.born(&mut pool.metadata);
        self.pools.insert(pool.key(), pool.clone());
        self.events.push(Event::Pool(Change::Applied(pool)));
    }

    pub fn change_session(&mut self, key: &Key, change: impl FnOnce(&mut Session)) {
        let version = self.next_version();
        let session = self.sessions.get_mut(key).unwrap();
        change(session);
        session.metadata.resource_version = Some(version);
        self.events.push(Event::Session(Change::Applied(session.clone())));
    }

    pub fn change_pool(&mut self, key: &Key, change: impl FnOnce(&mut SandboxWarmPool)) {
        let version = self.next_version();
        let pool = self.pools.get_mut(key).unwrap();
        change(pool);
        pool.metadata.resource_version = Some(version);
        self.events.push(Event::Pool(Change::Applied(pool.clone())));
    }

    pub fn delete_session(&mut self, key: &Key) {
        if let Some(session) = self.sessions.remove(key) {
            self.events.push(Event::Session(Change::Deleted(session)));
        }
    }

    pub fn delete_pod(&mut self, key: &Key) {
        if let Some(pod) = self.pods.remove(key) {
            self.events.push(Event::Pod(Change::Deleted(pod)));
        }
    }

    /// Puts a pod in the state the kubelet would report.
    pub fn replace_pod(&mut self, mut pod: Pod) {
        pod.resource_version = self.next_version();
        self.pods.insert(pod.key(), pod.clone());
        self.events.push(Event::Pod(Change::Applied(pod)));
    }

    // What the cluster does by itself.

    /// Kubelet and garbage collector catch up with the clock.
    pub fn live(&mut self) {
        let keys: Vec<Key> = self.pods.keys().cloned().collect();
        for key in keys {
            let mut pod = self.pods[&key].clone();
            let template = pod.labels.get(labels::TEMPLATE_REF_HASH).cloned().unwrap_or_default();
            let broken = self.broken_templates.contains(&template);
            if !broken && pod.phase == PodPhase::Pending && pod.created.unwrap() + BOOT <= self.now {
                pod.phase = PodPhase::Running;
                pod.ready = true;
                pod.ip = Some(format!("10.0.{}.{}", self.uids / 250, self.uids % 250));
                pod.node = Some("node1".into());
                pod.resource_version = self.next_version();
                self.pods.insert(key, pod.clone());
                self.events.push(Event::Pod(Change::Applied(pod)));
            }
        }
        let owners: BTreeSet<String> = self
            .sessions
            .values()
            .map(|o| &o.metadata)
            .chain(self.pools.values().map(|o| &o.metadata))
            .chain(self.sandboxes.values().map(|o| &o.metadata))
            .map(|meta| uid(meta).to_owned())
            .collect();
        let orphans: Vec<Key> = self
            .sandboxes
            .iter()
            .filter(|(_, s)| controller_uid(&s.metadata).is_some_and(|owner| !owners.contains(owner)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in orphans {
            let sandbox = self.sandboxes.remove(&key).unwrap();
            self.events.push(Event::Sandbox(Change::Deleted(sandbox)));
        }
        let alive: BTreeSet<String> = self.sandboxes.values().map(|s| uid(&s.metadata).to_owned()).collect();
        let orphans: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_, p)| p.owner_uid.as_ref().is_some_and(|owner| !alive.contains(owner)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in orphans {
            self.delete_pod(&key);
        }
    }

    // What the engine asks for.

    pub fn perform(&mut self, op: &Op) -> Outcome {
        match op {
            Op::CreateSandbox(sandbox) => {
                let mut sandbox = (**sandbox).clone();
                let key = Stored::key(&sandbox);
                if self.sandboxes.contains_key(&key) {
                    return Outcome::Failed(WriteFailure::AlreadyExists);
                }
                self.born(&mut sandbox.metadata);
                self.writes += 1;
                self.sandboxes.insert(key, sandbox.clone());
                let outcome = written(&sandbox);
                self.events.push(Event::Sandbox(Change::Applied(sandbox)));
                outcome
            }
            Op::CreatePod(new) => {
                let mut pod = new.after.clone();
                if self.pods.contains_key(&pod.key()) {
                    return Outcome::Failed(WriteFailure::AlreadyExists);
                }
                self.uids += 1;
                pod.uid = format!("uid-{}", self.uids);
                pod.resource_version = self.next_version();
                pod.created = Some(self.now);
                self.writes += 1;
                self.pods.insert(pod.key(), pod.clone());
                let outcome = written(&pod);
                self.events.push(Event::Pod(Change::Applied(pod)));
                outcome
            }
            Op::PatchSandbox(patch) | Op::PatchSandboxStatus(patch) => {
                let status_only = matches!(op, Op::PatchSandboxStatus(_));
                self.patch(
                    patch,
                    |c| &mut c.sandboxes,
                    |old, new| {
                        if status_only {
                            Sandbox { status: new.status.clone(), ..old.clone() }
                        } else {
                            new.clone()
                        }
                    },
                    Event::Sandbox,
                )
            }
            Op::PatchPod(patch) => self.patch(patch, |c| &mut c.pods, |_, new| new.clone(), Event::Pod),
            Op::PatchSessionStatus(patch) => self.patch(
                patch,
                |c| &mut c.sessions,
                |old, new| Session { status: new.status.clone(), ..old.clone() },
                Event::Session,
            ),
            Op::PatchPoolStatus(patch) => {
                self.patch(patch, |c| &mut c.pools, |_, new| new.clone(), Event::Pool)
            }
            Op::PatchAgentStatus(patch) => {
                self.patch(patch, |c| &mut c.agents, |_, new| new.clone(), Event::Agent)
            }
            Op::DeleteSandbox(target) => match self.sandboxes.get(&target.key) {
                None => Outcome::Deleted,
                Some(found) if matches_target(found, target) => {
                    let gone = self.sandboxes.remove(&target.key).unwrap();
                    self.writes += 1;
                    self.events.push(Event::Sandbox(Change::Deleted(gone)));
                    Outcome::Deleted
                }
                Some(_) => Outcome::Failed(WriteFailure::Conflict),
            },
            Op::DeletePod(target) => match self.pods.get(&target.key) {
                None => Outcome::Deleted,
                Some(found) if matches_target(found, target) => {
                    self.delete_pod(&target.key);
                    self.writes += 1;
                    Outcome::Deleted
                }
                Some(_) => Outcome::Failed(WriteFailure::Conflict),
            },
            Op::Activate(activation) => self.activate(&activation.pod_uid, &activation.request),
            Op::Refresh(refresh) => Outcome::Refreshed(self.refresh(refresh)),
        }
    }

    fn patch<K: Stored + Clone>(
        &mut self,
        patch: &Patch<K>,
        table: impl Fn(&mut Self) -> &mut BTreeMap<Key, K>,
        merge: impl FnOnce(&K, &K) -> K,
        event: impl FnOnce(Change<K>) -> Event,
    ) -> Outcome {
        let Some(old) = table(self).get(&patch.target.key).cloned() else {
            return Outcome::Failed(WriteFailure::NotFound);
        };
        if !matches_target(&old, &patch.target) {
            return Outcome::Failed(WriteFailure::Conflict);
        }
        let mut new = merge(&old, &patch.after);
        let version = self.next_version();
        new.stamp(old.uid(), &version);
        self.writes += 1;
        table(self).insert(patch.target.key.clone(), new.clone());
        let outcome = written(&new);
        self.events.push(event(Change::Applied(new)));
        outcome
    }

    fn activate(&mut self, pod_uid: &str, request: &paddock_runnerapi::ActivateRequest) -> Outcome {
        let serving = self.pods.values().any(|p| p.uid == pod_uid && p.serving_ip().is_some());
        if !serving {
            return Outcome::NotActivated(ActivationFailure::Unavailable("refused".into()));
        }
        let holder = self.runners.entry(pod_uid.to_owned()).or_insert_with(|| request.session.uid.clone());
        if *holder != request.session.uid {
            return Outcome::NotActivated(ActivationFailure::Spoilt("taken".into()));
        }
        Outcome::Activated(ActivateResponse {
            session_uid: request.session.uid.clone(),
            incarnation: request.incarnation,
            harness_session_id: format!("ses_{pod_uid}"),
            capabilities: Capabilities { messages: true, terminal: false },
            took_ms: 1,
        })
    }

    fn refresh(&self, refresh: &Refresh) -> Refreshed {
        match refresh {
            Refresh::Session(named) => {
                Refreshed::Session(self.sessions.get(&named.key).cloned().map(Box::new))
            }
            Refresh::Sandbox(named) => {
                Refreshed::Sandbox(self.sandboxes.get(&named.key).cloned().map(Box::new))
            }
            Refresh::Pod(named) => Refreshed::Pod(self.pods.get(&named.key).cloned().map(Box::new)),
            Refresh::Pool(named) => Refreshed::Pool(self.pools.get(&named.key).cloned().map(Box::new)),
            Refresh::Agent(named) => Refreshed::Agent(self.agents.get(&named.key).cloned().map(Box::new)),
            Refresh::Template(named) => {
                Refreshed::Template(self.templates.get(&named.key).cloned().map(Box::new))
            }
            Refresh::Claims { session_uid, .. } => Refreshed::Claims(
                self.sandboxes
                    .values()
                    .filter(|s| label(&s.metadata, labels::SESSION_UID) == Some(session_uid))
                    .cloned()
                    .collect(),
            ),
        }
    }

    /// Complete lists, as a watch begins with.
    pub fn lists(&self) -> Vec<Event> {
        fn all<K: Clone>(table: &BTreeMap<Key, K>) -> Change<K> {
            Change::Synced(table.values().cloned().collect())
        }
        vec![
            Event::Session(all(&self.sessions)),
            Event::Agent(all(&self.agents)),
            Event::Template(all(&self.templates)),
            Event::Pool(all(&self.pools)),
            Event::Sandbox(all(&self.sandboxes)),
            Event::Pod(all(&self.pods)),
        ]
    }

    /// The safety promises S1 to S3 of docs/promises.md, as far as this model reaches.
    pub fn check_safety(&self, surge: usize) {
        // S2: every Ready session names a pod that serves it and nobody else.
        let mut pods = BTreeSet::new();
        for session in self.sessions.values() {
            let Some(status) = session.status.as_ref().filter(|s| s.phase == Phase::Ready) else { continue };
            let pod = status.pod.as_ref().expect("a Ready session names its pod");
            assert!(pods.insert(pod.uid.clone()), "two Ready sessions share pod {}", pod.uid);
            assert_eq!(
                self.runners.get(&pod.uid).map(String::as_str),
                Some(uid(&session.metadata)),
                "Ready without the runner's confirmation"
            );
        }
        // S3: pods never exceed pools, live sessions and surge.
        let wanted: usize = self.pools.values().map(|p| usize::try_from(p.spec.replicas).unwrap()).sum();
        let live =
            self.sessions.values().filter(|s| s.status.as_ref().is_none_or(|s| !s.phase.is_final())).count();
        assert!(
            self.pods.len() <= wanted + live + surge,
            "{} pods for pools of {wanted}, {live} live sessions and a surge of {surge}",
            self.pods.len()
        );
    }
}

fn matches_target<K: Stored>(found: &K, target: &Target) -> bool {
    found.uid() == target.uid && found.resource_version() == target.resource_version
}

fn written<K: Stored>(object: &K) -> Outcome {
    Outcome::Written { uid: object.uid().to_owned(), resource_version: object.resource_version().to_owned() }
}
