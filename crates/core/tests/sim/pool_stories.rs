//! What becomes of pools: refill, roll-out, demand, nodes, and who gets a member.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use paddock_api::agent::PoolRef;
use paddock_api::labels::{self, MAX_REPLICAS, MAX_UNAVAILABLE, MIN_REPLICAS, TARGET_SPARE};
use paddock_api::pool::UpdateStrategyType;
use paddock_api::session::{Phase, StartupPath};
use paddock_api::{Sandbox, SandboxTemplate, SandboxWarmPool};
use paddock_core::ids::label;
use paddock_core::op::{Op, Outcome, WriteFailure};
use paddock_core::{Engine, Pod};

use crate::cluster::{Cluster, Event};
use crate::story::{Story, agent, key, pool, runner, session, template};

fn annotated(mut pool: SandboxWarmPool, annotations: &[(&str, &str)]) -> SandboxWarmPool {
    let all = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pool.metadata.annotations = Some(all.collect());
    pool
}

fn recreated(mut pool: SandboxWarmPool) -> SandboxWarmPool {
    pool.spec.update_strategy.kind = UpdateStrategyType::Recreate;
    pool
}

fn newer(name: &str) -> SandboxTemplate {
    let mut newer = template(name);
    newer.spec.pod_template.spec["containers"][0]["image"] = "opencode:2".into();
    newer
}

fn image(sandbox: &Sandbox) -> &str {
    sandbox.spec.pod_template.spec["containers"][0]["image"].as_str().unwrap()
}

/// A story with this pool, full.
fn with(pool: SandboxWarmPool) -> Story {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool);
    story.cluster.add_agent(agent("coder"));
    story.run_for(20);
    story.ops.clear();
    story
}

/// The pool's sandboxes that wait for sessions.
fn members(cluster: &Cluster) -> Vec<&Sandbox> {
    let waits = |s: &&Sandbox| label(&s.metadata, labels::WARM_POOL_SANDBOX).is_some();
    cluster.sandboxes.values().filter(waits).collect()
}

fn pod<'a>(cluster: &'a Cluster, sandbox: &Sandbox) -> Option<&'a Pod> {
    cluster.pods.get(&key(sandbox.metadata.name.as_deref().unwrap()))
}

fn serving(cluster: &Cluster) -> usize {
    members(cluster).iter().filter(|s| pod(cluster, s).is_some_and(|p| p.serving_ip().is_some())).count()
}

fn ready_replicas(story: &Story) -> i32 {
    story.cluster.pools[&key("opencode")].status.as_ref().map_or(-1, |status| status.ready_replicas)
}

fn deletes(story: &Story) -> usize {
    story.ops.iter().filter(|op| matches!(op, Op::DeleteSandbox(_))).count()
}

fn path(story: &Story, session: &str) -> Option<StartupPath> {
    story.status(session).startup.map(|startup| startup.path)
}

/// The image that a session runs on.
fn image_of(story: &Story, session: &str) -> String {
    let sandbox = story.status(session).sandbox.expect("a sandbox");
    image(&story.cluster.sandboxes[&key(&sandbox.name)]).to_owned()
}

// Refill.

#[test]
fn a_refill_begins_with_one_member_and_widens_with_success() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 40));
    let mut rounds = Vec::new();
    for _ in 0..100 {
        story.deliver();
        let commands = story.engine.next(story.cluster.now);
        let creates = commands.iter().filter(|c| matches!(c.op, Op::CreateSandbox(_))).count();
        if creates > 0 {
            rounds.push(creates);
        }
        for command in commands {
            let outcome = story.cluster.perform(&command.op);
            story.engine.complete(command, outcome, story.cluster.now);
        }
    }
    assert_eq!(rounds, [1, 2, 4, 8, 16, 9]);
    assert_eq!(story.cluster.pods.len(), 40);
}

#[test]
fn one_slow_answer_does_not_hold_up_the_refill() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 12));
    let mut held = None;
    for _ in 0..100 {
        story.deliver();
        for command in story.engine.next(story.cluster.now) {
            let outcome = story.cluster.perform(&command.op);
            let is_create = matches!(command.op, Op::CreateSandbox(_));
            if held.is_none() && is_create && story.cluster.sandboxes.len() == 2 {
                held = Some((command, outcome));
                continue;
            }
            story.engine.complete(command, outcome, story.cluster.now);
        }
    }
    assert!(held.is_some());
    assert_eq!(story.cluster.sandboxes.len(), 12, "all others were made, and none twice");
}

