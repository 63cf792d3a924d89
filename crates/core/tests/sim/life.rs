//! The whole life of a session, one rule per test: idleness, suspend and resume, restart, recovery, limits.

use jiff::SignedDuration;
use paddock_api::agent::{Lifecycle, OnIdle, Recovery, Workspace, WorkspaceMode};
use paddock_api::labels;
use paddock_api::session::{DesiredState, Phase, Reason};
use paddock_api::{Agent, Session};
use paddock_core::op::{Op, Outcome, WriteFailure};
use paddock_core::pod::{ContainerState, PodPhase};
use paddock_core::{Key, Work};

use crate::story::{Story, agent, key, persistent, pool, session, template};

fn duration(text: &str) -> Option<paddock_api::Duration> {
    Some(text.parse().unwrap())
}

/// A session of an agent that keeps its workspace, with these rules.
fn story(replicas: i32, lifecycle: Lifecycle) -> Story {
    let mut story = Story::with_pool(replicas);
    story.cluster.add_agent(keeper("keeper", lifecycle));
    story
}

/// An agent that keeps its workspace.
pub fn keeper(name: &str, lifecycle: Lifecycle) -> Agent {
    let mut agent = agent(name);
    agent.spec.workspace = Workspace { mode: WorkspaceMode::Persistent, ..Workspace::default() };
    agent.spec.lifecycle = lifecycle;
    agent
}

pub fn session_of(name: &str, agent: &str) -> Session {
    let mut session = session(name);
    session.spec.agent_ref.as_mut().unwrap().name = agent.into();
    session
}

fn set_state(story: &mut Story, name: &str, state: DesiredState) {
    story.cluster.change_session(&key(name), |s| s.spec.state = state);
}

fn restart(story: &mut Story, name: &str) {
    let now = story.cluster.now;
    story.cluster.change_session(&key(name), |s| {
        s.spec.state = DesiredState::Running;
        s.spec.restarted_at = Some(now);
    });
}

fn pod_of(story: &Story, name: &str) -> Key {
    key(&story.status(name).pod.unwrap().name)
}

#[test]
fn suspend_keeps_the_volume_and_resume_goes_on_with_it() {
    let mut story = story(0, Lifecycle::default());
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    assert_eq!(story.phase("s1"), Phase::Ready);
    let claim = story.status("s1").workspace.unwrap().claim_name;
    let first = pod_of(&story, "s1");

    set_state(&mut story, "s1", DesiredState::Suspended);
    story.run_for(2);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Suspended, Some(Reason::SuspendRequested)));
    assert!(status.endpoint.is_none() && status.pod.is_none());
    assert!(story.cluster.pods.is_empty(), "a suspended session has no pod");
    assert!(story.cluster.volume_claims.contains_key(&key(&claim)));

    set_state(&mut story, "s1", DesiredState::Running);
    story.run_for(12);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2));
    assert_ne!(pod_of(&story, "s1"), first);
    assert_eq!(story.cluster.pods[&pod_of(&story, "s1")].volume_claims, [claim]);
    assert_eq!(story.cluster.volume_claims.len(), 1);
}

#[test]
fn a_wish_to_rest_that_is_taken_back_gives_the_next_pod() {
    let mut story = story(0, Lifecycle::default());
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    // The runner has agreed to rest; then somebody thinks better of it.
    let pod = story.status("s1").pod.unwrap().uid;
    story.cluster.usage.get_mut(&pod).unwrap().quiesced = true;
    story.run_for(60);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2));
    assert!(story.cluster.turn(&key("s1")), "it takes turns again");
}

