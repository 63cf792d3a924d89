//! A namespace of a test's own, with an agent, a pool, a node, and the means to see what happens in it.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::checker::history::{phase, wanted_phase};
use crate::checker::safety;
use crate::checker::writes::{self, Write};
use crate::cluster::{AGENT, Cluster, Kind, NAMESPACE, NODE, POD, POOL, SANDBOX, SESSION, TEMPLATE};
use crate::controller::{Controller, Leadership};
use crate::gateway;
use crate::kubelet::{self, SCHEDULER};
use crate::proxy::{Call, Proxy};
use crate::recorder::{Recorder, World};
use crate::runners::Runners;

/// L1: within this time of the last fault all is as it should be.
const CONVERGED_WITHIN: Duration = Duration::from_secs(10);
/// For how long nothing must be written to be at rest.
const REST: Duration = Duration::from_secs(3);

pub struct Place {
    pub cluster: Cluster,
    pub namespace: String,
    pub recorder: Recorder,
    pub runners: Runners,
    test: &'static str,
    folder: PathBuf,
    audit_from: u64,
    pool_size: usize,
    /// So many pods more than the surge may exist for a moment, because two leaders each take one for the same session.
    rivalry: usize,
    proxies: Mutex<Vec<Arc<Proxy>>>,
}

impl Place {
    /// One whose sessions have nothing but their pods. None if there is no cluster to test on.
    pub async fn make(test: &'static str, pool_size: usize) -> Option<Self> {
        Self::make_with(test, pool_size, Runners::new(), false).await
    }

    /// One whose sessions have volumes, and say something in every pod, which a gateway saves.
    pub async fn make_persistent(test: &'static str, pool_size: usize) -> Option<Self> {
        let place = Self::make_with(test, pool_size, Runners::that_talk(), true).await?;
        tokio::spawn(gateway::run(place.cluster.api(&SESSION, &place.namespace)));
        Some(place)
    }

