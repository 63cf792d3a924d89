//! Histories that once went wrong, found by review: late answers, successors of the same name, forged labels,
//! failing pools.

use std::sync::Arc;

use jiff::SignedDuration;
use paddock_api::labels;
use paddock_api::pool::UpdateStrategyType;
use paddock_api::session::{DesiredState, Phase, Reason};
use paddock_core::build::WorkspaceSource;
use paddock_core::ids::label;
use paddock_core::op::{Op, Outcome, Refresh, WriteFailure};
use paddock_core::pod::PodPhase;
use paddock_core::{Change, Command, Engine};

use crate::cluster::{Cluster, Event};
use crate::story::{NS, Story, agent, key, pool, runner, session, template};

/// The Sandbox of a Ready session is deleted, its pod follows a moment later, as the real GC does it.
#[test]
fn a_session_hears_of_its_pod_s_end_when_the_sandbox_went_first() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    story.run_for(400); // the leftover wake-up of the startup deadline has passed
    let name = story.status("s1").sandbox.unwrap().name;
    let now = story.cluster.now;
    let sandbox = story.cluster.sandboxes.remove(&key(&name)).unwrap();
    Event::Sandbox(Change::Deleted(sandbox)).feed(&mut story.engine, now);
    assert!(story.engine.next(now).is_empty());
    let mut pod = story.cluster.pods.remove(&key(&name)).unwrap();
    pod.deleting = true;
    pod.resource_version = "900000".into();
    for event in [Change::Applied(pod.clone()), Change::Deleted(pod)] {
        Event::Pod(event).feed(&mut story.engine, now);
        for c in story.engine.next(now) {
            let o = story.cluster.perform(&c.op);
            story.engine.complete(c, o, now);
        }
    }
    story.run_for(600);
    assert_eq!(story.phase("s1"), Phase::Dead);
}

/// A failed read counts as an answer.
#[test]
fn a_failed_read_is_no_answer() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    story.run_for(15);
    let name = story.status("s1").pod.unwrap().name;
    let now = story.cluster.now;
    // the pod leaves the watch (label selector, stale list, undecodable ...) but lives
    let pod = story.cluster.pods[&key(&name)].clone();
    Event::Pod(Change::Deleted(pod)).feed(&mut story.engine, now);
    let commands = story.engine.next(now);
    let read: Vec<Command> =
        commands.into_iter().filter(|c| matches!(c.op, Op::Refresh(Refresh::Pod(_)))).collect();
    assert_eq!(read.len(), 1);
    for c in read {
        story.engine.complete(c, Outcome::Failed(WriteFailure::Unavailable("503".into())), now);
    }
    story.cluster.now += SignedDuration::from_secs(1);
    let again = story.engine.next(story.cluster.now);
    let kills: Vec<_> = again.iter().filter(|c| matches!(&c.op, Op::PatchSessionStatus(p) if p.after.status.as_ref().unwrap().phase == Phase::Dead)).collect();
    assert!(kills.is_empty(), "a living session is declared Dead although nobody answered");
}

/// Late write answer resurrects a deleted pod.
#[test]
fn a_late_answer_brings_nothing_back() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    // drive by hand until PatchPod is issued
    let mut held = None;
    for _ in 0..200 {
        let seen = story.cluster.events.len();
        let commands = story.engine.next(story.cluster.now);
        let _ = seen;
        for c in commands {
            if matches!(c.op, Op::PatchPod(_)) && held.is_none() {
                let o = story.cluster.perform(&c.op);
                held = Some((c, o));
                continue;
            }
            let o = story.cluster.perform(&c.op);
            for f in story.engine.complete(c, o, story.cluster.now) {
                let o = story.cluster.perform(&f.op);
                story.engine.complete(f, o, story.cluster.now);
            }
        }
        if held.is_some() {
            break;
        }
        // deliver all events from the last list
        for e in story.cluster.lists() {
            e.feed(&mut story.engine, story.cluster.now);
        }
    }
    let (command, outcome) = held.expect("a relabel");
    let name = story.status("s1").pod.unwrap().name;
    assert_eq!(story.phase("s1"), Phase::Ready);
    let now = story.cluster.now;
    let pod = story.cluster.pods[&key(&name)].clone();
    Event::Pod(Change::Applied(pod.clone())).feed(&mut story.engine, now);
    story.cluster.pods.remove(&key(&name));
    Event::Pod(Change::Deleted(pod)).feed(&mut story.engine, now);
    story.engine.complete(command, outcome, now);
    assert!(
        story.engine.store().pods.get(&key(&name)).is_none(),
        "the pod is back in the store after its deletion was seen"
    );
}

