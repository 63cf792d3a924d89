//! Pods are not taken away on purpose before what was said in them is saved.

use paddock_api::agent::{Lifecycle, OnIdle};
use paddock_api::condition::{Condition, ConditionStatus};
use paddock_api::session::{DesiredState, Phase, Reason};
use paddock_core::op::Op;
use paddock_runnerapi::ActivateRequest;

use crate::life::{keeper, session_of};
use crate::story::{NS, Story, agent, key, session};

/// A Ready session in which something was said; no gateway saves anything yet.
fn spoken(agent_name: &str) -> Story {
    let mut story = Story::with_pool(1);
    story.engine.keep_transcripts_in([NS.to_owned()]);
    let lifecycle = Lifecycle { idle_timeout: Some("2m".parse().unwrap()), ..Lifecycle::default() };
    story.cluster.add_agent(keeper("keeper", lifecycle.clone()));
    let mut stopper = agent("stopper");
    stopper.spec.lifecycle = Lifecycle { on_idle: Some(OnIdle::Stop), ..lifecycle };
    story.cluster.add_agent(stopper);
    story.cluster.add_session(session_of("s1", agent_name));
    story.run_for(12);
    assert_eq!(story.phase("s1"), Phase::Ready);
    assert!(story.cluster.turn(&key("s1")));
    story.ops.clear();
    story
}

fn condition(story: &Story) -> Option<Condition> {
    story.status("s1").conditions.into_iter().find(|condition| condition.kind == "TranscriptSaved")
}

fn reason(story: &Story) -> Option<String> {
    condition(story).map(|condition| condition.reason)
}

fn ask(story: &mut Story, state: DesiredState) {
    story.cluster.change_session(&key("s1"), |session| session.spec.state = state);
}

fn deletes(story: &Story) -> usize {
    story.ops.iter().filter(|op| matches!(op, Op::DeleteSandbox(_))).count()
}

#[test]
fn a_stop_waits_until_a_gateway_has_saved_what_was_said() {
    let mut story = spoken("coder");
    ask(&mut story, DesiredState::Stopped);
    story.run_for(120);
    let status = story.status("s1");
    assert_eq!((status.phase, status.transcript_wanted.as_deref()), (Phase::Ready, Some("1.100")));
    assert_eq!(status.reason, Some(Reason::SavingTranscript), "what `kubectl get` shows");
    let told = condition(&story).expect("people are told");
    assert_eq!((told.status, told.reason.as_str()), (ConditionStatus::False, "Saving"));
    assert!(told.message.contains("transcript store"), "{}", told.message);
    assert_eq!(deletes(&story), 0, "nothing is deleted while its transcript is not safe");
    assert!(!story.cluster.turn(&key("s1")), "its pod takes no more turns");

    story.cluster.gateways_save = true;
    story.run_for(2);
    let status = story.status("s1");
    assert_eq!((status.phase, status.reason), (Phase::Dead, Some(Reason::Stopped)));
    assert_eq!(status.transcript_wanted, None);
    assert_eq!(condition(&story).unwrap().status, ConditionStatus::True);
    assert_eq!(deletes(&story), 1);
}

#[test]
fn a_session_in_which_nothing_was_said_is_stopped_at_once() {
    let mut story = Story::with_pool(1);
    story.engine.keep_transcripts_in([NS.to_owned()]);
    story.cluster.add_session(session("s1"));
    story.run_for(12);
    ask(&mut story, DesiredState::Stopped);
    story.settle();
    assert_eq!((story.phase("s1"), condition(&story)), (Phase::Dead, None));
}

#[test]
fn suspend_idle_end_and_restart_wait_as_well() {
    for (agent, act, phase) in [
        ("keeper", (|story| ask(story, DesiredState::Suspended)) as fn(&mut Story), Phase::Suspended),
        ("keeper", |_| {}, Phase::Suspended),
        ("stopper", |_| {}, Phase::Dead),
        ("coder", restart, Phase::Ready),
    ] {
        let mut story = spoken(agent);
        act(&mut story);
        story.run_for(200);
        assert_eq!((story.phase("s1"), reason(&story).as_deref()), (Phase::Ready, Some("Saving")), "{agent}");
        assert_eq!((story.status("s1").incarnation, deletes(&story)), (1, 0), "{agent}");
        story.cluster.gateways_save = true;
        story.run_for(20);
        assert_eq!(story.phase("s1"), phase, "{agent}");
        let expected = if phase == Phase::Ready { None } else { Some("Saved") };
        assert_eq!(reason(&story).as_deref(), expected, "{agent}: of a new pod nothing is to be saved yet");
    }
}

fn restart(story: &mut Story) {
    let now = story.cluster.now;
    story.cluster.change_session(&key("s1"), |session| session.spec.restarted_at = Some(now));
}

#[test]
fn a_new_pod_is_told_to_wait_for_the_conversation_where_no_volume_has_it() {
    for (agent, keeps, continues) in [("coder", true, true), ("keeper", true, false), ("coder", false, false)]
    {
        let mut story = if keeps { spoken(agent) } else { Story::with_pool(1) };
        if !keeps {
            story.cluster.add_session(session_of("s1", agent));
            story.run_for(12);
        }
        story.cluster.gateways_save = true;
        story.ops.clear();
        restart(&mut story);
        story.run_for(20);
        assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2));
        let told: Vec<bool> = activations(&story).map(|request| request.continues).collect();
        assert_eq!(told, [continues], "{agent} {keeps}");
    }
}

