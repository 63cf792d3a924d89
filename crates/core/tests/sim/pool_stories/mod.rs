//! What becomes of pools: refill, roll-out, demand, nodes, and who gets a member.

use std::sync::Arc;

mod claims;
mod demand;
mod nodes;
mod refill;
mod rollout;

use jiff::SignedDuration;
use paddock_api::labels;
use paddock_api::pool::UpdateStrategyType;
use paddock_api::session::StartupPath;
use paddock_api::{Sandbox, SandboxTemplate, SandboxWarmPool};
use paddock_core::Pod;
use paddock_core::ids::label;
use paddock_core::op::Op;

use crate::cluster::Cluster;
use crate::story::{Story, agent, key, template};

pub fn annotated(mut pool: SandboxWarmPool, annotations: &[(&str, &str)]) -> SandboxWarmPool {
    let all = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pool.metadata.annotations = Some(all.collect());
    pool
}

pub fn recreated(mut pool: SandboxWarmPool) -> SandboxWarmPool {
    pool.spec.update_strategy.kind = UpdateStrategyType::Recreate;
    pool
}

pub fn newer(name: &str) -> SandboxTemplate {
    let mut newer = template(name);
    Arc::make_mut(&mut newer.spec.pod_template.spec)["containers"][0]["image"] = "opencode:2".into();
    newer
}

pub fn image(sandbox: &Sandbox) -> &str {
    sandbox.spec.pod_template.spec["containers"][0]["image"].as_str().unwrap()
}

/// A story with this pool, full.
pub fn with(pool: SandboxWarmPool) -> Story {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool);
    story.cluster.add_agent(agent("coder"));
    story.run_for(20);
    story.ops.clear();
    story
}

/// The pool's sandboxes that wait for sessions.
pub fn members(cluster: &Cluster) -> Vec<&Sandbox> {
    let waits = |s: &&Sandbox| label(&s.metadata, labels::WARM_POOL_SANDBOX).is_some();
    cluster.sandboxes.values().filter(waits).collect()
}

pub fn pod<'a>(cluster: &'a Cluster, sandbox: &Sandbox) -> Option<&'a Pod> {
    cluster.pods.get(&key(sandbox.metadata.name.as_deref().unwrap()))
}

pub fn serving(cluster: &Cluster) -> usize {
    members(cluster).iter().filter(|s| pod(cluster, s).is_some_and(|p| p.serving_ip().is_some())).count()
}

pub fn ready_replicas(story: &Story) -> i32 {
    story.cluster.pools[&key("opencode")].status.as_ref().map_or(-1, |status| status.ready_replicas)
}

pub fn deletes(story: &Story) -> usize {
    story.ops.iter().filter(|op| matches!(op, Op::DeleteSandbox(_))).count()
}

pub fn path(story: &Story, session: &str) -> Option<StartupPath> {
    story.status(session).startup.map(|startup| startup.path)
}

/// The image that a session runs on.
pub fn image_of(story: &Story, session: &str) -> String {
    let sandbox = story.status(session).sandbox.expect("a sandbox");
    image(&story.cluster.sandboxes[&key(&sandbox.name)]).to_owned()
}

/// Lets a roll-out happen; `look` sees every half second of it.
pub fn roll(story: &mut Story, seconds: i64, mut look: impl FnMut(&Story)) {
    for _ in 0..seconds * 2 {
        story.settle();
        look(story);
        story.cluster.now += SignedDuration::from_millis(500);
    }
}

/// The pod comes up on a node that nobody has heard of.
pub fn comes_up(story: &mut Story, mut pod: Pod) {
    pod.node = Some("b".into());
    pod.unschedulable = None;
    pod.ready = true;
    pod.phase = paddock_core::pod::PodPhase::Running;
    pod.ip = Some(format!("10.9.0.{}", story.ops.len() % 250));
    story.cluster.replace_pod(pod);
    story.settle();
}