    async fn make_with(
        test: &'static str,
        pool_size: usize,
        runners: Runners,
        persistent: bool,
    ) -> Option<Self> {
        let cluster = Cluster::find(test).await?;
        let namespace = format!("faults-{:x}", Timestamp::now().as_microsecond());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&namespace);
        std::fs::create_dir_all(&folder).unwrap();
        let audit_from = std::fs::metadata(cluster.audit_log()).expect("the cluster's audit log").len();
        create(&cluster.api_all(&NAMESPACE), NAMESPACE, &namespace, json!({})).await;
        create(&cluster.api_all(&NODE), NODE, &namespace, json!({})).await;
        tokio::spawn(kubelet::heartbeat(cluster.api_all(&NODE), namespace.clone()));
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &namespace);
        let deadline = Instant::now() + Duration::from_secs(30);
        while accounts.get_opt("default").await.unwrap().is_none() {
            assert!(Instant::now() < deadline, "no service account; does the controller manager run?");
            sleep(Duration::from_millis(50)).await;
        }
        let recorder = Recorder::start(&cluster, &namespace);
        tokio::spawn(kubelet::run(cluster.clone(), namespace.clone(), namespace.clone(), runners.clone()));
        let place = Self {
            cluster,
            namespace,
            recorder,
            runners,
            test,
            folder,
            audit_from,
            pool_size,
            rivalry: 0,
            proxies: Mutex::default(),
        };
        place.furnish(persistent).await;
        Some(place)
    }

    /// For a place with two leaders at once, which may both start the same of so many sessions.
    pub fn with_rivals(mut self, sessions: usize) -> Self {
        self.rivalry = sessions;
        self
    }

    async fn furnish(&self, persistent: bool) {
        let api = |kind: &Kind| self.cluster.api(kind, &self.namespace);
        let pod = json!({
            "schedulerName": SCHEDULER,
            "containers": [{"name": "harness", "image": "localhost/none:none", "command": ["harness"]}],
        });
        let mut template = json!({
            "metadata": {"annotations": {"paddock.dev/harness": "opencode"}},
            "spec": {"podTemplate": {"spec": pod}},
        });
        let mut agent = json!({"spec": {"harness": "opencode", "model": "none"}});
        if persistent {
            let claim =
                json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
            template["spec"]["volumeClaimTemplates"] =
                json!([{"metadata": {"name": "workspace"}, "spec": claim}]);
            agent["spec"]["workspace"] = json!({"mode": "Persistent"});
        }
        create(&api(&TEMPLATE), TEMPLATE, "template", template).await;
        let pool = json!({"spec": {"replicas": self.pool_size, "sandboxTemplateRef": {"name": "template"}}});
        create(&api(&POOL), POOL, "pool", pool).await;
        create(&api(&AGENT), AGENT, "agent", agent).await;
    }

    /// A proxy for one controller, or for its successors after a crash.
    pub async fn proxy(&self, identity: &str) -> Arc<Proxy> {
        let proxy = Arc::new(Proxy::start(&self.cluster.config, &self.namespace, identity).await);
        self.proxies.lock().push(proxy.clone());
        proxy
    }

    pub fn controller(&self, identity: &str, proxy: &Proxy, leadership: Leadership) -> Controller {
        Controller::start(&self.folder, &self.namespace, identity, proxy, leadership)
    }

    /// A controller that leads, and its proxy, once the pool is full.
    pub async fn with_controller(&self) -> (Controller, Arc<Proxy>) {
        let proxy = self.proxy("a").await;
        let controller = self.controller("a", &proxy, Leadership::Always);
        self.pool_is_full(Duration::from_secs(20)).await;
        (controller, proxy)
    }

    pub async fn pool_is_full(&self, within: Duration) {
        let size = self.pool_size;
        self.recorder
            .until("the pool is full", Instant::now() + within, |world| {
                pool_is_full(world, size).then_some(())
            })
            .await;
    }

    pub async fn session(&self, name: &str) {
        let spec = json!({"spec": {"agentRef": {"name": "agent"}}});
        create(&self.cluster.api(&SESSION, &self.namespace), SESSION, name, spec).await;
    }

    /// Makes sessions one right after the other. Returns their names.
    pub async fn sessions(&self, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|index| format!("s{index}")).collect();
        for name in &names {
            self.session(name).await;
        }
        names
    }

    pub async fn all_ready(&self, names: &[String], within: Duration) {
        let deadline = Instant::now() + within;
        let all = |world: &World| names.iter().all(|name| world.is_ready(name)).then_some(());
        self.recorder.until("all sessions are Ready", deadline, all).await;
    }

    /// Says what the sessions shall be from now on: `Running` or `Suspended`.
    pub async fn want(&self, names: &[String], state: &str) {
        let sessions = self.cluster.api(&SESSION, &self.namespace);
        let patch = Patch::Merge(json!({"spec": {"state": state}}));
        for name in names {
            sessions.patch(name, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    /// Waits until they are.
    pub async fn all_as_wanted(&self, names: &[String], within: Duration) {
        let deadline = Instant::now() + within;
        let all = |world: &World| names.iter().all(|name| world.is_as_wanted(name)).then_some(());
        self.recorder.until("all sessions are what they shall be", deadline, all).await;
    }

    /// L1: after the last fault all is as it should be within 10 s, and then nothing is written beyond the lease.
    pub async fn settles(&self, last_fault: Timestamp) {
        let elapsed = Duration::try_from(Timestamp::now().duration_since(last_fault)).unwrap();
        let deadline = Instant::now() + CONVERGED_WITHIN.saturating_sub(elapsed);
        let size = self.pool_size;
        let what = "L1: all is as it should be within 10 s of the last fault";
        self.recorder.until(what, deadline, |world| has_converged(world, size).then_some(())).await;
        let converged = Timestamp::now();
        let limit = last_fault + SignedDuration::try_from(CONVERGED_WITHIN).unwrap();
        loop {
            let writes = self.writes();
            let late: Vec<&Write> = writes::beyond_the_lease(&writes, limit);
            assert!(late.is_empty(), "L1: still written more than 10 s after the last fault: {late:#?}");
            let last =
                writes.iter().rev().find(|write| !write.is_lease()).map_or(last_fault, |write| write.at);
            let rest = Timestamp::now().duration_since(last.max(converged));
            if rest >= SignedDuration::try_from(REST).unwrap() {
                self.tell(&format!(
                    "converged {} after the last fault, last write after {}",
                    millis(last_fault, converged),
                    millis(last_fault, last)
                ));
                return;
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// All requests of all controllers.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls: Vec<Call> = self.proxies.lock().iter().flat_map(|proxy| proxy.log()).collect();
        calls.sort_by_key(|call| call.at);
        calls
    }

    /// All writes of all controllers so far, as the API server has noted them.
    pub fn writes(&self) -> Vec<Write> {
        let mut log = std::fs::File::open(self.cluster.audit_log()).unwrap();
        log.seek(SeekFrom::Start(self.audit_from)).unwrap();
        let mut audit = String::new();
        log.read_to_string(&mut audit).unwrap();
        // The last line may be half written.
        let whole = audit.rfind('\n').map_or("", |end| &audit[..end]);
        writes::join(whole, &self.calls(), &self.namespace).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Checks the promises of safety over all that has happened, and clears the namespace away.
    pub async fn verify(self) {
        assert_eq!(self.recorder.gaps(), 0, "the recorder has missed something");
        self.verify_what_was_seen().await;
    }

    /// The same where an outage has kept the test from seeing everything.
    pub async fn verify_what_was_seen(self) {
        let history = self.recorder.history();
        let (writes, served) = (self.writes(), self.runners.served());
        let excess = safety::greatest_excess(&history);
        let sessions = self.recorder.look(|world| world.all(&SESSION).count());
        let done = writes.iter().filter(|write| write.done() && !write.is_lease());
        self.tell(&format!(
            "{} revisions, {} writes ({} done, {} of them no Events) for {sessions} sessions; at most {} pods beyond pool \
             and sessions, surge is {}",
            history.changes().len(),
            writes.iter().filter(|write| !write.is_lease()).count(),
            done.clone().count(),
            done.filter(|write| write.resource != "events").count(),
            excess.pods,
            excess.surge,
        ));
        let mut wrong = safety::one_session_per_pod(&history, &served);
        wrong.extend(safety::live_sessions_keep_their_pods(&history, &writes, &served));
        wrong.extend(safety::status_goes_forward(&history));
        wrong.extend(safety::volumes_outlive_pods(&history));
        if self.runners.talk() {
            wrong.extend(safety::transcripts_come_first(&history));
        }
        wrong.extend(writes::without_precondition(&writes));
        if excess.pods > excess.surge + self.rivalry {
            wrong.push(format!("S3: {excess:?}"));
        }
        assert!(wrong.is_empty(), "{}: {wrong:#?}", self.test);
        self.remove().await;
    }

    async fn remove(self) {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let namespaces = self.cluster.api_all(&NAMESPACE);
        namespaces.delete(&self.namespace, &DeleteParams::background()).await.unwrap();
        let pods = self.cluster.api(&POD, &self.namespace);
        pods.delete_collection(&now, &Default::default()).await.unwrap();
        self.cluster.api_all(&NODE).delete(&self.namespace, &now).await.unwrap();
        // Only a test that fails leaves its logs.
        std::fs::remove_dir_all(&self.folder).unwrap();
    }

    /// A line of the report.
    pub fn tell(&self, what: &str) {
        crate::say(&format!("{}: {what}", self.test));
    }
}

fn pool_is_full(world: &World, size: usize) -> bool {
    let full = |pool: &Value| {
        let status = &pool["status"];
        [&status["replicas"], &status["readyReplicas"]].iter().all(|count| **count == size)
    };
    world.get(&POOL, "pool").is_some_and(full)
}

/// All sessions are what they shall be, the pool is full, and nothing is left over.
fn has_converged(world: &World, size: usize) -> bool {
    let count = |kind: &Kind| world.all(kind).count();
    let wanted = size + world.all(&SESSION).filter(|session| wanted_phase(session) == "Ready").count();
    let ending = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
    pool_is_full(world, size)
        && world.all(&SESSION).all(|session| phase(session) == wanted_phase(session))
        && count(&SANDBOX) == wanted
        && count(&POD) == wanted
        && !world.all(&POD).any(ending)
}

async fn create(api: &Api<DynamicObject>, kind: Kind, name: &str, mut object: Value) {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.name.into();
    object["metadata"]["name"] = name.into();
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// A duration for people.
pub fn millis(from: Timestamp, to: Timestamp) -> String {
    format!("{} ms", to.duration_since(from).as_millis())
}
