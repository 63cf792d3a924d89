//! What the API server, the kubelet, the runners and the garbage collector do, as far as the engine can see.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use paddock_api::session::Phase;
use paddock_api::{Agent, Sandbox, SandboxTemplate, SandboxWarmPool, Session, labels};
use paddock_core::ids::{controller_uid, label, uid};
use paddock_core::op::{
    Op, Outcome, Patch, Refresh, Refreshed, RunnerFailure, RunnerRef, Target, WriteFailure,
};
use paddock_core::pod::{Pod, PodPhase};
use paddock_core::store::Stored;
use paddock_core::{Change, Engine, Key, Node, VolumeClaim};
use paddock_runnerapi::{
    ActivateResponse, ActivationProgress, ActivationStep, Activity, Capabilities, Position, Saved, StepTook,
    TurnCounts,
};

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
    VolumeClaim(Change<VolumeClaim>),
    Node(Change<Node>),
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
            Self::VolumeClaim(change) => engine.volume_claims_changed(change, now),
            Self::Node(change) => engine.nodes_changed(change, now),
        }
    }
}

/// What a runner knows of its session's use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub last_busy: Timestamp,
    pub turns: u64,
    pub quiesced: bool,
}

/// What runners have to do before they serve a session.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Steps, and how long each takes.
    pub steps: Vec<(ActivationStep, SignedDuration)>,
    /// It comes to this in the end.
    pub fails: Option<String>,
    /// When which pod was first given its session.
    begun: BTreeMap<String, Timestamp>,
}

fn took(step: ActivationStep, takes: SignedDuration) -> StepTook {
    StepTook { step, took_ms: u64::try_from(takes.as_millis()).unwrap() }
}

