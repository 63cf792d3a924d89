//! What an operation's outcome teaches.
//!
//! A 409 or a 404 only proves that what we knew is stale: the answer is to go and look, never to give up an
//! assignment or to write again blindly.

use jiff::{SignedDuration, Timestamp};
use paddock_api::{Sandbox, Session};

use crate::engine::routing::Watched;
use crate::engine::{Command, Engine, Work};
use crate::ids::Key;
use crate::op::{Activation, Named, Op, Outcome, Refresh, Refreshed, RunnerFailure, Target, WriteFailure};
use crate::pod::Pod;
use crate::session::{Confirmed, LOOK_MIN, Observed, Progress, Refused};
use crate::store::{Stored, UNSEEN_LIMIT};

/// The longest Retry-After that is believed: deadlines must be looked at all the same.
const LONGEST_RETRY_AFTER: SignedDuration = SignedDuration::from_secs(60);

impl Engine {
    /// Takes the outcome in; returns what must be done before the object is decided on again.
    pub(super) fn learn(&mut self, command: &Command, outcome: Outcome, now: Timestamp) -> Vec<Op> {
        let work = &command.work;
        if matches!(
            outcome,
            Outcome::Written { .. } | Outcome::Deleted | Outcome::Activated(_) | Outcome::Activating(_)
        ) {
            self.forgive(work);
        }
        match outcome {
            Outcome::Written { uid, resource_version } => {
                if let (Work::Session(key), Op::PatchSandbox(_)) = (work, &command.op) {
                    self.sessions.entry(key.clone()).or_default().claimed_at.get_or_insert(now);
                }
                self.written(work, &command.op, &uid, &resource_version, now);
            }
            Outcome::Deleted => self.deleting(&command.op),
            Outcome::Refreshed(found) => self.refreshed(work, &command.op, found, now),
            Outcome::Activated(response) => {
                if let (Work::Session(key), Op::Activate(activation)) = (work, &command.op) {
                    let memory = self.sessions.entry(key.clone()).or_default();
                    memory.runner_trouble = None;
                    let has_prompt = activation.request.initial_turn.is_some();
                    memory.activation = Some(Confirmed {
                        pod_uid: activation.pod_uid.clone(),
                        response,
                        at: memory
                            .activation
                            .take()
                            .filter(|a| a.pod_uid == activation.pod_uid)
                            .map_or(now, |a| a.at),
                        has_prompt,
                    });
                }
            }
            Outcome::Activating(told) => {
                if let (Work::Session(key), Op::Activate(activation)) = (work, &command.op) {
                    let memory = self.sessions.entry(key.clone()).or_default();
                    memory.runner_trouble = None;
                    memory.progress =
                        Some(Progress { pod_uid: activation.pod_uid.clone(), step: told.step, at: now });
                }
            }
            Outcome::Activity(activity) => {
                if let (Work::Session(key), Op::ReadActivity(runner) | Op::Quiesce(runner, _)) =
                    (work, &command.op)
                {
                    let memory = self.sessions.entry(key.clone()).or_default();
                    memory.activity = Some(Observed { pod_uid: runner.pod_uid.clone(), activity, at: now });
                    memory.ask_now = false;
                }
            }
            Outcome::Refused(failure) => match (work, &command.op) {
                (Work::Session(key), Op::Activate(activation)) => {
                    self.not_activated(key, activation, failure, work, now);
                }
                // Whether it is idle can be asked again later; that costs nobody anything.
                (Work::Session(key), Op::ReadActivity(_) | Op::Quiesce(_, Some(_))) => {
                    let memory = self.sessions.entry(key.clone()).or_default();
                    memory.activity = memory.activity.take().filter(|_| failure != RunnerFailure::Busy);
                    memory.look_after = Some(now + LOOK_MIN);
                }
                _ => self.fail(work, now, None),
            },
            Outcome::Failed(failure) => return self.failed(work, &command.op, failure, now),
        }
        Vec::new()
    }

    fn not_activated(
        &mut self,
        key: &Key,
        activation: &Activation,
        failure: RunnerFailure,
        work: &Work,
        now: Timestamp,
    ) {
        let memory = self.sessions.entry(key.clone()).or_default();
        let pod_uid = activation.pod_uid.clone();
        match failure {
            RunnerFailure::Spoilt(why) => {
                memory.runner_trouble = Some(why);
                memory.refused = Some(Refused { pod_uid, rejected: None });
            }
            RunnerFailure::Rejected(why) => memory.refused = Some(Refused { pod_uid, rejected: Some(why) }),
            RunnerFailure::Failed(why) => memory.activation_failed = Some(why),
            RunnerFailure::Unavailable(why) => {
                memory.runner_trouble = Some(why);
                self.fail(work, now, None);
            }
            // No answer to an activation.
            RunnerFailure::Busy => self.fail(work, now, None),
        }
    }