#[test]
fn lost_answers_never_make_a_member_too_many() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 6));
    for round in 0..400 {
        // The watch is cut: nothing but answers tells what was done, and every other one is lost.
        for (n, command) in story.engine.next(story.cluster.now).into_iter().enumerate() {
            let outcome = story.cluster.perform(&command.op);
            let lost = (round + n) % 2 == 0 && matches!(command.op, Op::CreateSandbox(_));
            let told = if lost { Outcome::Failed(WriteFailure::Unavailable("cut".into())) } else { outcome };
            for follow_up in story.engine.complete(command, told, story.cluster.now) {
                let outcome = story.cluster.perform(&follow_up.op);
                story.engine.complete(follow_up, outcome, story.cluster.now);
            }
            assert!(story.cluster.sandboxes.len() <= 6, "{} members of 6", story.cluster.sandboxes.len());
        }
        if round == 0 {
            story.deliver();
        }
        story.cluster.now += SignedDuration::from_millis(500);
    }
    assert_eq!(story.cluster.sandboxes.len(), 6);
}

#[test]
fn a_full_quota_costs_one_refused_pod_at_a_time() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 30));
    story.cluster.quota = Some(3);
    story.run_for(300);
    assert_eq!(story.cluster.pods.len(), 3);
    // What was under way when the quota filled up, and no more.
    assert!(story.cluster.sandboxes.len() <= 3 + 4, "{} sandboxes", story.cluster.sandboxes.len());
    let tries = story.ops.iter().filter(|op| matches!(op, Op::CreatePod(_))).count();
    assert!(tries <= 3 + 4 * 70, "{tries} attempts in five minutes");
    story.cluster.quota = None;
    story.run_for(30);
    assert_eq!(ready_replicas(&story), 30);
}

#[test]
fn all_pools_together_leave_room_for_sessions() {
    let mut story = Story::empty();
    for n in 0..8 {
        let name = format!("pool{n}");
        story.cluster.put_template(template(&name));
        story.cluster.add_pool(pool(&name, 50));
    }
    let mut under_way: Vec<paddock_core::Command> = Vec::new();
    let mut most = 0;
    for _ in 0..3_000 {
        story.deliver();
        under_way.extend(story.engine.next(story.cluster.now));
        most = most.max(under_way.iter().filter(|c| !matches!(c.op, Op::PatchPoolStatus(_))).count());
        if under_way.is_empty() {
            break;
        }
        let command = under_way.remove(0);
        let outcome = story.cluster.perform(&command.op);
        under_way.extend(story.engine.complete(command, outcome, story.cluster.now));
    }
    assert_eq!(story.cluster.pods.len(), 8 * 50);
    assert!((40..=48).contains(&most), "{most} writes in flight");
}

#[test]
fn members_that_no_node_takes_are_held_and_not_churned() {
    for gated in [false, true] {
        let mut story = Story::empty();
        story.cluster.put_node("a", |node| node.cordoned = !gated);
        story.cluster.put_template(template("opencode"));
        story.cluster.add_pool(pool("opencode", 3));
        story.settle();
        for mut pod in story.cluster.pods.values().cloned().collect::<Vec<_>>() {
            pod.gated = gated;
            pod.node = None;
            story.cluster.replace_pod(pod);
        }
        let first: BTreeSet<_> = story.cluster.pods.values().map(|p| p.uid.clone()).collect();
        story.run_for(30);
        let before = story.cluster.writes;
        story.run_for(3_600);
        let now: BTreeSet<_> = story.cluster.pods.values().map(|p| p.uid.clone()).collect();
        assert_eq!(now, first, "gated: {gated}");
        assert_eq!(story.cluster.writes, before, "gated: {gated}");
    }
}

#[test]
fn members_that_never_come_up_are_replaced_ever_more_slowly() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.stuck_templates.insert(labels::name_hash("opencode"));
    story.cluster.add_pool(pool("opencode", 2));
    story.run_for(290);
    assert_eq!(deletes(&story), 0, "they may take their time");
    story.run_for(20);
    assert_eq!(deletes(&story), 2);
    story.run_for(3_600);
    assert!(deletes(&story) <= 2 * 13, "{} replacements in an hour", deletes(&story));
    story.cluster.stuck_templates.clear();
    story.run_for(20);
    assert_eq!(ready_replicas(&story), 2);
}

// Roll-out.