#[test]
fn a_first_prompt_runs_in_the_first_pod_only() {
    let mut story = Story::with_pool(1);
    let mut prompted = session("s1");
    prompted.spec.prompt = Some("begin".to_owned());
    story.cluster.add_session(prompted);
    story.run_for(12);
    assert_eq!(activations(&story).filter(|request| request.initial_turn.is_some()).count(), 1);
    story.ops.clear();
    restart(&mut story);
    story.run_for(20);
    assert_eq!((story.phase("s1"), story.status("s1").incarnation), (Phase::Ready, 2));
    let again: Vec<_> = activations(&story).collect();
    assert_eq!((again.len(), &again[0].initial_turn), (1, &None));
    assert!(!again[0].continues, "nobody keeps transcripts here");
}

fn activations(story: &Story) -> impl Iterator<Item = &ActivateRequest> {
    story.ops.iter().filter_map(|op| match op {
        Op::Activate(activation) => Some(&activation.request),
        _ => None,
    })
}

#[test]
fn a_pod_that_is_lost_meanwhile_holds_nobody_up() {
    let mut story = spoken("coder");
    ask(&mut story, DesiredState::Stopped);
    story.run_for(5);
    let pod = story.status("s1").pod.unwrap().name;
    story.cluster.delete_pod(&key(&pod));
    story.run_for(2);
    assert_eq!((story.phase("s1"), reason(&story).as_deref()), (Phase::Dead, Some("PodLost")));
}

#[test]
fn a_runner_that_does_not_answer_holds_nobody_up_for_long() {
    let mut story = spoken("coder");
    story.lost = |op| matches!(op, Op::Quiesce(..));
    ask(&mut story, DesiredState::Stopped);
    story.run_for(5);
    assert_eq!(story.phase("s1"), Phase::Ready);
    story.run_for(15);
    assert_eq!(story.phase("s1"), Phase::Dead);
}

#[test]
fn a_stop_that_is_taken_back_asks_nobody_any_more() {
    let mut story = spoken("keeper");
    ask(&mut story, DesiredState::Suspended);
    story.run_for(5);
    assert_eq!(reason(&story).as_deref(), Some("Saving"));
    ask(&mut story, DesiredState::Running);
    story.cluster.gateways_save = true;
    story.run_for(30);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2), "its pod took no more turns");
    assert_eq!((status.transcript_wanted, condition(&story)), (None, None));
    assert_eq!((status.reason, status.message.as_str()), (Some(Reason::Activated), ""));
}

/// The runner heard that the session shall stop, and its answer was lost; then the wish was taken back.
fn brought_to_rest_in_vain() -> Story {
    let mut story = spoken("coder");
    story.lost = |op| matches!(op, Op::Quiesce(..));
    let pod = story.status("s1").pod.unwrap().uid;
    ask(&mut story, DesiredState::Stopped);
    story.settle();
    story.cluster.usage.get_mut(&pod).unwrap().quiesced = true;
    ask(&mut story, DesiredState::Running);
    story.cluster.gateways_save = true;
    story
}

#[test]
fn a_pod_that_was_brought_to_rest_in_vain_is_replaced_at_once() {
    let mut story = brought_to_rest_in_vain();
    story.run_for(15);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2), "the first pod took no more turns");
}

#[test]
fn the_next_leader_asks_as_well_whether_a_pod_was_brought_to_rest_in_vain() {
    let mut story = brought_to_rest_in_vain();
    // One leader hears of it and gets no answer from the runner, and then it is the next one's turn.
    let next_leader = |story: &mut Story| {
        story.engine.set_leading(false, story.cluster.now);
        story.engine.set_leading(true, story.cluster.now);
    };
    next_leader(&mut story);
    story.lost = |op| matches!(op, Op::ReadActivity(_));
    story.settle();
    next_leader(&mut story);
    story.lost = |_| false;
    story.run_for(15);
    let status = story.status("s1");
    assert_eq!((status.phase, status.incarnation), (Phase::Ready, 2), "the first pod took no more turns");
}

#[test]
fn the_next_leader_goes_on_waiting() {
    let mut story = spoken("coder");
    ask(&mut story, DesiredState::Stopped);
    story.run_for(5);
    story.engine.set_leading(false, story.cluster.now);
    story.engine.set_leading(true, story.cluster.now);
    story.run_for(60);
    assert_eq!((story.phase("s1"), deletes(&story)), (Phase::Ready, 0));
    story.cluster.gateways_save = true;
    story.run_for(2);
    assert_eq!(story.phase("s1"), Phase::Dead);
}

#[test]
fn what_another_pod_has_saved_does_not_count() {
    let mut story = spoken("coder");
    story.cluster.change_session(&key("s1"), |session| {
        let annotations = session.metadata.annotations.get_or_insert_default();
        annotations.insert("paddock.dev/transcript-saved".into(), "another/9.999999".into());
    });
    ask(&mut story, DesiredState::Stopped);
    story.run_for(60);
    assert_eq!((story.phase("s1"), reason(&story).as_deref()), (Phase::Ready, Some("Saving")));
}
