//! What an operation's outcome teaches.
//!
//! A 409 or a 404 only proves that what we knew is stale: the answer is to go and look, never to give up an
//! assignment or to write again blindly.

use jiff::{SignedDuration, Timestamp};

use crate::engine::{Command, Engine, Work};
use crate::ids::{Key, uid};
use crate::op::{Activation, ActivationFailure, Op, Outcome, Refresh, Refreshed, WriteFailure};
use crate::session::{Confirmed, Refused};
use crate::store::Stored;

impl Engine {
    /// Takes the outcome in; returns what must be done before the object is decided on again.
    pub(super) fn learn(&mut self, command: &Command, outcome: Outcome, now: Timestamp) -> Vec<Op> {
        let work = &command.work;
        match outcome {
            Outcome::Written { uid, resource_version } => {
                self.backoff.remove(work);
                if let (Work::Session(key), Op::PatchSandbox(_)) = (work, &command.op) {
                    self.sessions.entry(key.clone()).or_default().claimed_at.get_or_insert(now);
                }
                self.written(&command.op, &uid, &resource_version, now);
            }
            Outcome::Deleted => {
                self.backoff.remove(work);
                self.deleting(&command.op);
            }
            Outcome::Refreshed(found) => self.refreshed(work, &command.op, found),
            Outcome::Activated(response) => {
                if let (Work::Session(key), Op::Activate(activation)) = (work, &command.op) {
                    let memory = self.sessions.entry(key.clone()).or_default();
                    memory.runner_trouble = None;
                    memory.activation =
                        Some(Confirmed { pod_uid: activation.pod_uid.clone(), response, at: now });
                }
            }
            Outcome::NotActivated(failure) => {
                if let (Work::Session(key), Op::Activate(activation)) = (work, &command.op) {
                    self.not_activated(&key.clone(), activation, failure, work, now);
                }
            }
            Outcome::Failed(failure) => return self.failed(work, &command.op, failure, now),
        }
        Vec::new()
    }

    fn not_activated(
        &mut self,
        key: &Key,
        activation: &Activation,
        failure: ActivationFailure,
        work: &Work,
        now: Timestamp,
    ) {
        let memory = self.sessions.entry(key.clone()).or_default();
        let pod_uid = activation.pod_uid.clone();
        match failure {
            ActivationFailure::BoundToOther => memory.refused = Some(Refused { pod_uid, rejected: None }),
            ActivationFailure::Rejected(why) => {
                memory.refused = Some(Refused { pod_uid, rejected: Some(why) })
            }
            ActivationFailure::Unavailable(why) => {
                memory.runner_trouble = Some(why);
                self.fail(work, now, None);
            }
        }
    }

    fn written(&mut self, op: &Op, uid: &str, version: &str, now: Timestamp) {
        macro_rules! put {
            ($object:expr, $written:ident, $touch:ident) => {{
                let mut object = (*$object).clone();
                object.stamp(uid, version);
                let key = Stored::key(&object);
                // What it was before may have concerned others: a pool whose member was adopted refills.
                self.$touch(&key);
                self.store.$written(object, now);
                self.$touch(&key);
            }};
        }
        match op {
            Op::CreateSandbox(sandbox) => {
                let mut sandbox = (**sandbox).clone();
                sandbox.metadata.creation_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
                put!(&sandbox, sandbox_written, touch_sandbox);
            }
            Op::PatchSandbox(patch) => {
                self.reserved.remove(&patch.target.key);
                put!(&*patch.after, sandbox_written, touch_sandbox);
            }
            Op::PatchSandboxStatus(patch) => put!(&*patch.after, sandbox_written, touch_sandbox),
            Op::CreatePod(pod) => {
                let mut created = pod.after.clone();
                created.created = Some(now);
                put!(&created, pod_written, touch_sandbox);
                self.sandboxes.entry(pod.after.key()).or_default().pod_rejected = None;
            }
            Op::PatchPod(patch) => put!(&*patch.after, pod_written, touch_sandbox),
            Op::PatchSessionStatus(patch) => put!(&*patch.after, session_written, touch_session),
            Op::PatchPoolStatus(patch) => {
                let mut pool = (*patch.after).clone();
                pool.stamp(uid, version);
                self.store.pool_written(pool, now);
            }
            Op::PatchAgentStatus(patch) => {
                let mut agent = (*patch.after).clone();
                agent.stamp(uid, version);
                self.store.agent_written(agent, now);
            }
            Op::DeleteSandbox(_) | Op::DeletePod(_) | Op::Activate(_) | Op::Refresh(_) => {}
        }
    }

    fn deleting(&mut self, op: &Op) {
        match op {
            Op::DeleteSandbox(target) => {
                self.touch_sandbox(&target.key);
                self.store.sandbox_deleting(&target.key, &target.uid);
            }
            Op::DeletePod(target) => {
                self.store.pod_deleting(&target.key, &target.uid);
                self.touch_sandbox(&target.key);
            }
            _ => {}
        }
    }

