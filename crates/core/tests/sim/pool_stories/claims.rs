//! Which session gets which member.

use paddock_api::agent::PoolRef;
use paddock_api::labels;
use paddock_api::session::{Phase, StartupPath};

use crate::pool_stories::{comes_up, members, path, pod};
use crate::story::{Story, agent, key, pool, session, template};

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
