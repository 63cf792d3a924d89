//! A new template reaches the pool.

use paddock_api::Sandbox;
use paddock_api::labels::{self, MAX_UNAVAILABLE};
use paddock_api::session::{Phase, StartupPath};

use crate::pool_stories::{
    annotated, deletes, image, image_of, members, newer, path, pod, recreated, roll, serving, with,
};
use crate::story::{pool, session};

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