#[test]
fn a_warm_member_of_a_persistent_pool_brings_its_volume_along() {
    let mut story = Story::empty();
    story.cluster.put_template(persistent(template("opencode")));
    story.cluster.add_pool(pool("opencode", 2));
    story.cluster.add_agent(keeper("keeper", Lifecycle::default()));
    story.run_for(20);
    story.cluster.add_session(session_of("s1", "keeper"));
    story.settle();
    assert_eq!(story.phase("s1"), Phase::Ready, "warm, at once");
    let claim = story.status("s1").workspace.unwrap().claim_name;
    story.run_for(1);
    let owner = story.cluster.volume_claims[&key(&claim)].owner_uid.clone();
    assert_eq!(owner, story.cluster.sessions[&key("s1")].metadata.uid, "the session has taken it over");

    set_state(&mut story, "s1", DesiredState::Suspended);
    story.run_for(2);
    set_state(&mut story, "s1", DesiredState::Running);
    story.run_for(12);
    assert_eq!(story.status("s1").workspace.unwrap().claim_name, claim);
    let mounted = &story.cluster.pods[&pod_of(&story, "s1")].volume_claims;
    assert_eq!(mounted.iter().collect::<Vec<_>>(), [&claim]);

    let s1 = key("s1");
    story.cluster.delete_session(&s1);
    story.run_for(15);
    assert!(!story.cluster.volume_claims.contains_key(&key(&claim)), "the volume goes with the session");
}

#[test]
fn an_agent_that_keeps_its_files_does_not_take_a_member_without_a_volume() {
    let mut story = story(2, Lifecycle::default());
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    assert_eq!(story.phase("s1"), Phase::Ready);
    assert!(story.status("s1").workspace.is_some());
    let replicas = story.cluster.pools[&key("opencode")].status.as_ref().unwrap().ready_replicas;
    assert_eq!(replicas, 2, "the members wait for others");
}

#[test]
fn an_ephemeral_session_says_why_it_is_not_suspended() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    story.run_for(1);
    set_state(&mut story, "s1", DesiredState::Suspended);
    story.run_for(2);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Ready, Some(Reason::WorkspaceNotPersistent)));
    assert!(status.message.contains("Ephemeral"), "{}", status.message);
    set_state(&mut story, "s1", DesiredState::Running);
    story.run_for(1);
    assert_eq!(story.status("s1").reason, Some(Reason::Activated));
}

#[test]
fn a_new_pod_waits_until_the_old_one_has_let_go_of_the_volume() {
    let mut story = story(0, Lifecycle::default());
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    story.cluster.slow_to_end.insert(pod_of(&story, "s1"));
    restart(&mut story, "s1");
    story.run_for(20);
    let status = story.status("s1");
    assert_eq!(status.phase, Phase::Creating);
    assert!(status.message.contains("still has the session's volume"), "{}", status.message);
    assert_eq!(story.cluster.pods.len(), 1);
    story.cluster.slow_to_end.clear();
    story.run_for(12);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2));
}

#[test]
fn an_idle_session_is_suspended_and_a_busy_one_is_not() {
    let rules = Lifecycle { idle_timeout: duration("10m"), ..Lifecycle::default() };
    let mut story = story(0, rules);
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    for _ in 0..4 {
        story.run_for(5 * 60);
        assert!(story.cluster.turn(&key("s1")), "it takes turns");
    }
    assert_eq!(story.phase("s1"), Phase::Ready, "20 minutes, never idle for 10");
    let asked = story.ops.iter().filter(|op| matches!(op, Op::ReadActivity(_))).count();
    assert!(asked <= 40, "the runner was asked {asked} times in 20 minutes");
    story.run_for(11 * 60);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Suspended, Some(Reason::IdleTimeout)));
    assert_eq!(status.turns.unwrap().total, 4);
    assert!(status.last_activity_time.is_some());
    assert_eq!(story.cluster.sessions[&key("s1")].spec.state, DesiredState::Suspended);
}

#[test]
fn a_turn_that_arrives_while_idleness_is_judged_keeps_the_session() {
    let rules = Lifecycle { idle_timeout: duration("10m"), ..Lifecycle::default() };
    let mut story = story(0, rules);
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    // The runner judges by its own clock, at the moment of the question.
    story.run_for(10 * 60 - 15);
    assert!(story.cluster.turn(&key("s1")));
    story.run_for(5 * 60);
    assert_eq!(story.phase("s1"), Phase::Ready);
}

#[test]
fn an_idle_session_without_a_volume_is_stopped() {
    for (on_idle, agent_name) in [(None, "coder"), (Some(OnIdle::Stop), "keeper")] {
        let mut story = story(0, Lifecycle::default());
        let mut new = session_of("s1", agent_name);
        new.spec.lifecycle = Lifecycle { idle_timeout: duration("5m"), on_idle, ..Lifecycle::default() };
        story.cluster.add_session(new);
        story.run_for(12 + 6 * 60);
        let status = story.status("s1");
        assert_eq!((status.phase, status.reason), (Phase::Dead, Some(Reason::IdleTimeout)), "{agent_name}");
        story.run_for(2);
        assert!(story.cluster.pods.is_empty());
    }
}

