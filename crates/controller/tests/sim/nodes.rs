//! The machines: kubelets that boot and end pods, and the runners in those pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use paddock_runnerapi::{ActivationProgress, ActivationStep, Equipment};
use paddock_testkit::apiserver::{ApiServer, Call, Verb};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::objects::{is_deleting, name, text, uid};

/// The one node, which takes every pod.
const NODE: &str = "node1";

/// How pods live on these machines.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    /// Boot time in milliseconds, from and to.
    pub boot: (u64, u64),
    /// Time to end in milliseconds, from and to.
    pub end: (u64, u64),
}

/// What is known of one pod.
#[derive(Debug)]
struct Resident {
    key: (String, String),
    boots_at: Instant,
    ip: Option<String>,
    ends_at: Option<Instant>,
    claim: Option<Claim>,
    /// Since when its session is idle.
    busy_at: Instant,
    quiesced: bool,
}

/// A runner's lock: which session, and which of its incarnations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub session_uid: String,
    pub incarnation: u32,
}

/// All machines.
#[derive(Debug)]
pub struct Nodes {
    nature: Nature,
    dice: Dice,
    residents: BTreeMap<String, Resident>,
    /// Every lock ever taken, by pod UID.
    pub claims: HashMap<String, Claim>,
    /// The environment that each pod was last activated with, by pod UID.
    pub environments: HashMap<String, BTreeMap<String, String>>,
    /// How long pods take that have a repository to clone, and what comes of it where it fails.
    pub cloning: (Duration, Option<String>),
    /// What each pod was last activated with, and since when it has been busy with that, by pod UID.
    pub equipments: HashMap<String, (Equipment, Instant)>,
    seen_version: u64,
}

impl Nodes {
    pub fn new(nature: Nature, dice: Dice) -> Self {
        let (residents, claims, environments) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        let (cloning, equipments) = ((Duration::ZERO, None), HashMap::new());
        Self { nature, dice, residents, claims, environments, cloning, equipments, seen_version: 0 }
    }

    /// What a runner says before it serves a session: how far it is, or why it never will.
    pub fn equip(
        &mut self,
        pod_uid: &str,
        equipment: Equipment,
    ) -> Option<Result<ActivationProgress, String>> {
        let known = self.equipments.get(pod_uid);
        let begun = known.map_or_else(Instant::now, |(_, begun)| *begun);
        let clones = equipment.repo.is_some();
        self.equipments.insert(pod_uid.to_owned(), (equipment, begun));
        let (takes, fails) = &self.cloning;
        if clones && begun.elapsed() < *takes {
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
            return Some(Ok(ActivationProgress { step: ActivationStep::CloningRepo, took_ms }));
        }
        fails.clone().filter(|_| clones).map(Err)
    }

    pub fn set_nature(&mut self, nature: Nature) {
        self.nature = nature;
    }

    /// Lets all kubelets do what is due.
    pub fn live(&mut self, server: &ApiServer) {
        let version = server.version();
        if version != self.seen_version {
            self.seen_version = version;
            self.notice(server);
        }
        self.boot(server);
        self.end(server);
    }

