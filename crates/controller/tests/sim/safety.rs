//! What must hold after every single change (promises.md, S1 to S6), as far as objects and runners show it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use paddock_api::labels;
use paddock_testkit::apiserver::{ApiServer, Change, Verb};
use serde_json::Value;
use tokio::time::Instant;

use crate::nodes::Nodes;
use crate::objects::{is_deleting, name, phase, text, uid};

/// How far decisions may lag behind the truth, and how many controllers decide.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// A controller may know what was true so long ago.
    pub lag: Duration,
    /// Pods beyond what is wanted: replacements, and what rivals make for the same need.
    pub surge: usize,
    /// For so long after a session has become Ready, a rival may still take its pod away: it decided before, and no
    /// precondition reaches from a sandbox to its session.
    pub rivalry: Duration,
}

#[derive(Debug)]
pub struct Safety {
    seen: usize,
    allowance: Allowance,
    sessions: BTreeMap<String, Value>,
    pools: BTreeMap<String, u64>,
    /// Sandboxes that are not on their way out, by `namespace/name`, with the UID of their owner.
    sandboxes: BTreeMap<String, String>,
    /// Pods by UID, with their `namespace/name` and whether they are on their way out.
    pods: BTreeMap<String, (String, bool)>,
    /// Since when each session has been Ready.
    ready_since: HashMap<String, Instant>,
    /// Which session each pod was ever said to serve, by UIDs.
    served: HashMap<String, String>,
    /// Which session each sandbox was ever assigned to, by UIDs.
    assigned: HashMap<String, String>,
    generations: HashMap<String, i64>,
    /// Pods wanted, since when.
    wanted: VecDeque<(Instant, usize)>,
    /// The most pods beyond what was wanted.
    pub most_beyond: i64,
}

impl Safety {
    pub fn new(allowance: Allowance) -> Self {
        Self {
            seen: 0,
            allowance,
            sessions: BTreeMap::new(),
            pools: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            pods: BTreeMap::new(),
            ready_since: HashMap::new(),
            served: HashMap::new(),
            assigned: HashMap::new(),
            generations: HashMap::new(),
            wanted: VecDeque::new(),
            most_beyond: i64::MIN,
        }
    }

    /// Allows so many pods beyond what is wanted.
    pub fn allow_surge(&mut self, surge: usize) {
        self.allowance.surge = surge;
    }

    /// Checks every change since the last time.
    pub fn catch_up(&mut self, server: &ApiServer, nodes: &Nodes, controllers: impl Fn(&str) -> bool) {
        let changes = server.changes(self.seen);
        self.seen += changes.len();
        for change in changes {
            let by_controller = controllers(&change.by);
            self.check(&change, nodes, by_controller);
        }
    }

    fn check(&mut self, change: &Change, nodes: &Nodes, by_controller: bool) {
        let object = &*change.after;
        match change.kind.plural.as_str() {
            "sessions" => self.session(change, object, nodes),
            "sandboxes" => self.sandbox(change, object, by_controller),
            "sandboxwarmpools" => {
                if change.gone || is_deleting(object) {
                    self.pools.remove(uid(object));
                } else {
                    self.pools
                        .insert(uid(object).to_owned(), object["spec"]["replicas"].as_u64().unwrap_or(0));
                }
                self.want(change.at);
            }
            "pods" => self.pod(change, object, by_controller),
            _ => {}
        }
        if by_controller {
            self.status(change, object);
        }
    }

    fn session(&mut self, change: &Change, session: &Value, nodes: &Nodes) {
        let session_uid = uid(session).to_owned();
        if change.gone {
            self.sessions.remove(&session_uid);
            self.want(change.at);
            return;
        }
        self.sessions.insert(session_uid.clone(), session.clone());
        self.want(change.at);
        if phase(session) != "Ready" {
            self.ready_since.remove(&session_uid);
            return;
        }
        self.ready_since.entry(session_uid.clone()).or_insert(change.at);
        let key = change.key();
        let pod = text(session, "/status/pod/uid").to_owned();
        assert!(!pod.is_empty(), "S2: Ready session {key} names no pod");
        let before = self.served.insert(pod.clone(), session_uid.clone());
        assert!(before.is_none_or(|before| before == session_uid), "S1: pod {pod} served two sessions");
        let claim = nodes.claims.get(&pod);
        assert_eq!(
            claim.map(|claim| claim.session_uid.as_str()),
            Some(session_uid.as_str()),
            "S1: session {key} is Ready without the confirmation of its pod's runner"
        );
        let incarnation = session["status"]["incarnation"].as_u64();
        assert_eq!(
            claim.map(|claim| u64::from(claim.incarnation)),
            incarnation,
            "S2: session {key} is Ready with the pod of another incarnation"
        );
        let others =
            self.sessions.values().filter(|other| uid(other) != session_uid && phase(other) == "Ready");
        for other in others {
            assert_ne!(text(other, "/status/pod/uid"), pod, "S2: {key} and {} share a pod", name(other));
        }
    }

