//! Making members: how many at once, never too many, and which are left alone.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use paddock_api::labels;
use paddock_core::Engine;
use paddock_core::op::{Op, Outcome, WriteFailure};

use crate::cluster::{Cluster, Event};
use crate::pool_stories::{deletes, image, newer, ready_replicas, recreated};
use crate::story::{Story, pool, runner, session, template};

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

#[test]
fn sessions_that_start_come_before_new_members() {
    let mut story = Story::with_pool(3);
    story.surge = 3;
    for name in ["s1", "s2", "s3"] {
        story.cluster.add_session(session(name));
    }
    story.settle();
    let first_member = story.ops.iter().position(|op| matches!(op, Op::CreateSandbox(_))).expect("a refill");
    let last_ready = story.ops.iter().rposition(|op| matches!(op, Op::PatchSessionStatus(_)));
    assert!(last_ready.is_some_and(|at| at < first_member), "{:#?}", story.ops);
}

#[test]
fn a_session_that_hangs_holds_up_the_refill_for_a_moment_only() {
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("s1"));
    story.deliver();
    let held = story.engine.next(story.cluster.now);
    let (assignment, activation): (Vec<_>, Vec<_>) =
        held.into_iter().partition(|command| matches!(command.op, Op::PatchSandbox(_)));
    for command in assignment {
        let outcome = story.cluster.perform(&command.op);
        story.engine.complete(command, outcome, story.cluster.now);
    }
    story.deliver();
    let makes_a_member = |story: &mut Story| {
        let mut makes = false;
        for command in story.engine.next(story.cluster.now) {
            makes |= matches!(command.op, Op::CreateSandbox(_));
            let outcome = story.cluster.perform(&command.op);
            story.engine.complete(command, outcome, story.cluster.now);
        }
        makes
    };
    assert_eq!(activation.len(), 1, "the runner does not answer");
    assert!(!makes_a_member(&mut story));
    let wake = story.engine.next_wake().expect("to look again");
    assert!(wake <= story.cluster.now + SignedDuration::from_millis(500), "{wake}");
    story.cluster.now += SignedDuration::from_millis(500);
    assert!(makes_a_member(&mut story));
}

#[test]
fn beside_a_stream_of_sessions_members_are_made_one_at_a_time() {
    let mut story = Story::with_pool(8);
    for name in ["s1", "s2", "s3", "s4"] {
        story.cluster.add_session(session(name));
    }
    story.deliver();
    // Their runners do not answer, so that there is always a session on its way.
    for command in story.engine.next(story.cluster.now) {
        if !matches!(command.op, Op::Activate(_)) {
            let outcome = story.cluster.perform(&command.op);
            story.engine.complete(command, outcome, story.cluster.now);
        }
    }
    let round = |story: &mut Story| {
        story.cluster.live();
        story.deliver();
        let mut creates = 0;
        for command in story.engine.next(story.cluster.now) {
            creates += usize::from(matches!(command.op, Op::CreateSandbox(_)));
            let outcome = story.cluster.perform(&command.op);
            story.engine.complete(command, outcome, story.cluster.now);
        }
        creates
    };
    assert_eq!(round(&mut story), 0, "a burst has the server for itself");
    let rounds: Vec<usize> = (0..40)
        .map(|_| {
            story.cluster.now += SignedDuration::from_millis(500);
            round(&mut story)
        })
        .collect();
    assert_eq!(rounds.iter().max(), Some(&1), "{rounds:?}");
    assert_eq!(rounds.iter().sum::<usize>(), 4, "and all are made: {rounds:?}");
    assert_eq!(story.cluster.pods.len(), 12);
    assert!(story.cluster.sandboxes.values().all(|s| s.status.is_some()), "nor are conditions forgotten");
    let rest = story.engine.next_wake().is_none_or(|wake| wake > story.cluster.now);
    assert!(rest, "the engine does not ask to be woken again and again");
}
