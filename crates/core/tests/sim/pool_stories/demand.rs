//! How large a pool is.

use paddock_api::labels::{self, MAX_REPLICAS, MAX_UNAVAILABLE, MIN_REPLICAS, TARGET_SPARE};
use paddock_core::Engine;
use paddock_core::op::Op;

use crate::pool_stories::{annotated, members, ready_replicas, with};
use crate::story::{key, pool, runner, session};

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