/// Lets a roll-out happen; `look` sees every half second of it.
fn roll(story: &mut Story, seconds: i64, mut look: impl FnMut(&Story)) {
    for _ in 0..seconds * 2 {
        story.settle();
        look(story);
        story.cluster.now += SignedDuration::from_millis(500);
    }
}

#[test]
fn a_new_template_rolls_over_and_never_takes_more_than_was_allowed() {
    for (allowed, at_least) in [(None, 6), (Some("0"), 8), (Some("50%"), 4), (Some("3"), 5)] {
        let annotations: Vec<_> = allowed.map(|allowed| (MAX_UNAVAILABLE, allowed)).into_iter().collect();
        let mut story = with(annotated(recreated(pool("opencode", 8)), &annotations));
        story.rollout = 2;
        assert_eq!(serving(&story.cluster), 8);
        story.cluster.put_template(newer("opencode"));
        let mut fewest = 8;
        roll(&mut story, 120, |story| fewest = fewest.min(serving(&story.cluster)));
        assert_eq!(fewest, at_least, "max-unavailable {allowed:?}");
        assert!(members(&story.cluster).iter().all(|s| image(s) == "opencode:2"));
        assert_eq!((members(&story.cluster).len(), serving(&story.cluster)), (8, 8));
    }
}

#[test]
fn a_roll_out_under_load_starts_no_session_cold_and_hands_out_nothing_stale() {
    let mut story = with(recreated(pool("opencode", 6)));
    story.rollout = 2;
    story.cluster.put_template(newer("opencode"));
    let mut made = Vec::new();
    for n in 0..30 {
        let current = |s: &&Sandbox| image(s) == "opencode:2";
        let current_ready = members(&story.cluster)
            .into_iter()
            .filter(current)
            .any(|s| pod(&story.cluster, s).is_some_and(|p| p.serving_ip().is_some()));
        let name = format!("s{n}");
        story.cluster.add_session(session(&name));
        story.settle();
        assert_eq!(story.phase(&name), Phase::Ready);
        assert_eq!(path(&story, &name), Some(StartupPath::Warm), "session {n}");
        if current_ready {
            assert_eq!(image_of(&story, &name), "opencode:2", "session {n}");
        }
        made.push(name);
        story.run_for(4);
    }
    assert!(made.iter().any(|name| image_of(&story, name) == "opencode:1"), "the first had no choice");
    assert_eq!(image_of(&story, made.last().unwrap()), "opencode:2");
}

#[test]
fn a_broken_template_stops_the_roll_out_and_not_the_pool() {
    let mut story = with(recreated(pool("opencode", 4)));
    story.rollout = 1;
    story.cluster.stuck_templates.insert(labels::name_hash("opencode"));
    story.cluster.put_template(newer("opencode"));
    roll(&mut story, 200, |story| assert!(serving(&story.cluster) >= 3));
    story.cluster.add_session(session("s1"));
    story.settle();
    assert_eq!(path(&story, "s1"), Some(StartupPath::Warm));
}

#[test]
fn with_on_replenish_old_members_stay_until_they_are_used() {
    let mut story = with(pool("opencode", 3));
    story.cluster.put_template(newer("opencode"));
    story.run_for(600);
    assert_eq!(deletes(&story), 0);
    story.cluster.add_session(session("s1"));
    story.run_for(15);
    assert_eq!(image_of(&story, "s1"), "opencode:1", "there was nothing else");
    story.cluster.add_session(session("s2"));
    story.run_for(15);
    assert_eq!(image_of(&story, "s2"), "opencode:2", "once there is a current one, no stale one is taken");
    assert_eq!(path(&story, "s2"), Some(StartupPath::Warm));
    let stale = members(&story.cluster).into_iter().filter(|s| image(s) == "opencode:1").count();
    assert_eq!(stale, 2);
}

// Nodes.

#[test]
fn members_leave_a_cordoned_node_one_after_the_other() {
    let mut story = Story::empty();
    story.rollout = 1;
    story.cluster.put_node("a", |_| {});
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 4));
    story.cluster.add_agent(agent("coder"));
    story.run_for(20);
    story.cluster.put_node("b", |_| {});
    story.cluster.put_node("a", |node| node.cordoned = true);
    story.settle();
    assert_eq!(ready_replicas(&story), 0, "none of them counts as ready");
    roll(&mut story, 90, |story| assert!(serving(&story.cluster) >= 4, "they serve until there are others"));
    assert!(story.cluster.pods.values().all(|p| p.node.as_deref() == Some("b")));
    assert_eq!(ready_replicas(&story), 4);
}