    fn notice(&mut self, server: &ApiServer) {
        let now = Instant::now();
        let mut present = BTreeSet::new();
        for pod in server.objects("pods") {
            let pod_uid = uid(&pod).to_owned();
            present.insert(pod_uid.clone());
            let (boot, end) = (self.nature.boot, self.nature.end);
            let dice = &mut self.dice;
            let resident = self.residents.entry(pod_uid).or_insert_with(|| Resident {
                key: (text(&pod, "/metadata/namespace").to_owned(), name(&pod).to_owned()),
                boots_at: now + dice.millis(boot.0, boot.1),
                ip: None,
                ends_at: None,
                claim: None,
                busy_at: now,
                quiesced: false,
            });
            if is_deleting(&pod) && resident.ends_at.is_none() {
                resident.ends_at = Some(now + dice.millis(end.0, end.1));
            }
            if text(&pod, "/spec/nodeName").is_empty() {
                let (namespace, name) = resident.key.clone();
                let at = server.now().to_string();
                server.edit("scheduler", "pods", &namespace, &name, |pod| {
                    pod["spec"]["nodeName"] = NODE.into();
                    pod["status"]["conditions"] =
                        json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}]);
                });
            }
        }
        self.residents.retain(|pod_uid, _| present.contains(pod_uid));
        for claim in server.objects("persistentvolumeclaims") {
            if text(&claim, "/status/phase") == "Pending" {
                let (namespace, name) = (text(&claim, "/metadata/namespace"), name(&claim));
                server.edit("provisioner", "persistentvolumeclaims", namespace, name, |claim| {
                    claim["status"]["phase"] = "Bound".into();
                });
            }
        }
    }

    fn boot(&mut self, server: &ApiServer) {
        let now = Instant::now();
        let due: Vec<String> = self
            .residents
            .iter()
            .filter(|(_, resident)| {
                resident.ip.is_none() && resident.ends_at.is_none() && resident.boots_at <= now
            })
            .map(|(pod_uid, _)| pod_uid.clone())
            .collect();
        for pod_uid in due {
            // Addresses are given out again as soon as they are free.
            let taken: BTreeSet<&str> =
                self.residents.values().filter_map(|resident| resident.ip.as_deref()).collect();
            let ip = (1..).map(|n| format!("10.0.0.{n}")).find(|ip| !taken.contains(ip.as_str())).unwrap();
            let Some(resident) = self.residents.get_mut(&pod_uid) else { continue };
            resident.ip = Some(ip.clone());
            let (namespace, name) = resident.key.clone();
            let started = server.now().to_string();
            server.edit("kubelet", "pods", &namespace, &name, |pod| {
                if uid(pod) != pod_uid {
                    return;
                }
                pod["status"] = json!({
                    "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": started,
                    "conditions": [
                        {"type": "PodScheduled", "status": "True", "lastTransitionTime": started},
                        {"type": "Ready", "status": "True", "lastTransitionTime": started},
                    ],
                    "containerStatuses": [{"name": "harness", "ready": true, "restartCount": 0, "state": {"running": {}}}],
                });
            });
        }
    }

    fn end(&mut self, server: &ApiServer) {
        let now = Instant::now();
        let due: Vec<(String, (String, String))> = self
            .residents
            .iter()
            .filter(|(_, resident)| resident.ends_at.is_some_and(|at| at <= now))
            .map(|(pod_uid, resident)| (pod_uid.clone(), resident.key.clone()))
            .collect();
        for (pod_uid, (namespace, name)) in due {
            self.residents.remove(&pod_uid);
            let call = Call::to(server, Verb::Delete, "pods", &namespace, &name).unwrap();
            let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod_uid}});
            // A user may have forced it off already.
            let _ = server.request("kubelet", &call, options);
        }
    }

    /// A container ends by itself, and with it the pod.
    pub fn fail(&mut self, server: &ApiServer, pod: &Value) {
        let (namespace, name) = (text(pod, "/metadata/namespace"), name(pod));
        let at = server.now().to_string();
        server.edit("kubelet", "pods", namespace, name, |pod| {
            pod["status"]["phase"] = "Failed".into();
            pod["status"]["reason"] = "Evicted".into();
            pod["status"]["conditions"] =
                json!([{"type": "Ready", "status": "False", "lastTransitionTime": at}]);
        });
        if let Some(resident) = self.residents.get_mut(uid(pod)) {
            resident.ip = Some(String::new());
        }
    }

    /// A pod's probe fails or passes.
    pub fn set_ready(&mut self, server: &ApiServer, pod: &Value, ready: bool) {
        let (namespace, name) = (text(pod, "/metadata/namespace"), name(pod));
        let at = server.now().to_string();
        server.edit("kubelet", "pods", namespace, name, |pod| {
            let word = if ready { "True" } else { "False" };
            let runs = text(pod, "/status/phase") == "Running";
            for one in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
                if runs && one["type"] == "Ready" && one["status"] != word {
                    *one = json!({"type": "Ready", "status": word, "lastTransitionTime": at});
                }
            }
        });
    }

    /// All probes pass again.
    pub fn recover(&mut self, server: &ApiServer) {
        for pod in server.objects("pods") {
            self.set_ready(server, &pod, true);
        }
    }

    /// The pod with this address.
    pub fn at(&self, ip: &str) -> Option<String> {
        let at = |resident: &Resident| resident.ip.as_deref() == Some(ip);
        self.residents.iter().find(|(_, resident)| at(resident)).map(|(pod_uid, _)| pod_uid.clone())
    }

    /// Takes a pod's lock; the first session and incarnation win. Returns whether it is theirs.
    pub fn claim(&mut self, pod_uid: &str, wanted: Claim) -> bool {
        let Some(resident) = self.residents.get_mut(pod_uid) else { return false };
        if resident.claim.is_none() {
            resident.busy_at = Instant::now();
            self.claims.insert(pod_uid.to_owned(), wanted.clone());
        }
        *resident.claim.get_or_insert_with(|| wanted.clone()) == wanted
    }

    /// Whose pod it is.
    pub fn holder(&self, pod_uid: &str) -> Option<&Claim> {
        self.residents.get(pod_uid)?.claim.as_ref()
    }

    /// How long the session has been idle, and whether it takes turns no more.
    pub fn idle(&self, pod_uid: &str) -> Option<(Duration, bool)> {
        let resident = self.residents.get(pod_uid)?;
        Some((resident.busy_at.elapsed(), resident.quiesced))
    }

    pub fn quiesce(&mut self, pod_uid: &str) {
        if let Some(resident) = self.residents.get_mut(pod_uid) {
            resident.quiesced = true;
        }
    }
}
