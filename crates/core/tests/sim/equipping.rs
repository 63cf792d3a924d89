//! Pods that take their time to become a session's, and agents that ask for what cannot be had.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use paddock_api::agent::{File, Repo};
use paddock_api::session::{Phase, Reason, SessionStatus, Step};
use paddock_core::op::{Activation, Op, Outcome};
use paddock_core::pod::PodPhase;
use paddock_runnerapi::ActivationStep::{CloningRepo, ConnectingMcp, InstallingRequirements};
use paddock_runnerapi::{ActivationProgress, ActivationStep};

use crate::story::{Story, key, session};

const fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

/// A pool, and an agent with a repository whose clone takes a while.
fn slow(replicas: i32) -> Story {
    let mut story = Story::with_pool(replicas);
    story.cluster.change_agent(&key("coder"), |agent| agent.spec.repo = Some(repo("main")));
    story.cluster.work.steps =
        vec![(CloningRepo, seconds(4)), (InstallingRequirements, seconds(6)), (ConnectingMcp, seconds(2))];
    story
}

fn repo(branch: &str) -> Repo {
    Repo { url: "https://git/app".into(), branch: Some(branch.into()), ..Repo::default() }
}

fn activations(story: &Story) -> Vec<&Activation> {
    let ops = story.ops.iter();
    ops.filter_map(|op| if let Op::Activate(activation) = op { Some(&**activation) } else { None }).collect()
}

/// Pods that were given to a session.
fn pods(story: &Story) -> BTreeSet<String> {
    activations(story).iter().map(|a| a.pod_uid.clone()).collect()
}

/// What was written of a session, in order.
fn told(story: &Story, name: &str) -> Vec<SessionStatus> {
    let written = story.ops.iter().filter_map(|op| match op {
        Op::PatchSessionStatus(patch) if patch.target.key.name == name => patch.after.status.clone(),
        _ => None,
    });
    written.collect()
}

#[test]
fn each_step_is_told_once_and_the_session_is_ready_in_the_end() {
    let mut story = slow(1);
    story.cluster.add_session(session("s1"));
    story.run_for(3);
    let status = story.status("s1");
    assert_eq!((status.phase, status.step), (Phase::Creating, Some(Step::CloningRepo)));
    assert_eq!(
        (status.reason, status.message.as_str()),
        (Some(Reason::Activating), "cloning the repository")
    );
    story.run_for(12);
    assert_eq!(story.phase("s1"), Phase::Ready);
    let steps: Vec<_> = told(&story, "s1").iter().map(|status| status.step).collect();
    let all = [Step::CloningRepo, Step::InstallingRequirements, Step::ConnectingMcp].map(Some);
    assert_eq!(steps, [&all[..], &[None]].concat(), "one write per step, and the last");
    assert!(activations(&story).len() > 10, "the runner is asked again and again");
    assert_eq!(pods(&story).len(), 1);
    assert_eq!(story.status("s1").message, "");
    let took: Vec<_> =
        story.status("s1").startup.unwrap().steps.iter().map(|s| (s.step, s.took_ms)).collect();
    let all = [(Step::CloningRepo, 4000), (Step::InstallingRequirements, 6000), (Step::ConnectingMcp, 2000)];
    assert_eq!(took, all);
}

#[test]
fn what_the_agent_asks_for_goes_with_the_activation_and_nothing_where_it_asks_for_nothing() {
    let file = |path: &str, content: &str| File {
        path: path.into(),
        content: Some(content.into()),
        ..File::default()
    };
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("plain"));
    story.settle();
    assert_eq!(activations(&story).last().unwrap().equipment, None);
    story.cluster.change_agent(&key("coder"), |agent| {
        agent.spec.repo = Some(repo("main"));
        agent.spec.files = vec![file("a", "agent"), file("b", "agent")];
    });
    let mut own = session("own");
    own.spec.files = vec![file("b", "session")];
    story.cluster.add_session(own);
    story.settle();
    let equipment = activations(&story).last().unwrap().equipment.clone().unwrap();
    assert_eq!(equipment.repo, Some(repo("main")));
    assert_eq!(equipment.files, [file("a", "agent"), file("b", "session")]);
    let frozen = |name: &str| story.status(name).agent.unwrap();
    assert_eq!(frozen("own").spec.unwrap().repo, Some(repo("main")));
    assert_ne!(frozen("own").hash, frozen("plain").hash);
}