    fn sandbox(&mut self, change: &Change, sandbox: &Value, by_controller: bool) {
        if change.gone || is_deleting(sandbox) {
            self.sandboxes.remove(&change.key());
        } else {
            let owner = text(sandbox, "/metadata/ownerReferences/0/uid").to_owned();
            self.sandboxes.insert(change.key(), owner);
        }
        let of = &sandbox["metadata"]["labels"][labels::SESSION_UID];
        let assigned = of.as_str().unwrap_or_default().to_owned();
        let before = self.assigned.get(uid(sandbox)).cloned();
        if let Some(before) = before {
            assert_eq!(before, assigned, "S1: sandbox {} was assigned to two sessions", change.key());
        } else if !assigned.is_empty() {
            self.assigned.insert(uid(sandbox).to_owned(), assigned.clone());
        }
        if change.verb == Verb::Delete && by_controller {
            self.may_go(change, &assigned, |session| text(session, "/status/sandbox/uid") == uid(sandbox));
        }
    }

    fn pod(&mut self, change: &Change, pod: &Value, by_controller: bool) {
        let pod_uid = uid(pod).to_owned();
        if change.gone {
            self.pods.remove(&pod_uid);
        } else {
            self.pods.insert(pod_uid.clone(), (change.key(), is_deleting(pod)));
        }
        if change.before.is_none() {
            self.surge(change);
        }
        if change.verb == Verb::Delete && by_controller {
            let session =
                text(pod, &format!("/metadata/labels/{}", labels::SESSION_UID.replace('/', "~1"))).to_owned();
            self.may_go(change, &session, |session| text(session, "/status/pod/uid") == pod_uid);
        }
    }

    /// S4: what a running session is served from is not taken from it.
    fn may_go(&self, change: &Change, session_uid: &str, serves: impl Fn(&Value) -> bool) {
        let Some(session) = self.sessions.get(session_uid) else { return };
        let restarts = session["spec"]["restartedAt"] != session["status"]["restartedAt"];
        let stays = phase(session) == "Ready"
            && text(session, "/spec/state") == "Running"
            && !restarts
            && !is_deleting(session)
            && self
                .ready_since
                .get(session_uid)
                .is_some_and(|since| *since + self.allowance.rivalry <= change.at)
            && serves(session);
        assert!(
            !stays,
            "S4: {} deleted {} {} of session {}, which is Ready",
            change.by,
            change.kind.kind,
            change.key(),
            name(session)
        );
    }

    fn want(&mut self, at: Instant) {
        let live = self
            .sessions
            .values()
            .filter(|session| !matches!(phase(session), "Failed" | "Dead" | "Suspended"))
            .count();
        let pools: u64 = self.pools.values().sum();
        self.wanted.push_back((at, live + usize::try_from(pools).unwrap()));
    }

    /// S3: a pod is made only where one is wanted.
    fn surge(&mut self, change: &Change) {
        // The last entry before the lag began was still the truth when it did.
        while self.wanted.len() > 1 && self.wanted[1].0 + self.allowance.lag < change.at {
            self.wanted.pop_front();
        }
        let wanted = self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(0);
        // What has lost its owner is the garbage collector's.
        let owned = |key: &String| {
            let owner = self.sandboxes.get(key);
            owner.is_some_and(|owner| self.sessions.contains_key(owner) || self.pools.contains_key(owner))
        };
        let staying = self.pods.values().filter(|(key, leaving)| !leaving && owned(key)).count();
        let beyond = i64::try_from(staying).unwrap() - i64::try_from(wanted).unwrap();
        self.most_beyond = self.most_beyond.max(beyond);
        assert!(
            staying <= wanted + self.allowance.surge,
            "S3: {} made pod {}: {staying} pods for {wanted} wanted and a surge of {}",
            change.by,
            change.key(),
            self.allowance.surge
        );
    }

    /// S6: a status never goes back, and times of transition move with their status only.
    fn status(&mut self, change: &Change, object: &Value) {
        let status = &object["status"];
        if let Some(generation) = status["observedGeneration"].as_i64() {
            let known = self.generations.entry(uid(object).to_owned()).or_insert(generation);
            assert!(
                *known <= generation,
                "S6: {} {} went back from generation {known} to {generation}",
                change.kind.kind,
                change.key()
            );
            *known = generation;
        }
        let Some(before) = &change.before else { return };
        if change.kind.plural == "sessions" {
            told_truly_of_its_transcript(change, before, object);
        }
        for condition in status["conditions"].as_array().into_iter().flatten() {
            let was = before["status"]["conditions"].as_array().into_iter().flatten();
            let Some(was) = was.into_iter().find(|was| was["type"] == condition["type"]) else { continue };
            let moved = was["lastTransitionTime"] != condition["lastTransitionTime"];
            let changed = was["status"] != condition["status"];
            assert!(
                !moved || changed,
                "S6: {} {}: the time of condition {} moved without it: {was} to {condition}",
                change.kind.kind,
                change.key(),
                condition["type"]
            );
        }
    }
}

/// A session is said to be saved only where a gateway has said so of the very pod that is given back.
fn told_truly_of_its_transcript(change: &Change, before: &Value, session: &Value) {
    let is_saved = |session: &Value| {
        let conditions = session["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|one| one["type"] == "TranscriptSaved" && one["status"] == "True")
    };
    if is_saved(session) && !is_saved(before) {
        let saved = text(session, "/metadata/annotations/paddock.dev~1transcript-saved");
        let pod = text(before, "/status/pod/uid");
        assert!(
            !pod.is_empty() && saved.starts_with(&format!("{pod}/")),
            "{} says that the transcript of {} is saved, and no gateway has said so: {saved:?} of pod {pod:?}",
            change.by,
            change.key()
        );
    }
}