#[test]
fn no_idle_timeout_means_never() {
    let rules = Lifecycle { idle_timeout: duration("0s"), ..Lifecycle::default() };
    let mut story = story(0, rules);
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    let before = story.cluster.writes;
    story.run_for(3 * 60 * 60);
    assert_eq!(story.phase("s1"), Phase::Ready);
    assert_eq!(story.cluster.writes, before, "an unused session is not written to");
}

#[test]
fn a_restart_gives_a_new_pod_to_a_live_a_dead_and_a_stopped_session() {
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("s1"));
    story.run_for(10);
    let first = pod_of(&story, "s1");
    restart(&mut story, "s1");
    story.settle();
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2), "warm again");
    assert_ne!(pod_of(&story, "s1"), first);
    story.run_for(10);
    assert!(!story.cluster.pods.contains_key(&first), "the old pod is given back");

    let pod = pod_of(&story, "s1");
    story.cluster.delete_pod(&pod);
    story.run_for(1);
    assert_eq!(story.phase("s1"), Phase::Dead);
    restart(&mut story, "s1");
    story.run_for(1);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 3));
    assert!(story.status("s1").finished_at.is_none());

    set_state(&mut story, "s1", DesiredState::Stopped);
    story.run_for(1);
    assert_eq!(story.phase("s1"), Phase::Dead);
    restart(&mut story, "s1");
    story.run_for(10);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 4));
}

#[test]
fn what_a_session_was_made_from_stays_whatever_becomes_of_its_agent() {
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("s1"));
    story.run_for(1);
    let made_from = story.status("s1").agent.unwrap();
    assert_eq!(made_from.spec.as_ref().unwrap().model, "m");
    story.cluster.change_agent(&key("coder"), |agent| agent.spec.model = "another".into());
    restart(&mut story, "s1");
    story.run_for(10);
    assert_eq!(story.status("s1").agent.unwrap(), made_from);
    story.cluster.delete_agent(&key("coder"));
    restart(&mut story, "s1");
    story.run_for(10);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 3));
}

#[test]
fn a_session_created_with_a_restart_time_starts_once() {
    let mut story = Story::with_pool(1);
    let mut new = session("s1");
    new.spec.restarted_at = Some(story.cluster.now);
    story.cluster.add_session(new);
    story.run_for(10);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 1));
}

#[test]
fn a_lost_pod_is_replaced_where_recovery_is_auto() {
    let rules = Lifecycle { recovery: Some(Recovery::Auto), ..Lifecycle::default() };
    let mut story = story(0, rules);
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    let claim = story.status("s1").workspace.unwrap().claim_name;
    let pod = pod_of(&story, "s1");
    story.cluster.delete_pod(&pod);
    story.ops.clear();
    story.settle();
    assert_eq!(story.phase("s1"), Phase::Creating);
    let told = story.ops.iter().find_map(|op| match op {
        Op::PatchSessionStatus(patch) => patch.after.status.clone(),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!(told.reason, Some(Reason::Recovering));
    assert!(told.message.contains("Deleted"), "{}", told.message);
    story.run_for(12);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation, status.recoveries), (Phase::Ready, 2, 1));
    assert_eq!(story.cluster.pods[&pod_of(&story, "s1")].volume_claims, [claim]);
}

#[test]
fn pods_that_are_lost_again_and_again_end_the_recovery() {
    let rules = Lifecycle { recovery: Some(Recovery::Auto), ..Lifecycle::default() };
    let mut story = story(0, rules);
    story.cluster.add_session(session_of("s1", "keeper"));
    for _ in 0..6 {
        story.run_for(12);
        assert_eq!(story.phase("s1"), Phase::Ready);
        let pod = pod_of(&story, "s1");
        story.cluster.delete_pod(&pod);
    }
    story.run_for(5);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::RecoveryExhausted)));

    restart(&mut story, "s1");
    story.run_for(12 + 11 * 60);
    let pod = pod_of(&story, "s1");
    story.cluster.delete_pod(&pod);
    story.run_for(12);
    assert_eq!(
        (story.phase("s1"), story.status("s1").recoveries),
        (Phase::Ready, 1),
        "a settled pod counts anew"
    );
}

