//! Which session gets which member.

use jiff::SignedDuration;
use paddock_api::agent::PoolRef;
use paddock_api::labels;
use paddock_api::session::{Phase, StartupPath};

use crate::pool_stories::path;
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

#[test]
fn members_go_to_the_sessions_that_were_made_first() {
    let mut story = Story::with_pool(2);
    story.surge = 2;
    for name in ["zoe", "bob", "ann"] {
        story.cluster.add_session(session(name));
        story.cluster.now += SignedDuration::from_secs(1);
    }
    story.run_for(30);
    assert_eq!(path(&story, "zoe"), Some(StartupPath::Warm));
    assert_eq!(path(&story, "bob"), Some(StartupPath::Warm));
    assert_eq!(path(&story, "ann"), Some(StartupPath::Cold), "it starts beside them");
}

#[test]
fn a_cold_start_is_not_given_up() {
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