/// The answer "not there" about an old object drops the new one of the same name.
#[test]
fn not_found_is_about_the_old_object_only() {
    let mut cluster = Cluster::new();
    let mut engine = Engine::new(runner());
    engine.set_leading(true, cluster.now);
    cluster.add_session(session("s1"));
    for e in cluster.lists() {
        e.feed(&mut engine, cluster.now);
    }
    let _ = engine.next(cluster.now);
    cluster.now += SignedDuration::from_secs(6);
    // AgentNotFound is about to be written; the user deletes the session and makes it anew
    let ask = engine.next(cluster.now).pop().unwrap();
    let missing = cluster.perform(&ask.op);
    engine.complete(ask, missing, cluster.now);
    let write = engine.next(cluster.now).pop().unwrap();
    assert!(matches!(write.op, Op::PatchSessionStatus(_)));
    let old = cluster.sessions[&key("s1")].clone();
    cluster.delete_session(&key("s1"));
    let outcome = cluster.perform(&write.op);
    let mut look = engine.complete(write, outcome, cluster.now);
    let look = look.pop().unwrap();
    let answer = cluster.perform(&look.op); // None
    cluster.add_session(session("s1"));
    Event::Session(Change::Deleted(old)).feed(&mut engine, cluster.now);
    Event::Session(Change::Applied(cluster.sessions[&key("s1")].clone())).feed(&mut engine, cluster.now);
    engine.complete(look, answer, cluster.now);
    let _ = engine.next(cluster.now);
    assert!(
        engine.store().sessions.get(&key("s1")).is_some(),
        "the new session is forgotten: Creating for ever"
    );
}

/// One ready member switches off the replacement backoff of the others.
#[test]
fn failing_members_do_not_churn_beside_a_ready_one() {
    let mut story = Story::with_pool(2);
    let good = story.cluster.pods.keys().next().unwrap().clone();
    let mut creates = 0;
    story.surge = 100;
    for _ in 0..100 {
        // a bad node: whatever lands there fails at once
        let bad: Vec<_> = story
            .cluster
            .pods
            .values()
            .filter(|p| p.key() != good && p.phase != PodPhase::Failed)
            .cloned()
            .collect();
        for mut p in bad {
            p.phase = PodPhase::Failed;
            p.ready = false;
            story.cluster.replace_pod(p);
        }
        story.ops.clear();
        story.settle();
        creates += story.ops.iter().filter(|o| matches!(o, Op::CreateSandbox(_))).count();
        story.cluster.now += SignedDuration::from_millis(100);
    }
    assert!(creates <= 5, "{creates} replacements in 10 s");
}

/// A corrected template never reaches a pool whose members could not be made.
#[test]
fn a_corrected_template_heals_the_pool() {
    let mut story = Story::empty();
    let mut broken = template("opencode");
    broken.metadata.annotations.as_mut().unwrap().insert(labels::HARNESS_CONTAINER.into(), "nope".into());
    story.cluster.put_template(broken);
    story.cluster.add_pool(pool("opencode", 2));
    story.run_for(5);
    assert_eq!(story.cluster.pods.len(), 0);
    let mut t = template("opencode");
    Arc::make_mut(&mut t.spec.pod_template.spec)["containers"][0]["image"] = "opencode:2".into();
    story.cluster.put_template(t);
    story.run_for(300);
    assert_eq!(story.cluster.pods.len(), 2, "pool still empty after the template was corrected");
}

/// A pool switched to another harness hands out pods of the old one.
#[test]
fn a_member_of_another_harness_is_never_adopted() {
    let mut story = Story::with_pool(1);
    let mut other = template("other");
    other.metadata.annotations = Some([(labels::HARNESS.to_owned(), "claude-code".to_owned())].into());
    story.cluster.put_template(other);
    story.cluster.change_pool(&key("opencode"), |p| p.spec.sandbox_template_ref.name = "other".into());
    let mut a = agent("claude");
    a.spec.harness = "claude-code".into();
    story.cluster.add_agent(a);
    let mut s = session("s1");
    s.spec.agent_ref.as_mut().unwrap().name = "claude".into();
    story.cluster.add_session(s);
    story.run_for(1);
    let Some(sandbox) = story.status("s1").sandbox else { return };
    let sandbox = &story.cluster.sandboxes[&key(&sandbox.name)];
    assert_eq!(label(&sandbox.metadata, labels::HARNESS), Some("claude-code"));
}