#[test]
fn what_cannot_be_had_ends_the_session_and_no_other_pod_is_tried() {
    for steps in [vec![], vec![(CloningRepo, seconds(3))]] {
        let mut story = slow(3);
        let members: BTreeSet<String> = story.cluster.pods.values().map(|pod| pod.uid.clone()).collect();
        story.cluster.work.steps = steps;
        story.cluster.work.fails = Some("branch \"main\" is not in https://git/app; name another".into());
        story.cluster.add_session(session("s1"));
        story.run_for(60);
        let status = story.status("s1");
        assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::ActivationFailed)));
        assert_eq!(status.message, "branch \"main\" is not in https://git/app; name another");
        let tried = pods(&story);
        assert_eq!(tried.len(), 1);
        let left: BTreeSet<String> = story.cluster.pods.values().map(|pod| pod.uid.clone()).collect();
        assert_eq!(left.len(), 3, "the pool is full again");
        assert!(left.is_disjoint(&tried), "the pod is gone");
        assert_eq!(members.difference(&left).count(), 1, "no other member was touched");
    }
}

#[test]
fn a_failure_counts_even_where_the_assignment_was_not_written() {
    let mut story = slow(3);
    story.cluster.work.steps.clear();
    story.cluster.work.fails = Some("no".into());
    story.lost = |op| matches!(op, Op::PatchSandbox(_));
    story.cluster.add_session(session("s1"));
    story.run_for(30);
    assert_eq!(story.status("s1").reason, Some(Reason::ActivationFailed));
    assert_eq!(pods(&story).len(), 1);
    story.run_for(30);
    let held = story.cluster.pods.values().filter(|pod| pods(&story).contains(&pod.uid)).count();
    assert_eq!((held, story.cluster.pods.len()), (0, 3));
}

#[test]
fn a_new_leader_goes_on_with_the_same_pod_and_says_nothing_twice() {
    let mut story = slow(3);
    story.cluster.add_session(session("s1"));
    story.run_for(7);
    assert_eq!(story.status("s1").step, Some(Step::InstallingRequirements));
    let written = told(&story, "s1").len();
    // Another process, which remembers nothing.
    story.engine.set_leading(false, story.cluster.now);
    story.engine.set_leading(true, story.cluster.now);
    story.run_for(2);
    assert_eq!(told(&story, "s1").len(), written);
    story.run_for(6);
    assert_eq!((story.phase("s1"), pods(&story).len()), (Phase::Ready, 1));
}

#[test]
fn a_session_that_never_began_is_made_from_the_agent_as_it_was_mended() {
    is_made_from_the_mended_agent(slow(1));
}

#[test]
fn one_that_failed_before_it_had_a_sandbox_does_not_fail_again_for_that() {
    let mut story = slow(1);
    story.cluster.work.steps.clear();
    is_made_from_the_mended_agent(story);
}

