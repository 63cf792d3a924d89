//! Members on nodes that are emptied or lost.

use std::collections::BTreeSet;

use paddock_api::agent::Recovery;
use paddock_api::session::{Phase, StartupPath};

use crate::pool_stories::{comes_up, deletes, path, ready_replicas, roll, serving};
use crate::story::{Story, agent, key, pool, session, template};

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
    let staying: Vec<_> = story.cluster.pods.values().filter(|p| !p.deleting).collect();
    assert!(staying.iter().all(|p| p.node.as_deref() == Some("b")));
    assert_eq!(ready_replicas(&story), 4, "although nobody can tell that the old ones have ended");
    assert_eq!(story.cluster.pods.len(), staying.len() + 4);
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

#[test]
fn a_session_that_is_driven_from_a_node_does_not_stay_there() {
    let mut story = Story::empty();
    (story.surge, story.rollout) = (4, 1);
    for name in ["a", "b"] {
        story.cluster.put_node(name, |_| {});
    }
    story.cluster.put_node("b", |node| node.cordoned = true);
    story.cluster.put_template(template("opencode"));
    story.cluster.add_pool(pool("opencode", 4));
    let mut survives = agent("coder");
    survives.spec.lifecycle.recovery = Some(Recovery::Auto);
    story.cluster.add_agent(survives);
    story.run_for(20);
    story.cluster.add_session(session("s1"));
    story.run_for(10);
    let before = story.status("s1").pod.expect("a pod");
    assert_eq!(before.node, "a");

    // kubectl drain: the node takes no more pods, and those that it has go.
    story.cluster.put_node("a", |node| node.cordoned = true);
    story.cluster.put_node("b", |node| node.cordoned = false);
    story.cluster.delete_pod(&key(&before.name));
    story.run_for(20);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation, status.recoveries), (Phase::Ready, 2, 1));
    assert_eq!(status.pod.expect("a pod").node, "b");
}