/// A session in mid-start fails at once when its template is replaced.
#[test]
fn a_template_that_is_replaced_during_a_start_does_no_harm() {
    let mut story = Story::with_pool(0);
    story.cluster.add_session(session("s1"));
    story.run_for(6);
    assert_eq!(story.phase("s1"), Phase::Creating);
    let t = story.cluster.templates.remove(&key("opencode")).unwrap();
    story.cluster.events.push(Event::Template(Change::Deleted(t)));
    story.settle();
    story.cluster.put_template(template("opencode"));
    story.run_for(10);
    assert_eq!(story.phase("s1"), Phase::Ready, "{:?}", story.status("s1").message);
}

/// A session that ends between activation and assignment leaves a bound pod in the pool.
#[test]
fn a_member_that_was_activated_for_nothing_is_deleted() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    for e in story.cluster.lists() {
        e.feed(&mut story.engine, story.cluster.now);
    }
    let commands = story.engine.next(story.cluster.now);
    for c in commands {
        let o = if matches!(c.op, Op::Activate(_)) {
            story.cluster.perform(&c.op)
        } else {
            Outcome::Failed(WriteFailure::Unavailable("503".into()))
        };
        story.engine.complete(c, o, story.cluster.now);
    }
    story.cluster.change_session(&key("s1"), |s| s.spec.state = DesiredState::Stopped);
    for e in story.cluster.lists() {
        e.feed(&mut story.engine, story.cluster.now);
    }
    story.run_for(60);
    assert_eq!(story.phase("s1"), Phase::Dead);
    let bound: Vec<_> =
        story.cluster.pods.values().filter(|p| story.cluster.runners.contains_key(&p.uid)).collect();
    assert!(bound.is_empty(), "a pod that runs the stopped session's harness waits in the pool as ready");
}

/// 10: Recreate and terminating pods. Sandboxes go at once, pods need their grace period.
#[test]
fn pods_that_are_still_ending_count() {
    let mut cluster = Cluster::new();
    let mut engine = Engine::new(runner());
    engine.set_leading(true, cluster.now);
    cluster.put_template(template("opencode"));
    let mut p = pool("opencode", 10);
    p.spec.update_strategy.kind = UpdateStrategyType::Recreate;
    cluster.add_pool(p);
    let mut seen = 0;
    let mut turn = |cluster: &mut Cluster, engine: &mut Engine, live: bool| -> usize {
        let mut max = 0;
        for _ in 0..200 {
            if live {
                cluster.live();
            }
            while seen < cluster.events.len() {
                let e = cluster.events[seen].clone();
                seen += 1;
                e.feed(engine, cluster.now);
            }
            let commands = engine.next(cluster.now);
            for c in commands {
                let o = cluster.perform(&c.op);
                for f in engine.complete(c, o, cluster.now) {
                    let o = cluster.perform(&f.op);
                    engine.complete(f, o, cluster.now);
                }
            }
            max = max.max(cluster.pods.len());
        }
        max
    };
    turn(&mut cluster, &mut engine, true);
    cluster.now += SignedDuration::from_secs(20);
    turn(&mut cluster, &mut engine, true);
    let mut t = template("opencode");
    Arc::make_mut(&mut t.spec.pod_template.spec)["containers"][0]["image"] = "opencode:2".into();
    cluster.put_template(t);
    // no garbage collection within these milliseconds
    let max = turn(&mut cluster, &mut engine, false);
    assert!(max <= 13, "{max} pods (terminating included) for a pool of 10");
}

/// A cold retry reuses the name of the pod that is still terminating.
#[test]
fn a_second_attempt_takes_a_name_that_is_free() {
    let mut story = Story::with_pool(0);
    story.cluster.add_session(session("s1"));
    story.run_for(3);
    let (k, mut pod) = story.cluster.pods.iter().next().map(|(k, p)| (k.clone(), p.clone())).unwrap();
    let now = story.cluster.now;
    pod.deleting = true;
    pod.resource_version = "900000".into();
    Event::Pod(Change::Applied(pod)).feed(&mut story.engine, now);
    // The API server is asked, and then: the watch tells of the deletion before the answer arrives.
    for _ in 0..2 {
        for c in story.engine.next(now) {
            let is_delete = matches!(c.op, Op::DeleteSandbox(_));
            let gone = story.cluster.sandboxes.get(&k).cloned();
            let o = story.cluster.perform(&c.op);
            if is_delete {
                Event::Sandbox(Change::Deleted(gone.unwrap())).feed(&mut story.engine, now);
            }
            story.engine.complete(c, o, now);
        }
    }
    let commands = story.engine.next(now);
    let made = commands
        .iter()
        .find_map(|c| match &c.op {
            Op::CreateSandbox(s) => s.metadata.name.clone(),
            _ => None,
        })
        .unwrap();
    assert_ne!(made, k.name, "the new sandbox waits until the old pod of that name has gone");
}