    fn failed(&mut self, work: &Work, op: &Op, failure: WriteFailure, now: Timestamp) -> Vec<Op> {
        match failure {
            WriteFailure::NotFound | WriteFailure::AlreadyExists | WriteFailure::Conflict => {
                self.stumble(work, now);
                return go_and_look(op).map(Op::Refresh).into_iter().collect();
            }
            WriteFailure::Throttled(millis) => {
                let pause = millis.and_then(|ms| i64::try_from(ms).ok()).map(SignedDuration::from_millis);
                self.fail(work, now, pause);
            }
            WriteFailure::Unavailable(_) => self.fail(work, now, None),
            WriteFailure::Rejected { message, .. } => {
                match (op, work) {
                    (Op::CreatePod(pod), _) => {
                        self.sandboxes.entry(pod.after.key()).or_default().pod_rejected = Some(message);
                    }
                    (Op::CreateSandbox(_), Work::Session(key)) => {
                        self.sessions.entry(key.clone()).or_default().sandbox_rejected = Some(message);
                    }
                    _ => {}
                }
                self.fail(work, now, None);
            }
        }
        Vec::new()
    }

    fn refreshed(&mut self, work: &Work, op: &Op, found: Refreshed) {
        match (found, op) {
            (Refreshed::Session(Some(session)), _) => self.observe(*session),
            (Refreshed::Sandbox(Some(sandbox)), _) => self.observe(*sandbox),
            (Refreshed::Pod(Some(pod)), _) => self.observe(*pod),
            (Refreshed::Pool(Some(pool)), _) => self.observe(*pool),
            (Refreshed::Agent(Some(agent)), _) => self.observe(*agent),
            (Refreshed::Claims(sandboxes), _) => {
                for sandbox in sandboxes {
                    self.observe(sandbox);
                }
                if let Work::Session(key) = work {
                    self.sessions.entry(key.clone()).or_default().claims_asked = true;
                }
            }
            // Gone: what the store still has of it is older than this answer.
            (Refreshed::Session(None), Op::Refresh(Refresh::Session(key))) => {
                if let Some(gone) = self.store.sessions.get(key).map(|o| uid(&o.metadata).to_owned()) {
                    self.forget::<paddock_api::Session>(key, &gone);
                }
            }
            (Refreshed::Sandbox(None), Op::Refresh(Refresh::Sandbox(key))) => {
                if let Some(gone) = self.store.sandboxes.get(key).map(|o| uid(&o.metadata).to_owned()) {
                    self.forget::<paddock_api::Sandbox>(key, &gone);
                }
            }
            (Refreshed::Pod(None), Op::Refresh(Refresh::Pod(key))) => {
                if let Some(gone) = self.store.pods.get(key).map(|o| o.uid.clone()) {
                    self.forget::<crate::pod::Pod>(key, &gone);
                }
            }
            (Refreshed::Pool(None), Op::Refresh(Refresh::Pool(key))) => {
                if let Some(gone) = self.store.pools.get(key).map(|o| uid(&o.metadata).to_owned()) {
                    self.forget::<paddock_api::SandboxWarmPool>(key, &gone);
                }
            }
            (Refreshed::Agent(None), Op::Refresh(Refresh::Agent(key))) => {
                if let Some(gone) = self.store.agents.get(key).map(|o| uid(&o.metadata).to_owned()) {
                    self.forget::<paddock_api::Agent>(key, &gone);
                }
            }
            _ => {}
        }
    }
}

/// The read that tells what became of a write that met something unexpected.
fn go_and_look(op: &Op) -> Option<Refresh> {
    match op {
        Op::CreateSandbox(sandbox) => Some(Refresh::Sandbox(Key::of(&sandbox.metadata))),
        Op::PatchSandbox(patch) | Op::PatchSandboxStatus(patch) => {
            Some(Refresh::Sandbox(patch.target.key.clone()))
        }
        Op::DeleteSandbox(target) => Some(Refresh::Sandbox(target.key.clone())),
        Op::CreatePod(pod) => Some(Refresh::Pod(pod.after.key())),
        Op::PatchPod(patch) => Some(Refresh::Pod(patch.target.key.clone())),
        Op::DeletePod(target) => Some(Refresh::Pod(target.key.clone())),
        Op::PatchSessionStatus(patch) => Some(Refresh::Session(patch.target.key.clone())),
        Op::PatchPoolStatus(patch) => Some(Refresh::Pool(patch.target.key.clone())),
        Op::PatchAgentStatus(patch) => Some(Refresh::Agent(patch.target.key.clone())),
        Op::Activate(_) | Op::Refresh(_) => None,
    }
}