#[test]
fn a_dead_session_names_the_true_reason() {
    type End = fn(&mut paddock_core::Pod);
    let gone: [(Reason, End); 6] = [
        (Reason::OOMKilled, |pod| {
            pod.phase = PodPhase::Failed;
            pod.containers = vec![exited("OOMKilled (exit code 137)", true)];
        }),
        (Reason::Evicted, |pod| {
            pod.phase = PodPhase::Failed;
            pod.status_reason = Some("Evicted".into());
        }),
        (Reason::Evicted, |pod| {
            pod.deleting = true;
            pod.disruption = Some("EvictionByEvictionAPI".into());
        }),
        (Reason::NodeLost, |pod| {
            pod.deleting = true;
            pod.disruption = Some("DeletionByTaintManager".into());
        }),
        (Reason::Preempted, |pod| {
            pod.deleting = true;
            pod.disruption = Some("PreemptionByScheduler".into());
        }),
        (Reason::HarnessCrashed, |pod| {
            pod.phase = PodPhase::Failed;
            pod.containers = vec![exited("Error (exit code 1)", false)];
        }),
    ];
    for (reason, change) in gone {
        let mut story = Story::with_pool(1);
        story.cluster.add_session(session("s1"));
        story.run_for(1);
        let mut pod = story.cluster.pods[&pod_of(&story, "s1")].clone();
        change(&mut pod);
        story.cluster.replace_pod(pod);
        story.run_for(1);
        let status = story.status("s1");
        assert_eq!((status.phase, status.reason), (Phase::Dead, Some(reason)), "{}", status.message);
        assert!(status.message.contains("restart the session"), "{}", status.message);
    }
}

fn exited(how: &str, out_of_memory: bool) -> ContainerState {
    ContainerState {
        name: "harness".into(),
        last_exit: Some(how.into()),
        out_of_memory,
        ..ContainerState::default()
    }
}

#[test]
fn a_crash_loop_ends_a_running_session_too() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    story.run_for(1);
    let mut pod = story.cluster.pods[&pod_of(&story, "s1")].clone();
    pod.ready = false;
    pod.containers = vec![ContainerState {
        name: "harness".into(),
        restarts: 3,
        waiting_reason: Some("CrashLoopBackOff".into()),
        ..exited("Error (exit code 1)", false)
    }];
    story.cluster.replace_pod(pod);
    story.run_for(1);
    assert_eq!(story.status("s1").reason, Some(Reason::CrashLoop));
    assert_eq!(story.phase("s1"), Phase::Failed);
}

#[test]
fn a_session_lives_no_longer_than_it_may_and_its_record_no_longer_than_wanted() {
    let mut story = Story::with_pool(1);
    let mut new = session("s1");
    new.spec.lifecycle = Lifecycle {
        max_lifetime: duration("20m"),
        ttl_after_finished: duration("1h"),
        ..Lifecycle::default()
    };
    story.cluster.add_session(new);
    story.run_for(19 * 60);
    assert_eq!(story.phase("s1"), Phase::Ready);
    story.run_for(2 * 60);
    assert_eq!(story.status("s1").reason, Some(Reason::MaxLifetimeReached));
    story.run_for(58 * 60);
    assert!(story.cluster.sessions.contains_key(&key("s1")));
    story.run_for(3 * 60);
    assert!(story.cluster.sessions.is_empty(), "the record is gone after its time");
}