#[test]
fn a_member_on_a_cordoned_node_is_better_than_a_cold_start_and_worse_than_any_other() {
    let mut story = Story::empty();
    story.rollout = 1;
    story.cluster.put_node("a", |_| {});
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 2));
    story.cluster.add_agent(agent("coder"));
    story.run_for(20);
    story.cluster.put_node("a", |node| node.cordoned = true);
    story.cluster.add_session(session("s1"));
    story.settle();
    assert_eq!(path(&story, "s1"), Some(StartupPath::Warm), "the only node is cordoned");
    let waits = story.cluster.pods.values().find(|p| p.node.is_none()).cloned().unwrap();
    comes_up(&mut story, waits);
    assert_eq!(serving(&story.cluster), 2);
    story.cluster.add_session(session("s2"));
    story.settle();
    assert_eq!(story.status("s2").pod.unwrap().node, "b");
}

#[test]
fn a_member_on_a_silent_node_is_never_adopted_and_replaced_in_time() {
    let mut story = Story::empty();
    story.rollout = 1;
    story.cluster.put_node("a", |_| {});
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 4));
    story.cluster.add_agent(agent("coder"));
    story.run_for(20);
    let now = story.cluster.now;
    story.cluster.put_node("b", |_| {});
    story.cluster.put_node("a", |node| node.not_ready = Some(now));
    story.cluster.add_session(session("s1"));
    story.settle();
    assert_eq!(ready_replicas(&story), 0);
    assert_eq!(path(&story, "s1"), None, "better a cold start than a pod that may be gone");
    assert_eq!(deletes(&story), 0, "the node may come back");
    story.run_for(60);
    assert_eq!(story.phase("s1"), Phase::Ready);
    assert_eq!(story.status("s1").pod.unwrap().node, "b");
    assert!(story.cluster.pods.values().all(|p| p.node.as_deref() == Some("b")));
    assert_eq!(ready_replicas(&story), 4);
}

#[test]
fn a_node_that_comes_back_in_time_loses_no_member() {
    let mut story = Story::empty();
    story.rollout = 1;
    story.cluster.put_node("a", |_| {});
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 4));
    story.run_for(20);
    let before: BTreeSet<_> = story.cluster.pods.values().map(|p| p.uid.clone()).collect();
    let now = story.cluster.now;
    story.cluster.put_node("a", |node| node.not_ready = Some(now));
    story.run_for(15);
    story.cluster.put_node("a", |node| node.not_ready = None);
    story.run_for(30);
    let after: BTreeSet<_> = story.cluster.pods.values().map(|p| p.uid.clone()).collect();
    assert_eq!(after, before);
    assert_eq!(ready_replicas(&story), 4);
}

#[test]
fn a_node_that_only_reports_that_it_is_well_costs_nothing() {
    let mut story = Story::empty();
    story.cluster.put_node("a", |_| {});
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 2));
    story.run_for(20);
    story.cluster.put_node("a", |_| {});
    story.deliver();
    assert!(story.engine.next(story.cluster.now).is_empty());
    let before = story.cluster.writes;
    story.run_for(10);
    assert_eq!(story.cluster.writes, before);
}

// Demand.

const DEMAND: [(&str, &str); 3] = [(MAX_REPLICAS, "20"), (MIN_REPLICAS, "1"), (TARGET_SPARE, "2")];

#[test]
fn a_burst_makes_the_pool_larger_within_a_second_and_quiet_makes_it_smaller_slowly() {
    let mut story = with(annotated(pool("opencode", 5), &DEMAND));
    assert_eq!(members(&story.cluster).len(), 2, "spec.replicas does not count");
    for n in 0..10 {
        story.cluster.add_session(session(&format!("s{n}")));
    }
    story.settle();
    assert_eq!(members(&story.cluster).len(), 12, "two spare ones, and as many as the burst took, at once");
    story.run_for(299);
    assert_eq!(members(&story.cluster).len(), 12);
    let mut sizes = vec![12];
    for _ in 0..40 {
        story.run_for(60);
        let size = members(&story.cluster).len();
        if *sizes.last().unwrap() != size {
            sizes.push(size);
        }
    }
    assert_eq!(sizes, [12, 7, 4, 3, 2]);
}

#[test]
fn demand_is_bounded() {
    let mut story = with(annotated(pool("opencode", 1), &[(MAX_REPLICAS, "4"), (MIN_REPLICAS, "3")]));
    assert_eq!(members(&story.cluster).len(), 3);
    for n in 0..20 {
        story.cluster.add_session(session(&format!("s{n}")));
    }
    story.run_for(30);
    assert_eq!(members(&story.cluster).len(), 4);
}