/// Somebody else's namespace.
#[test]
fn a_label_alone_binds_nothing() {
    let mut story = Story::with_pool(0);
    story.cluster.add_session(session("s1"));
    for e in story.cluster.lists() {
        e.feed(&mut story.engine, story.cluster.now);
    }
    let uid = story.cluster.sessions[&key("s1")].metadata.uid.clone().unwrap();
    let mut forged = paddock_core::build::for_session(
        &session("s1"),
        "coder",
        &template("opencode"),
        &runner(),
        1,
        WorkspaceSource::AsTemplate,
        0,
    );
    forged.metadata.namespace = Some("evil".into());
    forged.metadata.name = Some("a".into());
    forged.metadata.owner_references = None;
    forged.metadata.uid = Some("evil-uid".into());
    forged.metadata.resource_version = Some("77".into());
    forged.metadata.labels.as_mut().unwrap().insert(labels::SESSION_UID.into(), uid);
    let pod = paddock_core::Pod {
        namespace: "evil".into(),
        name: "a".into(),
        uid: "evil-pod".into(),
        resource_version: "78".into(),
        owner_uid: Some("evil-uid".into()),
        phase: PodPhase::Running,
        ready: true,
        ip: Some("10.6.6.6".into()),
        ..Default::default()
    };
    Event::Sandbox(Change::Applied(forged)).feed(&mut story.engine, story.cluster.now);
    Event::Pod(Change::Applied(pod)).feed(&mut story.engine, story.cluster.now);
    let commands = story.engine.next(story.cluster.now);
    let hijacked =
        commands.iter().any(|c| matches!(&c.op, Op::Activate(a) if a.endpoint.starts_with("10.6.6.6")));
    assert!(!hijacked, "the session is given to a pod in namespace evil");
    let _ = NS;
}

/// A sandbox is deleted by hand before its pod has the session's labels: nothing but the session's status ties the two together.
#[test]
fn the_end_of_a_pod_without_labels_is_heard_of() {
    let mut story = Story::with_pool(1);
    story.lost = |op| matches!(op, Op::PatchPod(_));
    story.cluster.add_session(session("s1"));
    story.run_for(1);
    assert_eq!(story.phase("s1"), Phase::Ready);
    let place = key(&story.status("s1").sandbox.unwrap().name);
    let sandbox = story.cluster.sandboxes.remove(&place).unwrap();
    story.cluster.events.push(Event::Sandbox(Change::Deleted(sandbox)));
    // The engine hears of it before the garbage collector takes the pod.
    story.deliver();
    story.engine.next(story.cluster.now);
    story.cluster.delete_pod(&place);
    story.settle();
    assert_eq!(story.phase("s1"), Phase::Dead);
}

/// Image trouble right after a late scheduling gets no grace.
#[test]
fn waiting_for_a_node_does_not_count_as_image_trouble() {
    use paddock_core::pod::ContainerState;
    let mut story = Story::with_pool(0);
    story.cluster.broken_templates.insert(labels::name_hash("opencode"));
    story.cluster.add_session(session("s1"));
    story.run_for(40);
    let pod = story.cluster.pods.keys().next().unwrap().clone();
    let mut p = story.cluster.pods[&pod].clone();
    p.started = Some(story.cluster.now);
    p.containers = vec![ContainerState {
        name: "harness".into(),
        waiting_reason: Some("ErrImagePull".into()),
        ..Default::default()
    }];
    story.cluster.replace_pod(p);
    story.run_for(1);
    assert_eq!(story.phase("s1"), Phase::Creating, "{}", story.status("s1").message);
}

/// The reason of a refused adoption or of a runner that does not answer reaches nobody.
#[test]
fn a_time_out_names_the_trouble() {
    let mut story = Story::with_pool(1);
    story.cluster.add_session(session("s1"));
    for e in story.cluster.lists() {
        e.feed(&mut story.engine, story.cluster.now);
    }
    for _ in 0..700 {
        for c in story.engine.next(story.cluster.now) {
            let o = match &c.op {
                Op::Activate(_) => Outcome::Refused(paddock_core::RunnerFailure::Unavailable(
                    "runner at 10.0.0.1:7: token refused".into(),
                )),
                op => story.cluster.perform(op),
            };
            for f in story.engine.complete(c, o, story.cluster.now) {
                let o = story.cluster.perform(&f.op);
                story.engine.complete(f, o, story.cluster.now);
            }
        }
        story.cluster.now += SignedDuration::from_millis(500);
    }
    let s = story.status("s1");
    assert_eq!(s.phase, Phase::Failed);
    assert!(s.message.contains("token refused"), "{}", s.message);
}

