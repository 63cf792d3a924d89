//! A whole cluster: API server, machines, users, and the controllers under test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::labels;
use paddock_testkit::apiserver::{ApiServer, Call, Kinds, Object, Verb};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::dice::Dice;
use crate::faults::{Control, Faults};
use crate::gateways::Gateways;
use crate::nodes::{Nature, Nodes};
use crate::objects::{NS, SYSTEM, coder, keeper, node, phase, pool, template};
use crate::process::{Leadership, Process};
use crate::rest;
use crate::runner::Wire;
use crate::safety::{Allowance, Safety};
use crate::users::create;

pub struct World {
    pub server: ApiServer,
    pub nodes: Arc<Mutex<Nodes>>,
    pub control: Arc<Mutex<Control>>,
    pub processes: Vec<Process>,
    pub safety: Safety,
    pub dice: Dice,
    pub begun: Instant,
    /// Those that save transcripts, where there are any.
    pub gateways: Option<Gateways>,
    leadership: Leadership,
    runner_trouble: u64,
    troubled: Arc<AtomicBool>,
    started: usize,
    seen_version: u64,
}

impl World {
    pub fn new(
        mut dice: Dice,
        nature: Nature,
        leadership: Leadership,
        allowance: Allowance,
        replicas: u64,
    ) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let server = ApiServer::new(Kinds::paddock(), now);
        server.make_namespace(NS);
        server.make_namespace(SYSTEM);
        let call = Call::to(&server, Verb::Create, "nodes", "", "").unwrap();
        server.request("kubelet", &call, node()).unwrap();
        server.edit("kubelet", "nodes", "", "node1", |node| {
            node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        });
        create(&server, "sandboxtemplates", template());
        create(&server, "sandboxwarmpools", pool(replicas));
        create(&server, "agents", coder());
        create(&server, "agents", keeper());
        let control = Arc::new(Mutex::new(Control::new()));
        server.set_policy(Faults { control: control.clone(), dice: dice.fork() });
        Self {
            nodes: Arc::new(Mutex::new(Nodes::new(nature, dice.fork()))),
            server,
            control,
            processes: Vec::new(),
            safety: Safety::new(allowance),
            dice,
            begun: Instant::now(),
            gateways: None,
            leadership,
            runner_trouble: 0,
            troubled: Arc::new(AtomicBool::new(false)),
            started: 0,
            seen_version: 0,
        }
    }

    /// A cluster without faults and with fast machines.
    pub fn healthy(seed: u64, replicas: u64) -> Self {
        fastrand::seed(seed);
        let nature = Nature { boot: (100, 400), end: (50, 300) };
        let allowance = Allowance { lag: Duration::from_secs(2), surge: 1, rivalry: Duration::ZERO };
        Self::new(Dice::new(seed), nature, Leadership::Elected, allowance, replicas)
    }

    /// Lets time pass until `done`, and fails where that takes longer than `within`. Returns how long it took.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        done: impl Fn(&ApiServer) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        while !done(&self.server) {
            if begun.elapsed() > within {
                panic!(
                    "{}
no {what} within {within:?}",
                    self.story(150)
                );
            }
            self.pass(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }

    pub async fn until_ready(&mut self, session: &str, within: Duration) -> Duration {
        let ready = |server: &ApiServer| {
            server.object("sessions", NS, session).is_some_and(|session| phase(&session) == "Ready")
        };
        self.until(&format!("Ready session {session}"), within, ready).await
    }

    pub async fn until_pool_is_full(&mut self) {
        let full = |server: &ApiServer| {
            let pools = server.objects("sandboxwarmpools");
            pools.iter().all(|pool| pool["status"]["readyReplicas"] == pool["spec"]["replicas"])
        };
        self.until("full pool", Duration::from_secs(10), full).await;
    }

    /// The last changes, one a line.
    pub fn story(&self, last: usize) -> String {
        let mut changes = self.server.changes(0);
        changes.retain(|change| change.kind.plural != "leases");
        rest::story(&changes[changes.len().saturating_sub(last)..], self.begun)
    }

    /// So many of a thousand requests to runners go wrong.
    pub fn trouble_runners(&mut self, per_mille: u64) {
        self.runner_trouble = per_mille;
        self.troubled.store(per_mille > 0, Ordering::Relaxed);
    }

    pub fn start(&mut self) {
        self.started += 1;
        let name = format!("controller-{}", self.started);
        let alive = Arc::new(AtomicBool::new(true));
        self.control.lock().alive.insert(name.clone(), alive.clone());
        let wire = Wire {
            nodes: self.nodes.clone(),
            alive,
            dice: Mutex::new(self.dice.fork()),
            trouble: self.runner_trouble,
            troubled: self.troubled.clone(),
        };
        self.processes.push(Process::start(
            &self.server,
            name,
            wire,
            self.leadership,
            self.gateways.is_some(),
        ));
    }

    /// Lets so much time pass, in which machines, collectors and controllers do what they do.
    pub async fn pass(&mut self, time: Duration) {
        sleep(time).await;
        self.nodes.lock().live(&self.server);
        if let Some(gateways) = &mut self.gateways {
            gateways.live(&self.server);
        }
        let version = self.server.version();
        if version != self.seen_version {
            self.server.collect_garbage();
            self.server.finish_namespaces();
            self.server.release_claims();
            self.seen_version = version;
        }
        for process in self.processes.iter().filter(|process| process.lives()) {
            process.check();
        }
        let nodes = self.nodes.lock();
        self.safety.catch_up(&self.server, &nodes, is_controller);
    }

    /// Starts anew what has crashed.
    pub fn mend(&mut self) {
        let (alive, dead): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.processes).into_iter().partition(Process::lives);
        self.processes = alive;
        for process in dead {
            process.crash();
            self.start();
        }
    }

    /// The end of all faults.
    pub fn calm_down(&mut self) {
        let mut control = self.control.lock();
        control.until = Instant::now();
        control.storm = None;
        control.crashes.clear();
        drop(control);
        self.troubled.store(false, Ordering::Relaxed);
        if let Some(gateways) = &mut self.gateways {
            gateways.can_save = true;
        }
        self.nodes.lock().recover(&self.server);
    }

    /// Whether a pod of a pool has failed, and is still there.
    pub fn has_broken_members(&self) -> bool {
        let is_member = |pod: &Object| pod["metadata"]["labels"][labels::WARM_POOL_SANDBOX].is_string();
        self.server.objects("pods").iter().any(|pod| is_member(pod) && pod["status"]["phase"] == "Failed")
    }

    /// Waits until all is at rest, and checks that it stays so.
    pub async fn come_to_rest(&mut self, within: Duration, quiet: Duration) -> Duration {
        let calm = Instant::now();
        let skip = self.server.changes(0).len();
        let end = calm + within + quiet;
        while Instant::now() < end {
            let step = self.dice.millis(100, 300);
            self.pass(step).await;
        }
        let unrest = rest::unrest(&self.server);
        let late = rest::writes_since(&self.server, skip, calm + within, is_controller);
        let last = rest::writes_since(&self.server, skip, calm, is_controller).last().map(|change| change.at);
        if !unrest.is_empty() || !late.is_empty() {
            let calm = calm.duration_since(self.begun).as_secs_f64();
            panic!(
                "L1: quiet since {calm:.3}; not at rest: {unrest:#?}\nlate writes:\n{}",
                rest::story(&late, self.begun)
            );
        }
        last.map_or(Duration::ZERO, |at| at.duration_since(calm))
    }
}

/// Tells what happened before a failure.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story(160));
        }
    }
}

pub fn is_controller(client: &str) -> bool {
    client.starts_with("controller-")
}