/// The truth.
#[derive(Clone, Debug, Default)]
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
    pub volume_claims: BTreeMap<Key, VolumeClaim>,
    /// When the session of each pod, by UID, was last busy, and whether it takes turns.
    pub usage: BTreeMap<String, Usage>,
    /// Which session UID each pod UID serves: the runners' locks. Never shrinks.
    pub runners: BTreeMap<String, String>,
    /// What each runner has to do at its activation.
    pub work: Work,
    /// Every event ever, in order.
    pub events: Vec<Event>,
    /// There may be two leaders, or one with a view of long ago.
    pub rivals: bool,
    /// Pods that stay for as long as they are here once they are told to go.
    pub slow_to_end: BTreeSet<Key>,
    /// Volume claims that somebody else has deleted.
    pub lost_claims: BTreeSet<Key>,
    /// Number of writes that were done.
    pub writes: u64,
    /// Pods of these templates never get a node.
    pub broken_templates: BTreeSet<String>,
    /// Pods of these templates have scheduling gates, which nobody lifts.
    pub gated_templates: BTreeSet<String>,
    /// Pods of these templates get a node and never become ready.
    pub stuck_templates: BTreeSet<String>,
    /// Nodes; while there are none, pods run on one that nobody has heard of.
    pub nodes: BTreeMap<Key, Node>,
    /// Gateways are there, and their store takes what they save.
    pub gateways_save: bool,
    /// How many pods the namespace may have.
    pub quota: Option<usize>,
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
        let before = session.spec.clone();
        change(session);
        if session.spec != before {
            session.metadata.generation = session.metadata.generation.map(|n| n + 1);
        }
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

    pub fn change_agent(&mut self, key: &Key, change: impl FnOnce(&mut Agent)) {
        let version = self.next_version();
        let agent = self.agents.get_mut(key).unwrap();
        change(agent);
        agent.metadata.resource_version = Some(version);
        agent.metadata.generation = agent.metadata.generation.map(|n| n + 1);
        self.events.push(Event::Agent(Change::Applied(agent.clone())));
    }

    pub fn delete_agent(&mut self, key: &Key) {
        let agent = self.agents.remove(key).unwrap();
        self.events.push(Event::Agent(Change::Deleted(agent)));
    }

    pub fn lose_volume_claim(&mut self, key: &Key) {
        let claim = self.volume_claims.remove(key).unwrap();
        self.lost_claims.insert(key.clone());
        self.events.push(Event::VolumeClaim(Change::Deleted(claim)));
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

    /// A node as it is now.
    pub fn put_node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let mut node = self.nodes.get(&Key::new("", name)).cloned().unwrap_or_else(|| Node {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            ..Node::default()
        });
        change(&mut node);
        node.resource_version = self.next_version();
        self.nodes.insert(node.key(), node.clone());
        self.events.push(Event::Node(Change::Applied(node)));
    }

    /// The node that the scheduler chooses.
    fn free_node(&self) -> Option<String> {
        if self.nodes.is_empty() {
            return Some("node1".to_owned());
        }
        let free = |node: &&Node| !node.cordoned && node.not_ready.is_none();
        self.nodes.values().find(free).map(|node| node.name.clone())
    }

    /// The scheduler: pods that wait get a node, or hear why not.
    fn schedule(&mut self) {
        let free = self.free_node();
        let waiting: Vec<Pod> = self
            .pods
            .values()
            .filter(|p| p.node.is_none() && !p.gated && !p.deleting && p.phase == PodPhase::Pending)
            .filter(|p| !is_of(p, &self.broken_templates))
            .cloned()
            .collect();
        for mut pod in waiting {
            match &free {
                Some(node) => {
                    pod.node = Some(node.clone());
                    pod.scheduled = Some(self.now);
                    pod.unschedulable = None;
                }
                None if pod.unschedulable.is_none() => {
                    pod.unschedulable = Some("0/1 nodes are available".to_owned());
                }
                None => continue,
            }
            self.replace_pod(pod);
        }
    }

    // What the cluster does by itself.

    /// The gateways save the transcripts that are asked for, and say so.
    pub fn save_transcripts(&mut self) {
        let asked: Vec<(Key, String, Position)> = self
            .sessions
            .iter()
            .filter_map(|(key, session)| {
                let status = session.status.as_ref()?;
                Some((
                    key.clone(),
                    status.pod.as_ref()?.uid.clone(),
                    status.transcript_wanted.as_ref()?.parse().unwrap(),
                ))
            })
            .collect();
        for (key, pod_uid, through) in asked {
            let saved = Saved { pod_uid, through }.to_string();
            let known = self.sessions[&key]
                .metadata
                .annotations
                .as_ref()
                .and_then(|a| a.get(labels::TRANSCRIPT_SAVED));
            if known != Some(&saved) {
                self.change_session(&key, |session| {
                    let annotations = session.metadata.annotations.get_or_insert_default();
                    annotations.insert(labels::TRANSCRIPT_SAVED.to_owned(), saved);
                });
            }
        }
    }

    /// Kubelet and garbage collector catch up with the clock.
    pub fn live(&mut self) {
        if self.gateways_save {
            self.save_transcripts();
        }
        self.schedule();
        let keys: Vec<Key> = self.pods.keys().cloned().collect();
        for key in keys {
            let mut pod = self.pods[&key].clone();
            let broken = is_of(&pod, &self.broken_templates) || is_of(&pod, &self.stuck_templates);
            let on_node = pod.node.is_some() && !self.is_silent(&pod);
            let mounted = pod
                .volume_claims
                .iter()
                .all(|claim| self.volume_claims.contains_key(&Key::new(key.namespace.clone(), claim)));
            // Each runner waits for the lock on its volume.
            let locked = self.pods.values().any(|other| {
                other.uid != pod.uid
                    && other.phase == PodPhase::Running
                    && other.volume_claims.iter().any(|claim| pod.volume_claims.contains(claim))
            });
            if !broken
                && on_node
                && mounted
                && !locked
                && pod.phase == PodPhase::Pending
                && pod.scheduled.or(pod.created).unwrap() + BOOT <= self.now
            {
                pod.phase = PodPhase::Running;
                pod.ready = true;
                pod.ip = Some(format!("10.0.{}.{}", self.uids / 250, self.uids % 250));
                pod.ready_changed = Some(self.now);
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
        let orphans: Vec<Key> = self
            .volume_claims
            .iter()
            .filter(|(_, c)| c.owner_uid.as_ref().is_some_and(|owner| !owners.contains(owner)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in orphans {
            let claim = self.volume_claims.remove(&key).unwrap();
            self.events.push(Event::VolumeClaim(Change::Deleted(claim)));
        }
        let alive: BTreeSet<String> = self.sandboxes.values().map(|s| uid(&s.metadata).to_owned()).collect();
        let orphans: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_, p)| p.owner_uid.as_ref().is_some_and(|owner| !alive.contains(owner)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in orphans {
            if self.slow_to_end.contains(&key) || self.is_silent(&self.pods[&key]) {
                let mut pod = self.pods[&key].clone();
                if !pod.deleting {
                    pod.deleting = true;
                    self.replace_pod(pod);
                }
            } else {
                self.delete_pod(&key);
            }
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
                if self.quota.is_some_and(|quota| self.pods.len() >= quota) {
                    let message = "pods is forbidden: exceeded quota".to_owned();
                    return Outcome::Failed(WriteFailure::Rejected { status: 403, message });
                }
                self.uids += 1;
                pod.uid = format!("uid-{}", self.uids);
                pod.resource_version = self.next_version();
                let template = pod.labels.get(labels::TEMPLATE_REF_HASH).cloned().unwrap_or_default();
                pod.gated = self.gated_templates.contains(&template);
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
            Op::CreateVolumeClaim(new) => {
                let mut claim = new.after.clone();
                if self.volume_claims.contains_key(&claim.key()) {
                    return Outcome::Failed(WriteFailure::AlreadyExists);
                }
                self.uids += 1;
                claim.uid = format!("uid-{}", self.uids);
                claim.resource_version = self.next_version();
                self.writes += 1;
                self.volume_claims.insert(claim.key(), claim.clone());
                let outcome = written(&claim);
                self.events.push(Event::VolumeClaim(Change::Applied(claim)));
                outcome
            }
            Op::PatchVolumeClaim(patch) => {
                self.patch(patch, |c| &mut c.volume_claims, |_, new| new.clone(), Event::VolumeClaim)
            }
            Op::PatchSession(patch) => self.patch(
                patch,
                |c| &mut c.sessions,
                |old, new| Session { spec: new.spec.clone(), ..old.clone() },
                Event::Session,
            ),
            Op::DeleteSession(target) => match self.sessions.get(&target.key) {
                None => Outcome::Deleted,
                Some(found) if matches_target(found, target) => {
                    self.delete_session(&target.key);
                    self.writes += 1;
                    Outcome::Deleted
                }
                Some(_) => Outcome::Failed(WriteFailure::Conflict),
            },
            Op::ReadActivity(runner) => self.activity(runner, None),
            Op::Quiesce(runner, if_idle_ms) => self.activity(runner, Some(*if_idle_ms)),
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
            return Outcome::Refused(RunnerFailure::Unavailable("refused".into()));
        }
        let holder = self.runners.entry(pod_uid.to_owned()).or_insert_with(|| request.session.uid.clone());
        if *holder != request.session.uid {
            return Outcome::Refused(RunnerFailure::Spoilt("taken".into()));
        }
        let now = self.now;
        let mut until = *self.work.begun.entry(pod_uid.to_owned()).or_insert(now);
        for (step, takes) in &self.work.steps {
            until += *takes;
            if now < until {
                let took = took(*step, *takes - until.duration_since(now));
                return Outcome::Activating(ActivationProgress { step: took.step, took_ms: took.took_ms });
            }
        }
        if let Some(why) = &self.work.fails {
            return Outcome::Refused(RunnerFailure::Failed(why.clone()));
        }
        self.usage.entry(pod_uid.to_owned()).or_insert(Usage { last_busy: now, turns: 0, quiesced: false });
        Outcome::Activated(ActivateResponse {
            session_uid: request.session.uid.clone(),
            incarnation: request.incarnation,
            harness_session_id: format!("ses_{pod_uid}"),
            capabilities: Capabilities { messages: true, terminal: false },
            took_ms: 1,
            steps: self.work.steps.iter().map(|(step, takes)| took(*step, *takes)).collect(),
        })
    }

    /// What the session's runner answers, and does when it is asked to come to rest.
    fn activity(&mut self, runner: &RunnerRef, quiesce: Option<Option<u64>>) -> Outcome {
        let serving = self.pods.values().any(|p| p.uid == runner.pod_uid && p.serving_ip().is_some());
        if !serving || self.runners.get(&runner.pod_uid) != Some(&runner.session_uid) {
            return Outcome::Refused(RunnerFailure::Unavailable("refused".into()));
        }
        let now = self.now;
        let usage = self.usage.entry(runner.pod_uid.clone()).or_default();
        let idle_ms = u64::try_from(now.duration_since(usage.last_busy).as_millis()).unwrap();
        if let Some(if_idle_ms) = quiesce {
            if if_idle_ms.is_some_and(|wanted| idle_ms < wanted) {
                return Outcome::Refused(RunnerFailure::Busy);
            }
            usage.quiesced = true;
        }
        Outcome::Activity(Activity {
            idle_ms,
            turns: TurnCounts { total: usage.turns, ..TurnCounts::default() },
            quiesced: usage.quiesced,
            transcript: Position { journal: 1, seq: usage.turns * 100 },
        })
    }

    /// A turn in the session's pod; false when there is no pod that takes it.
    pub fn turn(&mut self, session: &Key) -> bool {
        let pod = self.sessions[session].status.as_ref().and_then(|s| s.pod.clone());
        let Some(pod) = pod.filter(|pod| self.pods.values().any(|p| p.uid == pod.uid)) else { return false };
        let now = self.now;
        let usage = self.usage.entry(pod.uid).or_default();
        if usage.quiesced {
            return false;
        }
        usage.last_busy = now;
        usage.turns += 1;
        true
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
            Refresh::VolumeClaim(named) => {
                Refreshed::VolumeClaim(self.volume_claims.get(&named.key).cloned().map(Box::new))
            }
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
            Event::VolumeClaim(all(&self.volume_claims)),
            Event::Node(all(&self.nodes)),
        ]
    }

    /// The safety promises S1 to S3 of docs/promises.md, as far as this model reaches, and that no session's files are
    /// lost or shared.
    pub fn check_safety(&self, surge: usize) {
        for (key, session) in &self.sessions {
            let Some(status) = session.status.as_ref() else { continue };
            // One that never served has nothing in its volume.
            if let Some(workspace) = status.workspace.as_ref().filter(|_| status.harness_session_id.is_some())
            {
                let claim = Key::new(key.namespace.clone(), workspace.claim_name.clone());
                let safe = self.volume_claims.contains_key(&claim) || self.lost_claims.contains(&claim);
                assert!(safe, "the files of session {key} are lost");
            }
        }
        // A rival leader with a stale view may make a second pod on a volume. It waits there for the runner's lock, until it
        // is collected with the sandbox that it belonged to.
        let mut mounted = BTreeSet::new();
        for pod in self.pods.values().filter(|_| !self.rivals) {
            for claim in &pod.volume_claims {
                assert!(mounted.insert(claim), "two pods mount the volume claim {claim}");
            }
        }
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
        let wanted: usize = self.pools.values().map(largest).sum();
        let live = self
            .sessions
            .values()
            .filter(|s| s.status.as_ref().is_none_or(|s| !s.phase.is_final() && s.phase != Phase::Suspended))
            .count();
        // What is on its way out on a lost node stays there until the node is back.
        let pods = self.pods.values().filter(|pod| !pod.deleting || !self.is_silent(pod)).count();
        assert!(
            pods <= wanted + live + surge,
            "{pods} pods for pools of {wanted}, {live} live sessions and a surge of {surge}"
        );
    }

    fn is_silent(&self, pod: &Pod) -> bool {
        let node = pod.node.as_ref().and_then(|node| self.nodes.get(&Key::new("", node)));
        node.is_some_and(|node| node.not_ready.is_some())
    }
}

fn is_of(pod: &Pod, templates: &BTreeSet<String>) -> bool {
    pod.labels.get(labels::TEMPLATE_REF_HASH).is_some_and(|template| templates.contains(template))
}

/// The size that a pool may have.
fn largest(pool: &SandboxWarmPool) -> usize {
    let asked = pool.metadata.annotations.as_ref().and_then(|a| a.get(labels::MAX_REPLICAS)?.parse().ok());
    asked.unwrap_or_else(|| usize::try_from(pool.spec.replicas).unwrap())
}

fn matches_target<K: Stored>(found: &K, target: &Target) -> bool {
    found.uid() == target.uid && found.resource_version() == target.resource_version
}

fn written<K: Stored>(object: &K) -> Outcome {
    Outcome::Written { uid: object.uid().to_owned(), resource_version: object.resource_version().to_owned() }
}