/// A spec without phases: the agent is applied in time, its watch is late.
#[test]
fn what_is_missing_is_asked_for_before_failing() {
    let mut story = Story::empty();
    story.cluster.put_template(template("opencode"));
    story.cluster.add_agent(agent("coder"));
    story.cluster.add_session(session("s1"));
    // only the session's watch works
    Event::Session(Change::Applied(story.cluster.sessions[&key("s1")].clone()))
        .feed(&mut story.engine, story.cluster.now);
    let _ = story.engine.next(story.cluster.now);
    story.cluster.now += SignedDuration::from_secs(6);
    let commands = story.engine.next(story.cluster.now);
    let failed = commands.iter().any(|c| matches!(&c.op, Op::PatchSessionStatus(p) if p.after.status.as_ref().unwrap().phase == Phase::Failed));
    assert!(!failed, "Failed for good on a stale cache, without a read");
}

/// A pod that is only promised may be taken back; the turn would then be given to a second one.
#[test]
fn a_session_s_first_turn_waits_for_the_assignment() {
    let mut story = Story::with_pool(2);
    let mut s = session("s1");
    s.spec.prompt = Some("do it".into());
    story.cluster.add_session(s);
    story.settle();
    assert_eq!(story.phase("s1"), Phase::Ready);
    let step = |wanted: fn(&Op) -> bool| story.ops.iter().position(wanted).unwrap();
    let assigned = step(|op| matches!(op, Op::PatchSandbox(_)));
    let ready = step(|op| matches!(op, Op::PatchSessionStatus(_)));
    let given = step(|op| matches!(op, Op::Activate(a) if a.request.initial_turn.is_some()));
    assert!(assigned < given && given < ready, "{:#?}", story.ops);
    // The one beside the assignment, which may yet fail, brings nothing.
    let first = step(|op| matches!(op, Op::Activate(_)));
    assert_ne!(first, given, "{:#?}", story.ops);
}

/// An assignment that may have been made must not be forgotten for another sandbox. Found by `tests/model`.
#[test]
fn an_assignment_without_an_answer_is_asked_for() {
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("s1"));
    for event in story.cluster.lists() {
        event.feed(&mut story.engine, story.cluster.now);
    }
    for command in story.engine.next(story.cluster.now) {
        let mut outcome = story.cluster.perform(&command.op);
        if matches!(command.op, Op::PatchSandbox(_)) {
            outcome = Outcome::Failed(WriteFailure::Unavailable("timeout".into()));
        }
        story.engine.complete(command, outcome, story.cluster.now);
    }
    story.cluster.now += SignedDuration::from_secs(1);
    let next = story.engine.next(story.cluster.now);
    assert!(next.iter().any(|c| matches!(c.op, Op::Refresh(Refresh::Claims { .. }))), "{next:#?}");
}

/// An earlier leader may have assigned a sandbox that no watch of this one has shown.
#[test]
fn a_new_leader_asks_what_is_assigned_before_it_assigns() {
    let mut story = Story::with_pool(2);
    story.cluster.add_session(session("s1"));
    let lists = story.cluster.lists();
    // It adopts a sandbox and is gone; the next leader's lists are from before that.
    story.settle();
    story.cluster.now += SignedDuration::from_secs(1);
    let mut next = Engine::new(runner());
    for event in lists {
        event.feed(&mut next, story.cluster.now);
    }
    next.set_leading(true, story.cluster.now);
    let commands = next.next(story.cluster.now);
    let asks = commands.iter().any(|c| matches!(c.op, Op::Refresh(Refresh::Claims { .. })));
    let assigns = commands.iter().any(|c| matches!(c.op, Op::PatchSandbox(_) | Op::CreateSandbox(_)));
    assert!(asks && !assigns, "{commands:#?}");
}

/// The API server tells of a pod's scheduling gates in the very version that creates it, and there may be no other.
#[test]
fn a_gate_that_shows_in_the_version_we_wrote_is_seen() {
    let mut story = Story::with_pool(0);
    story.cluster.gated_templates.insert(labels::name_hash("opencode"));
    story.cluster.add_session(session("s1"));
    story.run_for(1);
    assert_eq!(story.status("s1").reason, Some(Reason::SchedulingGated));
}