#[test]
fn spare_members_may_be_a_share_of_the_sessions() {
    let mut story = with(annotated(pool("opencode", 1), &[(MAX_REPLICAS, "50"), (TARGET_SPARE, "50%")]));
    assert_eq!(members(&story.cluster).len(), 0);
    for n in 0..8 {
        story.cluster.add_session(session(&format!("s{n}")));
        story.run_for(70);
    }
    story.run_for(3_600);
    assert_eq!(members(&story.cluster).len(), 4);
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was() {
    let mut story = with(annotated(pool("opencode", 1), &DEMAND));
    for n in 0..10 {
        story.cluster.add_session(session(&format!("s{n}")));
    }
    story.settle();
    let before = story.cluster.writes;
    let mut next = Engine::new(runner());
    for list in story.cluster.lists() {
        list.feed(&mut next, story.cluster.now);
    }
    next.set_leading(true, story.cluster.now);
    story.engine = next;
    story.settle();
    assert_eq!(members(&story.cluster).len(), 12);
    assert!(!story.ops.iter().any(|op| matches!(op, Op::DeleteSandbox(_))), "{before}");
}

#[test]
fn scaling_by_hand_works_where_no_annotation_asks_for_more() {
    let mut story = with(pool("opencode", 1));
    story.cluster.change_pool(&key("opencode"), |p| p.spec.replicas = 4);
    story.run_for(10);
    assert_eq!(ready_replicas(&story), 4);
    let status = story.cluster.pools[&key("opencode")].status.clone().unwrap();
    assert_eq!((status.replicas, status.selector.contains(labels::WARM_POOL_SANDBOX)), (4, true));
}

#[test]
fn an_annotation_that_makes_no_sense_is_told_once() {
    let mut story = with(annotated(pool("opencode", 1), &[(MAX_UNAVAILABLE, "lots")]));
    let notices = story.engine.take_notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].message.contains("paddock.dev/max-unavailable is \"lots\""), "{notices:?}");
    story.cluster.add_session(session("s1"));
    story.run_for(20);
    assert!(story.engine.take_notices().is_empty());
}

// Who gets a member.

#[test]
fn other_pools_are_asked_in_the_agent_s_order() {
    let mut story = Story::empty();
    for name in ["first", "second", "third", "unnamed"] {
        story.cluster.put_template(template(name));
        story.cluster.add_pool(pool(name, i32::from(name != "first")));
    }
    let mut asks = agent("coder");
    asks.spec.pool_ref = Some(PoolRef { name: "first".into() });
    asks.spec.fallback_pool_refs =
        ["third", "nowhere", "second"].map(|name| PoolRef { name: name.into() }).to_vec();
    story.cluster.add_agent(asks);
    story.run_for(15);
    for name in ["s1", "s2", "s3"] {
        story.cluster.add_session(session(name));
    }
    story.settle();
    let sandbox = |name| story.status(name).sandbox.map(|s| s.name).unwrap_or_default();
    assert!(sandbox("s1").starts_with("third-"));
    assert!(sandbox("s2").starts_with("second-"));
    assert_eq!(path(&story, "s3"), None, "the pool that the agent does not name is not asked");
    story.run_for(15);
    assert_eq!(story.phase("s3"), Phase::Ready);
    let conditions = story.cluster.agents[&key("coder")].status.clone().unwrap().conditions;
    let told = conditions.iter().find(|c| c.kind == "PoolReady").unwrap();
    assert!(told.message.contains("\"nowhere\"") && told.message.contains("fallbackPoolRefs"), "{told:?}");
}

#[test]
fn a_fallback_of_another_harness_is_passed_over() {
    let mut story = Story::with_pool(0);
    let mut other = template("other");
    other.metadata.annotations = Some([(labels::HARNESS.to_owned(), "codex".to_owned())].into());
    story.cluster.put_template(other);
    story.cluster.add_pool(pool("other", 1));
    let mut asks = agent("asks");
    asks.spec.fallback_pool_refs = vec![PoolRef { name: "other".into() }];
    story.cluster.add_agent(asks);
    story.run_for(10);
    let mut s1 = session("s1");
    s1.spec.agent_ref.as_mut().unwrap().name = "asks".into();
    story.cluster.add_session(s1);
    story.run_for(10);
    assert_eq!(path(&story, "s1"), Some(StartupPath::Cold));
}

