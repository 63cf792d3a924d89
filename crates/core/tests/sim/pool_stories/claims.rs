//! Which session gets which member.

use jiff::SignedDuration;
use paddock_api::agent::PoolRef;
use paddock_api::labels;
use paddock_api::session::{Phase, Reason, StartupPath};
use paddock_core::op::Refresh;
use paddock_core::pod::PodPhase;
use paddock_core::store::Stored;
use paddock_core::{Change, Op, Outcome, WriteFailure};
use paddock_runnerapi::{ActivateResponse, Capabilities};

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

/// Sessions whose own pods no node takes, and another pool that is empty.
fn held_up(sessions: &[&str]) -> Story {
    let mut story = Story::empty();
    story.surge = 2;
    for name in ["opencode", "spare"] {
        story.cluster.put_template(template(name));
        story.cluster.add_pool(pool(name, 0));
    }
    story.cluster.gated_templates.insert(labels::name_hash("opencode"));
    let mut asks = agent("coder");
    asks.spec.fallback_pool_refs = vec![PoolRef { name: "spare".into() }];
    story.cluster.add_agent(asks);
    for name in sessions {
        story.cluster.add_session(session(name));
        story.run_for(1);
        assert_eq!(story.status(name).reason, Some(Reason::SchedulingGated));
    }
    story
}

#[test]
fn who_waits_takes_members_in_order_as_they_become_ready() {
    let mut story = held_up(&["zoe", "bob", "ann"]);
    let names = ["zoe", "bob", "ann"];
    story.cluster.change_pool(&key("spare"), |pool| pool.spec.replicas = 1);
    let mut ready: Vec<&str> = Vec::new();
    for _ in 0..40 {
        story.run_for(1);
        let more = names.iter().filter(|name| !ready.contains(name) && story.phase(name) == Phase::Ready);
        let more: Vec<&str> = more.copied().collect();
        assert!(more.len() <= 1, "a pool of one serves one after the other: {more:?}");
        ready.extend(more);
    }
    assert_eq!(ready, names);
    for name in names {
        let status = story.status(name);
        assert_eq!((path(&story, name), status.incarnation), (Some(StartupPath::Warm), 2));
        assert_eq!(status.recoveries, 0, "nothing was lost");
    }
    assert_eq!(story.cluster.pods.len(), 4, "the pods that they waited for are gone");
    let claimed = story.status("ann").startup.expect("a start").claimed_ms;
    assert!(claimed > 5_000, "the time it waited counts, not only the last step: {claimed} ms");
}

#[test]
fn an_exchange_puts_off_no_deadline() {
    let mut story = held_up(&["s1"]);
    let made = story.cluster.sessions[&key("s1")].metadata.creation_timestamp.clone().unwrap().0;
    story.run_for(20);
    story.cluster.change_pool(&key("spare"), |pool| pool.spec.replicas = 1);
    story.run_for(10);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2));
    assert!(status.incarnation_since.unwrap().duration_since(made).as_secs() < 2);
}

#[test]
fn a_pod_that_runs_is_not_given_up() {
    let mut story = held_up(&["s1"]);
    let own = story.status("s1").sandbox.expect("its own sandbox").name;
    let mut pod = story.cluster.pods[&key(&own)].clone();
    pod.gated = false;
    pod.node = Some("a".into());
    pod.phase = PodPhase::Running;
    story.cluster.replace_pod(pod);
    story.cluster.change_pool(&key("spare"), |pool| pool.spec.replicas = 1);
    story.run_for(20);
    assert_eq!(story.phase("s1"), Phase::Creating);
    let status = story.status("s1");
    assert_eq!((status.sandbox.map(|s| s.name), status.incarnation), (Some(own), 1));
}