    fn written(&mut self, work: &Work, op: &Op, uid: &str, version: &str, now: Timestamp) {
        match op {
            Op::CreateSandbox(sandbox) => {
                if let Work::Pool(pool) = work {
                    self.member_answered(pool, sandbox, true);
                }
                let mut sandbox = (**sandbox).clone();
                sandbox.metadata.creation_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
                self.put(sandbox, uid, version, now);
            }
            Op::PatchSandbox(patch) => {
                self.reserved.remove(&patch.target.key);
                self.put((*patch.after).clone(), uid, version, now);
            }
            Op::PatchSandboxStatus(patch) => self.put((*patch.after).clone(), uid, version, now),
            Op::CreatePod(pod) => {
                self.expect(pod.after.key(), now);
                let mut created = pod.after.clone();
                created.created = Some(now);
                self.put(created, uid, version, now);
                self.sandboxes.entry(pod.after.key()).or_default().rejected = None;
                self.pod_answered(&pod.after.key(), true);
            }
            Op::PatchPod(patch) => self.put((*patch.after).clone(), uid, version, now),
            Op::PatchSessionStatus(patch) => self.put((*patch.after).clone(), uid, version, now),
            // Nothing depends on this status.
            Op::PatchPoolStatus(patch) => {
                let mut pool = (*patch.after).clone();
                pool.stamp(uid, version);
                self.store.written(pool, now);
            }
            Op::PatchAgentStatus(patch) => self.put((*patch.after).clone(), uid, version, now),
            Op::PatchSession(patch) => self.put((*patch.after).clone(), uid, version, now),
            Op::CreateVolumeClaim(claim) => self.put(claim.after.clone(), uid, version, now),
            Op::PatchVolumeClaim(patch) => self.put((*patch.after).clone(), uid, version, now),
            Op::DeleteSandbox(_)
            | Op::DeletePod(_)
            | Op::DeleteSession(_)
            | Op::Activate(_)
            | Op::ReadActivity(_)
            | Op::Quiesce(..)
            | Op::Refresh(_) => {}
        }
    }

    /// Looks after a Sandbox or pod that we made or read until a watch has shown it.
    fn expect(&mut self, sandbox: Key, now: Timestamp) {
        self.unseen.push_back((now + UNSEEN_LIMIT, sandbox));
    }

    /// Takes an own write's result in.
    fn put<K: Watched>(&mut self, mut object: K, uid: &str, version: &str, now: Timestamp) {
        object.stamp(uid, version);
        let key = object.key();
        // What it was before may have concerned others: a pool whose member was adopted refills.
        K::touch(self, &key);
        self.store.written(object, now);
        K::touch(self, &key);
    }

    fn deleting(&mut self, op: &Op) {
        match op {
            Op::DeleteSandbox(target) => {
                self.touch_sandbox(&target.key);
                self.store.mark_deleting::<Sandbox>(&target.key, &target.uid);
            }
            Op::DeletePod(target) => {
                self.store.mark_deleting::<Pod>(&target.key, &target.uid);
                self.touch_sandbox(&target.key);
            }
            Op::DeleteSession(target) => {
                self.store.mark_deleting::<Session>(&target.key, &target.uid);
                self.touch_session(&target.key);
            }
            _ => {}
        }
    }

    fn failed(&mut self, work: &Work, op: &Op, failure: WriteFailure, now: Timestamp) -> Vec<Op> {
        match (op, work) {
            (Op::CreateSandbox(sandbox), Work::Pool(pool)) => self.member_answered(pool, sandbox, false),
            (Op::CreatePod(pod), _) => self.pod_answered(&pod.after.key(), false),
            _ => {}
        }
        match failure {
            WriteFailure::NotFound | WriteFailure::AlreadyExists | WriteFailure::Conflict => {
                self.stumble(work, now);
                return go_and_look(op).map(Op::Refresh).into_iter().collect();
            }
            WriteFailure::Throttled(millis) => {
                let pause = millis.and_then(|ms| i64::try_from(ms).ok()).map(SignedDuration::from_millis);
                let pause = pause.map(|pause| pause.min(LONGEST_RETRY_AFTER));
                self.fail(work, now, pause);
            }
            WriteFailure::Unavailable(_) => {
                if let (Op::PatchSandbox(_), Work::Session(key)) = (op, work) {
                    self.sessions.entry(key.clone()).or_default().assignment_unknown = true;
                }
                self.fail(work, now, None);
            }
            WriteFailure::Rejected { message, .. } => {
                match (op, work) {
                    (Op::CreatePod(pod), _) => {
                        let why = format!("the pod: {message}");
                        self.sandboxes.entry(pod.after.key()).or_default().rejected = Some(why);
                    }
                    (Op::CreateVolumeClaim(claim), Work::Sandbox(key)) => {
                        let why = format!("the volume claim {}: {message}", claim.after.name);
                        self.sandboxes.entry(key.clone()).or_default().rejected = Some(why);
                    }
                    (Op::CreateSandbox(_), Work::Session(key)) => {
                        self.sessions.entry(key.clone()).or_default().sandbox_rejected = Some(message);
                    }
                    (Op::PatchSandbox(_), Work::Session(key)) => {
                        let why = format!("the API server refuses to assign a sandbox: {message}");
                        self.sessions.entry(key.clone()).or_default().runner_trouble = Some(why);
                    }
                    _ => {}
                }
                self.fail(work, now, None);
            }
        }
        Vec::new()
    }

