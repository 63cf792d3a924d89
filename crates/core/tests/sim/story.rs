//! A story without faults: one engine, one cluster, and words to tell it with.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::agent::AgentSpec;
use paddock_api::labels;
use paddock_api::pool::{SandboxWarmPoolSpec, TemplateRef};
use paddock_api::sandbox::{ClaimMetadata, PodTemplate, VolumeClaimTemplate};
use paddock_api::session::{AgentRef, Phase, SessionSpec, SessionStatus};
use paddock_api::template::SandboxTemplateSpec;
use paddock_api::{Agent, SandboxTemplate, SandboxWarmPool, Session};
use paddock_core::build::RunnerSettings;
use paddock_core::op::{Op, Outcome, WriteFailure};
use paddock_core::{Engine, Key};
use serde_json::json;

use crate::cluster::Cluster;

pub const NS: &str = "paddock";

pub fn runner() -> RunnerSettings {
    RunnerSettings { image: "runner:1".into(), pull_policy: "IfNotPresent".into(), public_keys: "k".into() }
}

pub fn key(name: &str) -> Key {
    Key::new(NS, name)
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some(NS.into()), ..ObjectMeta::default() }
}

pub fn template(name: &str) -> SandboxTemplate {
    let pod_template = PodTemplate {
        spec: json!({"containers": [{"name": "harness", "image": "opencode:1"}]}).into(),
        ..PodTemplate::default()
    };
    let mut template = SandboxTemplate::new(
        name,
        SandboxTemplateSpec {
            pod_template,
            service: None,
            volume_claim_templates: vec![],
            network_policy: None,
            network_policy_management: Default::default(),
            env_vars_injection_policy: Default::default(),
            volume_claim_templates_policy: Default::default(),
        },
    );
    template.metadata = meta(name);
    template.metadata.annotations = Some([(labels::HARNESS.to_owned(), "opencode".to_owned())].into());
    template
}

/// The same with a volume for the workspace.
pub fn persistent(mut template: SandboxTemplate) -> SandboxTemplate {
    template.spec.volume_claim_templates = vec![VolumeClaimTemplate {
        metadata: ClaimMetadata { name: Some(labels::WORKSPACE_VOLUME.into()), ..ClaimMetadata::default() },
        spec: json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
    }];
    template
}

pub fn pool(name: &str, replicas: i32) -> SandboxWarmPool {
    let mut pool = SandboxWarmPool::new(
        name,
        SandboxWarmPoolSpec {
            replicas,
            sandbox_template_ref: TemplateRef { name: name.into() },
            update_strategy: Default::default(),
        },
    );
    pool.metadata = meta(name);
    pool
}

pub fn agent(name: &str) -> Agent {
    let mut agent =
        Agent::new(name, AgentSpec { harness: "opencode".into(), model: "m".into(), ..AgentSpec::default() });
    agent.metadata = meta(name);
    agent
}

pub fn session(name: &str) -> Session {
    let mut session = Session::new(
        name,
        SessionSpec { agent_ref: Some(AgentRef { name: "coder".into() }), ..SessionSpec::default() },
    );
    session.metadata = meta(name);
    session
}

/// One engine that always leads, told everything at once.
pub struct Story {
    pub cluster: Cluster,
    pub engine: Engine,
    seen: usize,
    /// Every operation, in order.
    pub ops: Vec<Op>,
    /// Pods that may exist for a moment beyond what is wanted: a session's end is written before its pod is
    /// given back.
    pub surge: usize,
    /// Pods that may exist for longer: members are replaced one after the other.
    pub rollout: usize,
    /// Operations that get lost on their way, every time.
    pub lost: fn(&Op) -> bool,
}

impl Story {
    /// A cluster with an agent, and a pool of this size that is ready.
    pub fn with_pool(replicas: i32) -> Self {
        let mut story = Self::empty();
        story.cluster.put_template(template("opencode"));
        story.cluster.add_pool(pool("opencode", replicas));
        story.cluster.add_agent(agent("coder"));
        story.run_for(20);
        story.ops.clear();
        story
    }

    pub fn empty() -> Self {
        let cluster = Cluster::new();
        let mut engine = Engine::new(runner());
        engine.set_leading(true, cluster.now);
        Self { cluster, engine, seen: 0, ops: Vec::new(), surge: 1, rollout: 0, lost: |_| false }
    }

    /// Tells the engine all that has happened.
    pub fn deliver(&mut self) {
        while self.seen < self.cluster.events.len() {
            let event = self.cluster.events[self.seen].clone();
            self.seen += 1;
            event.feed(&mut self.engine, self.cluster.now);
        }
    }

    /// Lets everything happen that can happen now.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.cluster.live();
            self.deliver();
            let commands = self.engine.next(self.cluster.now);
            if commands.is_empty() && self.seen == self.cluster.events.len() {
                self.cluster.check_safety(self.rollout);
                return;
            }
            for command in commands {
                self.ops.push(command.op.clone());
                let outcome = if (self.lost)(&command.op) {
                    Outcome::Failed(WriteFailure::Unavailable("lost".to_owned()))
                } else {
                    self.cluster.perform(&command.op)
                };
                let follow_up = self.engine.complete(command, outcome, self.cluster.now);
                for command in follow_up {
                    let outcome = self.cluster.perform(&command.op);
                    self.engine.complete(command, outcome, self.cluster.now);
                }
            }
            self.cluster.check_safety(self.surge + self.rollout);
        }
        panic!("does not settle; last operations: {:#?}", &self.ops[self.ops.len().saturating_sub(5)..]);
    }

    /// Lets this many seconds pass.
    pub fn run_for(&mut self, seconds: i64) {
        for _ in 0..seconds * 2 {
            self.settle();
            self.cluster.now += SignedDuration::from_millis(500);
        }
        self.settle();
    }

    pub fn status(&self, name: &str) -> SessionStatus {
        self.cluster.sessions[&key(name)].status.clone().unwrap_or_default()
    }

    pub fn phase(&self, name: &str) -> Phase {
        self.status(name).phase
    }
}