#[test]
fn pods_that_were_given_up_stand_on_their_pool_s_account_until_they_are_gone() {
    let names = ["s1", "s2", "s3"];
    let mut story = Story::with_pool(0);
    let mut own = Vec::new();
    for name in names {
        story.cluster.add_session(session(name));
        story.settle();
        let mut pod =
            story.cluster.pods[&key(&story.status(name).sandbox.expect("its own sandbox").name)].clone();
        (pod.node, pod.gated) = (None, true);
        own.push(pod.key());
        story.cluster.replace_pod(pod);
    }
    story.lost = |op| matches!(op, Op::DeleteSandbox(_));
    story.rollout = 1;
    story.cluster.change_pool(&key("opencode"), |pool| pool.spec.replicas = 3);
    story.run_for(60);
    for name in names {
        assert_eq!((story.phase(name), story.status(name).incarnation), (Phase::Ready, 2));
    }
    assert!(own.iter().all(|pod| story.cluster.pods.contains_key(pod)), "nobody hears that they are to go");
    assert_eq!(
        story.cluster.pods.len(),
        7,
        "three sessions, what they gave up, and the one that a pool may have beyond its size"
    );
    story.lost = |_| false;
    story.run_for(60);
    assert!(!own.iter().any(|pod| story.cluster.pods.contains_key(pod)));
    assert_eq!(story.cluster.pods.len(), 6, "three sessions and three members");
}

#[test]
fn a_rival_that_has_not_heard_of_an_exchange_cannot_make_the_old_pod_serve() {
    let mut story = held_up(&["s1"]);
    story.deliver();
    let mut rival = story.engine.clone();
    let own = story.status("s1").sandbox.expect("its own sandbox").name;
    story.cluster.change_pool(&key("spare"), |pool| pool.spec.replicas = 1);
    story.run_for(10);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2));
    let taken = story.status("s1").pod.expect("a pod");

    // To the rival, the session's own pod has come up.
    let mut pod = rival.store().pods.get(&key(&own)).expect("the pod").clone();
    (pod.gated, pod.ready, pod.phase) = (false, true, PodPhase::Running);
    (pod.node, pod.ip) = (Some("a".into()), Some("10.9.9.9".into()));
    pod.resource_version = "900000".into();
    rival.pods_changed(Change::Applied(pod), story.cluster.now);
    let mut commands = rival.next(story.cluster.now);
    let mut refused = 0;
    for _ in 0..20 {
        let mut more = Vec::new();
        for command in commands {
            let outcome = match &command.op {
                Op::Activate(_) => Outcome::Activated(ActivateResponse {
                    session_uid: "whatever".into(),
                    incarnation: 1,
                    harness_session_id: "ses".into(),
                    capabilities: Capabilities { messages: true, terminal: false },
                    took_ms: 1,
                    steps: Vec::new(),
                }),
                op => story.cluster.perform(op),
            };
            refused += usize::from(matches!(outcome, Outcome::Failed(WriteFailure::Conflict)));
            more.extend(rival.complete(command, outcome, story.cluster.now));
        }
        more.extend(rival.next(story.cluster.now));
        commands = more;
    }
    assert!(refused > 0, "its Ready is for a version that is gone");
    let status = story.status("s1");
    assert_eq!((status.phase, status.pod), (Phase::Ready, Some(taken)));
}

#[test]
fn a_rival_that_knows_an_earlier_incarnation_takes_nothing_from_the_later_one() {
    let mut story = held_up(&["s1"]);
    story.deliver();
    let mut rival = story.engine.clone();
    story.cluster.change_pool(&key("spare"), |pool| pool.spec.replicas = 1);
    story.run_for(10);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2));
    let taken = story.cluster.sandboxes[&key(&story.status("s1").sandbox.expect("a member").name)].clone();

    // The rival hears of the member that the session has taken, and not of the session.
    rival.sandboxes_changed(Change::Applied(taken.clone()), story.cluster.now);
    let mut commands = rival.next(story.cluster.now);
    let mut asked = false;
    for _ in 0..20 {
        let mut more = Vec::new();
        for command in commands {
            asked |= matches!(&command.op, Op::Refresh(Refresh::Session(_)));
            let outcome = story.cluster.perform(&command.op);
            more.extend(rival.complete(command, outcome, story.cluster.now));
        }
        more.extend(rival.next(story.cluster.now));
        commands = more;
    }
    assert!(asked, "it goes and looks");
    assert!(story.cluster.sandboxes.contains_key(&taken.key()));
    story.run_for(5);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2));
}

#[test]
fn sessions_of_an_earlier_leader_do_not_take_a_member_from_each_other_for_ever() {
    let mut story = held_up(&["s1", "s2", "s3"]);
    story.engine.set_leading(false, story.cluster.now);
    story.engine.set_leading(true, story.cluster.now);
    story.cluster.change_pool(&key("spare"), |pool| pool.spec.replicas = 1);
    story.run_for(40);
    for name in ["s1", "s2", "s3"] {
        let status = story.status(name);
        assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2), "{name}");
    }
}