    fn refreshed(&mut self, work: &Work, op: &Op, found: Refreshed, now: Timestamp) {
        let Op::Refresh(asked) = op else { return };
        if let Work::Session(key) = work {
            self.answered(key, asked);
        }
        if let Refresh::Sandbox(asked) | Refresh::Pod(asked) = asked {
            self.expect(asked.key.clone(), now);
        }
        match (found, asked) {
            (Refreshed::Session(found), Refresh::Session(asked)) => self.settle(found, asked, now),
            (Refreshed::Sandbox(found), Refresh::Sandbox(asked)) => self.settle(found, asked, now),
            (Refreshed::Pod(found), Refresh::Pod(asked)) => self.settle(found, asked, now),
            (Refreshed::VolumeClaim(found), Refresh::VolumeClaim(asked)) => self.settle(found, asked, now),
            (Refreshed::Pool(found), Refresh::Pool(asked)) => self.settle(found, asked, now),
            (Refreshed::Agent(found), Refresh::Agent(asked)) => self.settle(found, asked, now),
            (Refreshed::Template(found), Refresh::Template(asked)) => self.settle(found, asked, now),
            (Refreshed::Claims(sandboxes), Refresh::Claims { .. }) => {
                for sandbox in sandboxes {
                    let key = Key::of(&sandbox.metadata);
                    self.found(sandbox, now);
                    self.expect(key, now);
                }
            }
            _ => {}
        }
    }

    /// Remembers that the API server itself was asked. Only an answer counts: a failed read proves nothing.
    fn answered(&mut self, session: &Key, asked: &Refresh) {
        let memory = self.sessions.entry(session.clone()).or_default();
        match asked {
            Refresh::Claims { .. } => {
                memory.claims_asked = true;
                memory.assignment_unknown = false;
            }
            Refresh::Pod(pod) => {
                memory.pod_asked.clone_from(&pod.uid);
                memory.asked_to_discard.answered();
            }
            Refresh::Agent(_) | Refresh::Pool(_) | Refresh::Template(_) => memory.missing_asked = true,
            Refresh::VolumeClaim(_) => memory.workspace_asked = true,
            Refresh::Session(_) => {
                memory.asked_to_discard.answered();
                memory.asked_for_later.answered();
            }
            Refresh::Sandbox(_) => {}
        }
    }

    fn settle<K: Watched>(&mut self, found: Option<Box<K>>, asked: &Named, now: Timestamp) {
        match (found, &asked.uid) {
            (Some(object), _) => self.found(*object, now),
            (None, Some(uid)) => self.forget::<K>(&asked.key, uid),
            (None, None) => {}
        }
    }
}

/// The read that tells what became of a write that met something unexpected.
fn go_and_look(op: &Op) -> Option<Refresh> {
    let target = |target: &Target| Named { key: target.key.clone(), uid: Some(target.uid.clone()) };
    let new = |key: Key| Named { key, uid: None };
    match op {
        Op::CreateSandbox(sandbox) => Some(Refresh::Sandbox(new(Key::of(&sandbox.metadata)))),
        Op::PatchSandbox(patch) | Op::PatchSandboxStatus(patch) => {
            Some(Refresh::Sandbox(target(&patch.target)))
        }
        Op::DeleteSandbox(gone) => Some(Refresh::Sandbox(target(gone))),
        Op::CreatePod(pod) => Some(Refresh::Pod(new(pod.after.key()))),
        Op::PatchPod(patch) => Some(Refresh::Pod(target(&patch.target))),
        Op::DeletePod(gone) => Some(Refresh::Pod(target(gone))),
        Op::PatchSessionStatus(patch) | Op::PatchSession(patch) => {
            Some(Refresh::Session(target(&patch.target)))
        }
        Op::DeleteSession(gone) => Some(Refresh::Session(target(gone))),
        Op::CreateVolumeClaim(claim) => Some(Refresh::VolumeClaim(new(claim.after.key()))),
        Op::PatchVolumeClaim(patch) => Some(Refresh::VolumeClaim(target(&patch.target))),
        Op::PatchPoolStatus(patch) => Some(Refresh::Pool(target(&patch.target))),
        Op::PatchAgentStatus(patch) => Some(Refresh::Agent(target(&patch.target))),
        Op::Activate(_) | Op::ReadActivity(_) | Op::Quiesce(..) | Op::Refresh(_) => None,
    }
}