fn is_made_from_the_mended_agent(mut story: Story) {
    story.cluster.change_agent(&key("coder"), |agent| agent.spec.repo = Some(repo("mian")));
    story.cluster.work.fails = Some("no branch mian".into());
    story.cluster.add_session(session("s1"));
    story.run_for(30);
    assert_eq!(story.status("s1").reason, Some(Reason::ActivationFailed));
    story.cluster.change_agent(&key("coder"), |agent| agent.spec.repo = Some(repo("main")));
    story.cluster.work.fails = None;
    story.run_for(1);
    let now = story.cluster.now;
    story.cluster.change_session(&key("s1"), |session| session.spec.restarted_at = Some(now));
    story.run_for(30);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2));
    assert_eq!(status.agent.unwrap().spec.unwrap().repo, Some(repo("main")));
    // From now on it is what it was made from.
    story.cluster.change_agent(&key("coder"), |agent| agent.spec.repo = Some(repo("other")));
    story.run_for(1);
    let now = story.cluster.now;
    story.cluster.change_session(&key("s1"), |session| session.spec.restarted_at = Some(now));
    story.run_for(30);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 3));
    let last = activations(&story).last().unwrap().equipment.clone().unwrap();
    assert_eq!(last.repo, Some(repo("main")));
}

#[test]
fn a_member_that_breaks_under_what_the_agent_asks_for_is_not_followed_by_the_next() {
    let mut story = slow(3);
    story.cluster.add_session(session("s1"));
    story.run_for(6);
    let name = story.status("s1").sandbox.unwrap().name;
    let mut broken = story.cluster.pods[&key(&name)].clone();
    broken.phase = PodPhase::Failed;
    broken.ready = false;
    story.cluster.replace_pod(broken);
    story.run_for(30);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::PodFailed)));
    assert!(status.message.ends_with(", while installing requirements"), "{}", status.message);
    assert_eq!(pods(&story).len(), 1);
}

#[test]
fn all_steps_count_as_the_start() {
    let mut story = slow(1);
    story.cluster.work.steps = vec![(CloningRepo, seconds(100_000))];
    story.cluster.add_session(session("s1"));
    story.run_for(299);
    assert_eq!(story.phase("s1"), Phase::Creating);
    story.run_for(3);
    let status = story.status("s1");
    assert_eq!(status.reason, Some(Reason::StartupTimeout));
    assert!(status.message.contains("last: cloning the repository; raise"), "{}", status.message);
}

#[test]
fn pods_that_take_their_time_keep_nobody_waiting() {
    let mut story = slow(12);
    story.surge = 12;
    let installs = |step: ActivationStep| ActivationProgress { step, took_ms: 1000 };
    for n in 0..8 {
        story.cluster.add_session(session(&format!("s{n}")));
    }
    story.deliver();
    // Eight that install, each with a question in flight that waits in its runner.
    let mut asked = BTreeSet::new();
    for _ in 0..60 {
        for command in story.engine.next(story.cluster.now) {
            let outcome = match &command.op {
                Op::Activate(activation) if asked.insert(activation.pod_uid.clone()) => {
                    Outcome::Activating(installs(InstallingRequirements))
                }
                Op::Activate(_) => continue,
                op => story.cluster.perform(op),
            };
            story.engine.complete(command, outcome, story.cluster.now);
        }
        story.deliver();
        story.cluster.live();
        story.cluster.now += SignedDuration::from_millis(100);
    }
    assert_eq!(asked.len(), 8);
    assert_eq!(story.engine.in_flight(), 8, "one question each");
    // What nobody waits for goes on as if nothing were under way, faster and faster.
    story.cluster.change_pool(&key("opencode"), |pool| pool.spec.replicas = 24);
    story.deliver();
    let mut most = 0;
    for _ in 0..6 {
        let commands = story.engine.next(story.cluster.now);
        most = most.max(commands.iter().filter(|c| matches!(c.op, Op::CreateSandbox(_))).count());
        for command in commands {
            let outcome = story.cluster.perform(&command.op);
            story.engine.complete(command, outcome, story.cluster.now);
        }
        story.deliver();
    }
    assert!(most > 1, "{most}");
    // And another session has its turn at once.
    story.cluster.add_session(session("next"));
    story.deliver();
    let commands = story.engine.next(story.cluster.now);
    assert!(commands.iter().any(|c| matches!(&c.op, Op::Activate(a) if a.request.session.name == "next")));
}