/// A node is full but for one pod: sessions wait with cold pods that no node takes.
fn full_house() -> Story {
    let mut story = Story::empty();
    story.surge = 3;
    story.cluster.put_node("a", |node| node.cordoned = true);
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 1));
    story.cluster.add_agent(agent("coder"));
    for name in ["zoe", "bob", "ann"] {
        story.cluster.add_session(session(name));
        story.run_for(1);
    }
    assert_eq!(story.cluster.pods.len(), 4);
    story
}

/// The pod comes up on a node that nobody has heard of.
fn comes_up(story: &mut Story, mut pod: Pod) {
    pod.node = Some("b".into());
    pod.unschedulable = None;
    pod.ready = true;
    pod.phase = paddock_core::pod::PodPhase::Running;
    pod.ip = Some(format!("10.9.0.{}", story.ops.len() % 250));
    story.cluster.replace_pod(pod);
    story.settle();
}

#[test]
fn waiting_sessions_are_served_in_order_as_members_become_ready() {
    let mut story = full_house();
    let mut served = Vec::new();
    for _ in 0..3 {
        let member = pod(&story.cluster, members(&story.cluster)[0]).cloned().unwrap();
        comes_up(&mut story, member);
        let ready: Vec<_> = ["ann", "bob", "zoe"]
            .into_iter()
            .filter(|name| story.phase(name) == Phase::Ready && !served.contains(name))
            .collect();
        served.extend(ready);
    }
    assert_eq!(served, ["zoe", "bob", "ann"], "the oldest first");
    assert!(served.iter().all(|name| path(&story, name) == Some(StartupPath::Warm)));
    story.run_for(5);
    assert_eq!(story.cluster.pods.len(), 4, "three sessions and a member that waits for a node");
}

#[test]
fn a_cold_start_that_is_well_under_way_is_not_given_up() {
    let mut story = Story::with_pool(1);
    story.surge = 2;
    for name in ["s1", "s2"] {
        story.cluster.add_session(session(name));
    }
    story.run_for(30);
    assert_eq!(path(&story, "s1"), Some(StartupPath::Warm));
    assert_eq!(path(&story, "s2"), Some(StartupPath::Cold), "it is up as soon as the new member");
    assert_eq!(story.cluster.pods.len(), 3);
}

#[test]
fn a_cold_start_that_has_just_begun_gives_way_to_a_member() {
    let mut story = Story::with_pool(1);
    story.surge = 2;
    story.cluster.add_session(session("s1"));
    story.run_for(6);
    story.cluster.add_session(session("s2"));
    story.run_for(3);
    assert_eq!(path(&story, "s2"), Some(StartupPath::Warm), "the refill was nearly done");
    story.run_for(30);
    assert_eq!(story.cluster.pods.len(), 3);
}

// Two leaders.

#[test]
fn two_leaders_make_no_member_twice() {
    let mut cluster = Cluster::new();
    cluster.put_template(template("opencode"));
    cluster.add_pool(recreated(pool("opencode", 8)));
    let mut leaders = [Engine::new(runner()), Engine::new(runner())];
    let mut seen = [0, 0];
    for leader in &mut leaders {
        leader.set_leading(true, cluster.now);
    }
    for round in 0..1_200 {
        if round == 300 {
            cluster.put_template(newer("opencode"));
        }
        for (n, leader) in leaders.iter_mut().enumerate() {
            // Each sees the world late, and the second one much later.
            let until = cluster.events.len().saturating_sub(if n == 0 { 2 } else { 9 });
            let until = if round % 50 == 49 { cluster.events.len() } else { until };
            while seen[n] < until {
                Event::feed(cluster.events[seen[n]].clone(), leader, cluster.now);
                seen[n] += 1;
            }
            for command in leader.next(cluster.now) {
                let outcome = cluster.perform(&command.op);
                for follow_up in leader.complete(command, outcome, cluster.now) {
                    let outcome = cluster.perform(&follow_up.op);
                    leader.complete(follow_up, outcome, cluster.now);
                }
            }
            cluster.live();
            assert!(cluster.pods.len() <= 8 + 2, "{} pods for a pool of 8", cluster.pods.len());
        }
        cluster.now += SignedDuration::from_millis(200);
    }
    let current = cluster.sandboxes.values().filter(|s| image(s) == "opencode:2").count();
    assert_eq!((current, cluster.sandboxes.len(), cluster.pods.len()), (8, 8, 8));
}