#[test]
fn max_sessions_is_exact_under_a_burst() {
    let mut story = Story::with_pool(3);
    story.cluster.change_agent(&key("coder"), |agent| agent.spec.max_sessions = Some(10));
    for n in 0..50 {
        story.cluster.add_session(session(&format!("s{n:02}")));
    }
    story.surge = 60;
    story.run_for(40);
    let phases = |phase| (0..50).filter(|n| story.phase(&format!("s{n:02}")) == phase).count();
    assert_eq!((phases(Phase::Ready), phases(Phase::Failed)), (10, 40));
    let refused =
        (0..50).map(|n| story.status(&format!("s{n:02}"))).find(|s| s.phase == Phase::Failed).unwrap();
    assert_eq!(refused.reason, Some(Reason::MaxSessionsReached));
    assert!(refused.message.contains("allows 10 sessions"), "{}", refused.message);

    // A place that becomes free is given to whoever comes next.
    let ready = (0..50).map(|n| format!("s{n:02}")).find(|name| story.phase(name) == Phase::Ready).unwrap();
    set_state(&mut story, &ready, DesiredState::Stopped);
    story.run_for(2);
    story.cluster.add_session(session("late"));
    story.run_for(12);
    assert_eq!(story.phase("late"), Phase::Ready);
}

#[test]
fn a_session_may_be_created_suspended() {
    let mut story = Story::with_pool(1);
    let mut new = session("s1");
    new.spec.state = DesiredState::Suspended;
    story.cluster.add_session(new);
    story.run_for(5);
    assert_eq!(story.phase("s1"), Phase::Suspended);
    set_state(&mut story, "s1", DesiredState::Running);
    story.run_for(1);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 1));
}

#[test]
fn a_lost_volume_is_told_and_not_replaced_by_an_empty_one() {
    let mut story = story(0, Lifecycle::default());
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(12);
    set_state(&mut story, "s1", DesiredState::Suspended);
    story.run_for(2);
    let claim = story.status("s1").workspace.unwrap().claim_name;
    story.cluster.lose_volume_claim(&key(&claim));
    set_state(&mut story, "s1", DesiredState::Running);
    story.settle();
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::WorkspaceLost)));
}

#[test]
fn the_startup_time_of_a_later_incarnation_counts_from_its_own_start() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    story.run_for(10 * 60);
    story.cluster.change_pool(&key("opencode"), |pool| pool.spec.replicas = 0);
    story.run_for(5);
    restart(&mut story, "s1");
    story.settle();
    assert_eq!(story.phase("s1"), Phase::Creating, "not timed out at once");
    story.run_for(12);
    assert_eq!(story.phase("s1"), Phase::Ready);
    let waited = story
        .status("s1")
        .startup
        .unwrap()
        .ready_at
        .duration_since(story.status("s1").incarnation_since.unwrap());
    assert!(waited < SignedDuration::from_secs(12));
    assert!(story.cluster.sandboxes.values().all(|s| {
        s.metadata.labels.as_ref().unwrap().get(labels::INCARNATION).map(String::as_str) == Some("2")
    }));
}

#[test]
fn a_session_every_second_write_of_which_fails_is_not_paused_longer_and_longer() {
    let mut story = Story::empty();
    story.cluster.put_template(persistent(template("opencode")));
    story.cluster.add_pool(pool("opencode", 1));
    story.cluster.add_agent(keeper("keeper", Lifecycle::default()));
    story.run_for(20);
    story.cluster.add_session(session_of("s1", "keeper"));
    story.run_for(2);
    let begun = story.cluster.now;
    set_state(&mut story, "s1", DesiredState::Suspended);
    let (mut writes, mut suspended) = (0, false);
    while !(suspended && story.phase("s1") == Phase::Ready) {
        story.cluster.live();
        story.deliver();
        for command in story.engine.next(story.cluster.now) {
            let is_write = !matches!(command.op, Op::Activate(_) | Op::Quiesce(..) | Op::Refresh(_));
            let counts = is_write && matches!(command.work, Work::Session(_));
            writes += u32::from(counts);
            let outcome = if counts && writes % 2 == 1 {
                Outcome::Failed(WriteFailure::Unavailable("down".to_owned()))
            } else {
                story.cluster.perform(&command.op)
            };
            story.engine.complete(command, outcome, story.cluster.now);
        }
        if !suspended && story.phase("s1") == Phase::Suspended {
            suspended = true;
            set_state(&mut story, "s1", DesiredState::Running);
        }
        story.cluster.now += SignedDuration::from_millis(50);
        // The pod takes its time to end, and the next one to come.
        let limit = begun + SignedDuration::from_secs(9);
        assert!(story.cluster.now < limit, "{writes} writes: {:#?}", story.status("s1"));
    }
    assert!(writes >= 10, "{writes}");
}
